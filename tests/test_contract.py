"""The data contract as people meet it: check, diff and infer at the command line, and evidence of earlier versions."""

import datetime as dt
import json
import re
import time

import numpy as np
import pandas as pd
import pytest
from house import ROOT, copy_workbench, failwb, failwb_here, said
from typer.testing import CliRunner

from failwb.cli import app
from failwb.lab.infer import draft_contract
from failwb.record.contract import load_contract
from failwb.record.errors import FailwbError
from failwb.record.tables import read_json, read_table

CONTRACT = (ROOT / "contract.yaml").read_text(encoding="utf-8")
REGIONS = ["centre", "east", "north", "south", "west"]
WRONG = "migrations: [{from: '1', to: '1.0', scale: {incone: 2}}]\n"
MISFIT = "migrations: [{from: '1', to: '1.0', fill: {term: long}}]\n"
ADDED = "owner: risk-models@bank.example"


def cli(*typed: object) -> tuple[int, str]:
    "Run a command in this process: exit code and output, as `main` ends; what is no `FailwbError` is a traceback."
    result = CliRunner().invoke(app, [str(o) for o in typed], env={"COLUMNS": "200", "NO_COLOR": "1"})
    if isinstance(result.exception, FailwbError):
        return 2, result.output + str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def edited(*edits: tuple[str, str]) -> str:
    "The sample's contract with some of its text replaced."
    text = CONTRACT
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


@pytest.fixture
def root(tmp_path):
    "The decisions of the sample, without its data."
    return copy_workbench(tmp_path / "bench")


def write(root, *edits):
    (root / "contract.yaml").write_text(edited(*edits), encoding="utf-8")


@pytest.mark.parametrize(
    "edits, code, level, says",
    [
        ([], 0, None, ""),
        ([(ADDED, "owner: TODO")], 1, "error", "nobody answers for it"),
        ([(ADDED, "owner: ''")], 1, "error", "nobody answers for it"),
        ([(ADDED, "owner: runner")], 0, "warning", "account of a machine"),
        ([("review_by: '2027-01-31'", "review_by: soon")], 1, "error", "is no date"),
        ([("review_by: '2027-01-31'", "review_by: '2020-01-31'")], 0, "warning", "its review was due on 2020-01-31"),
        ([("    unit: EUR/year\n", "")], 0, "warning", "a number without a unit"),
        ([("    description: gross yearly income\n", "")], 0, "warning", "no description"),
        ([("    - " + "\n    - ".join(REGIONS), "    - north")], 0, "warning", "a list of 1"),
        ([("300.0", "1"), ("1200.0", "1")], 0, "warning", "all costs are 1"),
        ([("k_anonymity: 10", "k_anonymity: 1")], 1, "error", "a single subject"),
        ([("    type: integer\n    role: quasi\n", "    type: integer\n")], 0, "warning", "its role is plain"),
        ([("- channel\n", "- channel\n- income\n")], 0, "warning", "a segment without a fixed list"),
        ([("target: outcome", "target: purpose")], 1, "error", "the target is among the fields"),
        ([("version: '1.0'", "version: '1 0'")], 1, "error", "cannot name an entry of the ledger"),
        ([("version: '1.0'", "version: 1.0")], 1, "error", "quote it"),
        ([("  term:\n", "  amount:\n")], 1, "error", "stands twice"),
        ([("minimum: 100.0", "minimum: low")], 1, "error", "columns.amount.minimum"),
        ([("task: binary", "task: [")], 1, "error", "is not YAML"),
        ([("name: loans", "1: 2\nname: loans")], 1, "error", "Keys should be strings"),
        ([("columns:\n", f"{WRONG}columns:\n")], 1, "error", "names incone"),
        ([("columns:\n", f"{MISFIT}columns:\n")], 1, "error", "fills term with 'long', which is no integer"),
    ],
    ids=lambda o: (o[0][1].strip() or "removed")[:30] if isinstance(o, list) and o else None,
)  # fmt: skip
def test_check_objects_as_a_reviewer_would(root, edits, code, level, says):
    write(root, *edits)
    found, text = cli("contract", "check", "-C", root, "--json")
    report = json.loads(text)
    assert found == code, text
    assert [f for f in report["findings"] if f["level"] == level and says in f["what"] and f["do"]] or level is None
    assert report["errors"] == sum(f["level"] == "error" for f in report["findings"])
    assert (report["errors"] > 0) == (code == 1)
    shown = cli("contract", "check", "-C", root)
    assert shown[0] == code and re.search(r"^\*\*.+\*\*$", shown[1], re.M)


def test_check_counts_the_traffic(bench, out):
    root = bench("data")
    write(root, ("maximum: 110.0", "maximum: 60.0"), ("    - west\n", "    - west\n    - mars\n"))
    report = json.loads(failwb_here("contract", "check", "--json", cwd=root).stdout)
    traffic, known = report["traffic"], read_json(out / "validate/summary.json")
    assert traffic["events"] == known["events"] and traffic["passed"] < known["passed"]
    assert traffic["fields"][0]["field"] == "age" and "above the maximum" in traffic["fields"][0]["reasons"]
    objections = {(f["field"], f["what"].split(":")[0].split(" rows")[0]) for f in report["findings"]}
    assert ("region", "never seen, in training or in traffic") in objections
    assert any(field == "age" and "of" in what for field, what in objections), objections
    assert "pass under it: age stops" in said(failwb_here("contract", "check", cwd=root))


TERM = "    minimum: 6.0\n    maximum: 120.0\n    unit: months\n"
RENAMED = "migrations: [{from: '1.0', to: '2', rename: {debt_ratio: debts}}]\n"
SECTOR = "  sector:\n    type: text\n    description: of the employer\n"
CHANGES = [
    ([("gross yearly income", "yearly income before tax")], "compatible", 0),
    ([(ADDED, "owner: somebody@bank.example")], "compatible", 0),
    ([("minimum: 100.0", "minimum: 50.0")], "compatible", 0),
    ([("minimum: 100.0", "minimum: 900.0")], "narrowing", 0),
    ([("    - other\n", "")], "narrowing", 0),
    ([("unit: EUR/year", "unit: kEUR/year")], "breaking", 1),
    ([("  term:\n    type: integer\n" + TERM, "  term:\n    type: text\n")], "breaking", 1),
    ([("target: outcome", "target: result")], "breaking", 1),
    ([("positive: default", "positive: bad")], "breaking", 1),
    ([("  debt_ratio:", "  debts:")], "breaking", 2),
    ([("  debt_ratio:", "  debts:"), ("columns:\n", f"{RENAMED}columns:\n")], "breaking", 0),
    ([("columns:\n", f"columns:\n{SECTOR}    required: false\n")], "compatible", 0),
    ([("columns:\n", f"columns:\n{SECTOR}")], "breaking", 1),
]  # fmt: skip


@pytest.mark.parametrize("edits, kind, needs", CHANGES)
def test_diff_says_what_a_change_means(root, edits, kind, needs):
    assert cli("contract", "record", "-C", root)[0] == 0
    write(root, *edits, ("version: '1.0'", "version: '2'"))
    code, text = cli("contract", "diff", "-C", root, "--json")
    report = json.loads(text)
    assert code == 0 and report["changes"][0]["kind"] == kind and report["open"] == needs
    assert bool(report["migration"]) == bool(needs) and (not needs or '"1.0"' in report["migration"])
    shown = cli("contract", "diff", "-C", root)[1]
    assert shown.startswith("# Contract loans: 1.0 → 2\n") and kind in shown
    errors = json.loads(cli("contract", "check", "-C", root, "--json")[1])
    assert any("no migration" in f["what"] for f in errors["findings"]) == bool(needs)


def test_a_change_without_a_new_version_is_an_error_of_check_and_stops_collect(root):
    assert cli("contract", "record", "-C", root)[0] == 0
    write(root, ("gross yearly income", "net yearly income"))
    assert cli("contract", "check", "-C", root)[0] == 1
    assert "The version was not raised" in cli("contract", "diff", "-C", root)[1]
    for typed in (["contract", "record"], ["collect"]):
        code, text = cli(*typed, "-C", root)
        assert code == 2 and "raise `version`" in text
    (root / "contract.yaml").write_text(CONTRACT + "# a comment changes nothing\n")
    assert cli("contract", "check", "-C", root)[0] == 0


def test_diff_counts_the_events_that_a_narrower_contract_would_stop(bench):
    root = bench("data")
    write(root, ("minimum: 100.0", "minimum: 5000.0"), ("version: '1.0'", "version: '2'"))
    (root / "old.yaml").write_text(CONTRACT)
    result = failwb_here("contract", "diff", "old.yaml", "--json", cwd=root)
    report = json.loads(result.stdout)
    amounts = pd.concat([read_table(p) for p in sorted((ROOT / "data/segments").glob("events-*"))])["x.amount"]
    (change,) = report["changes"]
    assert (change["field"], change["kind"]) == ("amount", "narrowing")
    assert 0 < change["events"] == report["evidence"]["quarantined_now"] <= int((amounts < 5000).sum())


@pytest.mark.parametrize(
    "typed, says",
    [
        (["contract", "diff"], "No version of the contract is recorded yet"),
        (["contract", "diff", "none.yaml"], "neither a file nor a recorded version"),
        (["contract", "record", "--file", "none.yaml"], "There is no contract at"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_a_message(root, typed, says):
    code, text = cli(*typed, "-C", root)
    assert code == 2 and says in text


def test_two_files_can_be_compared_outside_a_workbench(tmp_path):
    (tmp_path / "a.yaml").write_text(CONTRACT)
    (tmp_path / "b.yaml").write_text(edited(("version: '1.0'", "version: '1.1'"), ("unit: EUR/year", "unit: USD/year")))
    result = failwb("contract", "diff", "a.yaml", "b.yaml", cwd=tmp_path)
    assert result.returncode == 0 and "breaking (open) | income | unit EUR/year → USD/year" in result.stdout
    alone = failwb("contract", "diff", cwd=tmp_path)
    assert alone.returncode == 2 and "name two files" in said(alone) and "Traceback" not in alone.stderr


N = 400
RNG = np.random.default_rng(0)
TABLES = {
    "dates": ({"day": [f"2026-01-{1 + i % 28:02d}" for i in range(N)]}, "day", "--time"),
    "clock": ({"created_at": 1_750_000_000 + np.arange(N)}, "created_at", "--time"),
    "mixed": ({"sum": ["unknown" if i % 9 == 0 else str(i) for i in range(N)]}, "sum", "words in the others"),
    "infinite": ({"ratio": [np.inf if i < 5 else i / 7 for i in range(N)]}, "ratio", "infinite in 5 rows"),
    "nothing": ({"empty": [None] * N}, "empty", "holds no value"),
    "constant": ({"same": ["EUR"] * N}, "same", "the same value in every row"),
    "levels": ({"shop": [f"s{i % 390}" for i in range(N)]}, "shop", "390 different texts"),
    "emoji": ({"größe 🙂": ["klein", "groß"] * (N // 2)}, "größe 🙂", "seen 2 categories"),
    "long name": ({"n" * 300: RNG.random(N)}, "n" * 300, "seen 0"),
    "line ends": ({"note": ["a\nb", "c # d: [", "e"] * (N // 3) + ["e"]}, "note", "seen 3 categories"),
    "ours": ({n: RNG.random(N) for n in ("label", "event_id", "x.a", "weight", "row")}, "event_id", "seen 0"),
    "unit": ({"price_eur": RNG.random(N), "temp_c": RNG.normal(size=N)}, "temp_c", "unit °C from its name"),
    "comma": ({"price": [f"{i % 90},50" for i in range(N)]}, "price", "decimal comma"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_infer_has_a_field_or_a_reason_for_every_column(tmp_path, kind, suffix):
    columns, name, says = TABLES[kind]
    table = pd.DataFrame(columns | {"other": RNG.random(N), "y": ["yes", "no"] * (N // 2)})
    path = tmp_path / f"t.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    code, text = cli("contract", "infer", path, "--label", "y", "--json")
    report = json.loads(text)
    assert code == 0 and set(report["contract"]["columns"]) | set(report["left_out"]) == {*columns, "other"}
    assert says in (report["remarks"] | report["left_out"])[name]
    assert cli("contract", "infer", path, "--label", "y", "--out", tmp_path / "drafted.yaml")[0] == 0
    assert sorted(load_contract(tmp_path / "drafted.yaml").features) == sorted(report["contract"]["columns"])
    assert says in (tmp_path / "drafted.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content, says",
    [
        ("a, a,y\n1,2,yes\n3,4,no\n", "two columns named a"),
        ("a,yy\n1,2\n", "Did you mean 'yy'"),
        ("email,y\nx,1\nz,2\n", "No column of the table can be a feature: email"),
        ("a,y\n1,yes\n2,\n", "missing in 1 of 2 rows"),
        ("", "cannot be read as a table"),
        ("a,y\n", "has no rows"),
    ],
    ids=["twice", "no label", "only a person", "a gap", "empty", "no rows"],
)
def test_infer_has_one_clear_error(tmp_path, content, says):
    (tmp_path / "t.csv").write_text(content)
    code, text = cli("contract", "infer", tmp_path / "t.csv", "--label", "y")
    assert code == 2 and says in text, text


def test_infer_against_a_contract_and_into_a_new_file(tmp_path):
    path = tmp_path / "loans.csv"
    table = pd.DataFrame(
        {"income": RNG.normal(1, 5, N), "rooms": RNG.integers(1, 6, N), "region": ["north", "mars"] * (N // 2)}
    )
    table.assign(outcome=["default", "repaid"] * (N // 2)).to_csv(path, index=False)
    asked = ["contract", "infer", path, "--label", "outcome", "--against", ROOT / "contract.yaml"]
    code, text = cli(*asked, "--json")
    report = json.loads(text)
    assert code == 0 and {"income", "region", "rooms"} == {c["field"] for c in report["changes"]}
    assert report["remarks"]["age"] == "the table has no such column"
    assert "new categories 'mars'" in cli(*asked)[1]
    (tmp_path / "there.yaml").write_text("mine")
    code, text = cli("contract", "infer", path, "--label", "outcome", "--out", tmp_path / "there.yaml")
    assert code == 2 and "choose another name" in text and (tmp_path / "there.yaml").read_text() == "mine"


def test_a_wide_table_is_drafted_in_seconds():
    rng, n = np.random.default_rng(1), 20_000
    names, days = rng.integers(0, 10_000, n), rng.integers(1, 28, n)
    kinds = (
        rng.normal(size=n),
        days,
        rng.choice(["a", "b"], n),
        [f"t{i}" for i in names],
        [f"2026-01-{i:02d}" for i in days],
    )
    table = pd.DataFrame({f"c{i}": kinds[i % 5] for i in range(500)}).assign(y=rng.choice(["yes", "no"], n))
    start = time.process_time()
    target = {"task": "binary", "positive": "yes", "negative": "no"}
    draft = draft_contract(table, "y", target, [], "wide", "you", dt.date(2026, 1, 1))
    assert time.process_time() - start < 10
    assert (len(draft.contract.columns), len(draft.left_out)) == (300, 200)


RENAME = """migrations:
  - from: '1.0'
    to: '2.0'
    rename: {income: salary, outcome: result}
    scale: {salary: 0.001}
    map: {region: {centre: middle}, result: {default: bad}}
    fill: {country: XX}
"""
COUNTRY = (
    "  country:\n    type: category\n    role: quasi\n    categories: [XX, YY]\n    description: of the applicant\n"
)


def second_version(migrations: str = RENAME) -> list[tuple[str, str]]:
    "The edits that make version 2.0: another name and unit, category, target and class; a new field."
    return [
        ("version: '1.0'", "version: '2.0'"),
        ("  income:\n", "  salary:\n"),
        ("EUR/year", "kEUR/year"),
        ("- centre", "- middle"),
        ("target: outcome", "target: result"),
        ("positive: default", "positive: bad"),
        ("columns:\n", f"{migrations}columns:\n{COUNTRY}"),
    ]


def test_old_evidence_is_read_under_its_version_and_migrated(bench, out):
    root = bench("data")
    assert failwb_here("contract", "record", cwd=root).returncode == 0
    write(root, *second_version())
    check = failwb_here("contract", "check", "--json", cwd=root)
    report = json.loads(check.stdout)
    assert check.returncode == 0 and "no checkpoint can answer" in check.stdout, check.stdout
    result = failwb_here("validate", "--json", cwd=root)
    assert result.returncode == 0, said(result)
    summary, before = json.loads(result.stdout), read_json(out / "validate/summary.json")
    assert summary["migrated"] == {"1.0": before["passed"]} == report["traffic"]["migrated"]
    assert all(summary[k] == before[k] for k in ("events", "passed", "quarantined", "breaches", "labels"))
    old, new = read_table(out / "validate/events.parquet"), read_table(root / "out/validate/events.parquet")
    assert np.allclose(new["x.salary"], old["x.income"] / 1000, equal_nan=True) and set(new["x.country"]) == {"XX"}
    assert (new["x.region"] == "middle").sum() == (old["x.region"] == "centre").sum() > 0
    assert set(read_table(root / "out/validate/labels.parquet")["label"]) == {"bad", "repaid"}
    assert "default" not in set(new["prediction"])
    drift = {(d["field"], d["change"]): d["events"] for d in read_json(root / "out/validate/schema_drift.json")}
    assert drift["salary", "migrated from 1.0: times 0.001"] == before["passed"]
    for verb in ("detect", "split"):
        assert failwb_here(verb, cwd=root).returncode == 0
    stopped = failwb("enrich", cwd=root)
    assert stopped.returncode == 2 and "takes 'income'" in said(stopped) and "Traceback" not in stopped.stderr


def test_a_missing_migration_names_both_versions_and_the_fields(bench):
    root = bench("data")
    assert failwb_here("contract", "record", cwd=root).returncode == 0
    write(root, *second_version(""))
    for typed in (["validate"], ["contract", "check"]):
        result = failwb_here(*typed, cwd=root)
        assert result.returncode == (2 if typed == ["validate"] else 1) and "Traceback" not in result.stderr
        named = r"no migration from '1.0' to '2.0' says how to read [\w, ]*country, income[\w, ]*salary"
        assert re.search(named, said(result)), said(result)
    drafted = failwb_here("contract", "diff", cwd=root).stdout
    assert '"income": "salary"' in drafted and '"salary": "?"' in drafted and '"default": "bad"' in drafted
