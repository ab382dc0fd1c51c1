"""Two workbenches with one fault know each other again and what helped; others do not. Some things may not be taken."""

import json
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import crowd
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from house import failwb_here, run, said
from hypothesis import given, settings
from hypothesis import strategies as st

from failwb.discover.exchange import as_dict, parse_findings
from failwb.discover.similar import Signature, similarity
from failwb.lab.init import init
from failwb.models.train import fit, make_pipeline
from failwb.publish.known import renames_of
from failwb.record.contract import Contract
from failwb.record.records import Literal
from failwb.record.tables import read_json, write_json
from failwb.remedy.rounds import close_round, seal
from failwb.workbench import STAGES, Workbench, load_stage, run_stage

# -- the measure

CATEGORIES = ("label-noise", "concept-drift", None)
NUMBERS = st.sampled_from([-5.0, 0.0, 1.5, 40.0])
ONE = st.one_of(
    st.builds(
        lambda f, v: Literal(f, "==", v), st.sampled_from(["region", "Channel"]), st.sampled_from(["north", "web"])
    ),
    st.builds(
        lambda low, more: Literal("income", "in", low=low, high=low + more), NUMBERS, st.sampled_from([1.0, 50.0])
    ),
    st.just(Literal("income", "missing")),
)
SIGNATURES = st.builds(
    lambda rule, cause, low, width: Signature([o.to_dict() for o in rule], cause, "misprediction", low, low + width),
    st.lists(ONE, max_size=3, unique_by=lambda o: o.feature),
    st.sampled_from(CATEGORIES),
    st.sampled_from([0.05, 0.2, 0.5]),
    st.sampled_from([0.01, 0.2]),
)


def population() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "region": rng.choice(["north", "south"], 400), "channel": rng.choice(["web", "branch"], 400),
        "income": np.where(rng.random(400) < 0.1, np.nan, rng.normal(20, 20, 400)),
    })  # fmt: skip


ROWS = population()


@settings(max_examples=150, deadline=None)
@given(SIGNATURES, SIGNATURES, st.booleans())
def test_it_is_symmetric_in_0_to_1_and_1_for_itself(a, b, with_rows):
    X = ROWS if with_rows else None
    there, back = similarity(a, b, X), similarity(b, a, X)
    assert there == back
    assert 0.0 <= there["score"] <= 1.0 and all(p is None or 0.0 <= p <= 1.0 for p in there["parts"].values())
    assert similarity(a, a, X)["score"] == 1.0


@pytest.mark.parametrize("bounds", [{}, {"income": (-50.0, 100.0)}], ids=["open", "bounded"])
@pytest.mark.parametrize("X", [None, ROWS], ids=["no rows", "rows"])
def test_the_more_two_ranges_overlap_the_more_they_are_alike(bounds, X):
    still = Signature([Literal("income", "in", low=0.0, high=20.0).to_dict()])
    moved = [
        Signature([Literal("income", "in", low=s, high=20.0 + s).to_dict()]) for s in (0.0, 2.0, 5.0, 12.0, 19.0, 40.0)
    ]
    scores = [similarity(still, m, X, bounds)["score"] for m in moved]
    assert scores[0] == 1.0 and scores[-1] == 0.0
    assert all(a > b for a, b in pairwise(scores))


@pytest.mark.parametrize("part, worse", [
    ("cause", {"cause": "concept-drift"}), ("symptom", {"symptom": "latency"}), ("effect", {"low": 0.1, "high": 0.2}),
])  # fmt: skip
def test_each_part_that_differs_costs_something(part, worse):
    full = {"cause": "label-noise", "symptom": "misprediction", "low": 0.4, "high": 0.5}
    rule = [Literal("region", "==", "north").to_dict()]
    found = similarity(Signature(rule, **full), Signature(rule, **full | worse))
    assert found["score"] < 1.0 and [n for n, p in found["parts"].items() if p is not None and p < 1.0] == [part]
    unknown = similarity(Signature(rule, **full), Signature(rule, **full | dict.fromkeys(worse)))
    assert unknown["score"] == 1.0 and unknown["parts"][part] is None  # what nobody knows is not counted against it


def test_a_renamed_column_is_known_by_the_contracts_migration_and_by_nothing_else():
    contract = Contract.model_validate({
        "name": "a", "version": "3", "owner": "ada", "review_by": "2027-01-01",
        "target": "y", "positive": "1", "negative": "0", "columns": {"sales_region": {"type": "category"}},
        "migrations": [
            {"from": "1", "to": "2", "rename": {"area": "region"}},
            {"from": "2", "to": "3", "rename": {"region": "sales_region"}},
        ],
    })  # fmt: skip
    old, new = (Signature([Literal(f, "==", "north").to_dict()]) for f in ("area", "sales_region"))
    X = pd.DataFrame({"sales_region": ["north", "south", "north"]})
    assert similarity(old, new, X, renames=renames_of(contract))["parts"] | {"cause": 0} == {
        "rule": 1.0,
        "members": 1.0,
        "cause": 0,
        "effect": None,
        "symptom": None,
    }
    assert similarity(old, new, X)["parts"]["rule"] == 0.0


# -- two workbenches

TEAMS = {
    "home": ("units", 1, ("left", "yes", "no")),
    "berlin": ("units", 11, ("gone", "went", "stays")),
    "oslo": ("mood", 21, ("churned", "1", "0")),
}


def table(rows: int, seed: int, fault: str, label: str, yes: str, no: str) -> pd.DataFrame:
    "Customers who leave when they spend little. `units`: every fourth in cents; `mood`: frequent visitors differ."
    rng = np.random.default_rng(seed)
    found = pd.DataFrame(
        {
            "spent": rng.gamma(2, 50, rows).round(2),
            "visits": rng.integers(0, 30, rows),
            "branch": rng.choice(["a", "b", "c", "d"], rows),
        }
    )
    leaves = (found["spent"] < 60) ^ (rng.random(rows) < 0.03)
    if fault == "units":
        found["spent"] = found["spent"].where(rng.random(rows) < 0.75, found["spent"] * 100)
    if fault == "mood":
        leaves = np.where(found["visits"] >= 20, found["spent"] > 60, leaves)
    return found.assign(**{label: np.where(leaves, yes, no)})


def turn(root: Path) -> None:
    "Go once round the loop in this process, as `failwb run` does with DVC."
    wb = Workbench.find(root)

    def stages(*verbs: str) -> None:
        for verb in verbs:
            run_stage(wb, load_stage(verb))

    order = list(STAGES)
    stages(*order[: order.index("propose") + 1])
    seal(wb)
    stages("experiment", "gate")
    close_round(wb)
    stages("propose", "catalog", "map", "document")


def make(home: Path, name: str, fault: str, seed: int, naming: tuple[str, str, str]) -> Path:
    "Train a model on sound rows, let it answer faulty ones in a workbench of its own, and go round the loop."
    taught, served = table(1500, seed, "none", *naming), table(2600, seed + 1, fault, *naming)
    label, yes, _ = naming
    features = [c for c in taught if c != label]
    model = fit(
        make_pipeline(["spent", "visits"], ["branch"], seed=seed, max_iter=30),
        taught[features],
        taught[label] == yes,
        None,
    )
    folder = home / name
    folder.mkdir()
    skops.io.dump(model, folder / "model.skops")
    taught.to_csv(folder / "taught.csv", index=False)
    served.to_csv(folder / f"{name}.csv", index=False)
    told = {"owner": "ada", "positive": yes, "model": str(folder / "model.skops"), "train_rows": folder / "taught.csv"}
    init(folder / "wb", folder / f"{name}.csv", label, **told)
    turn(folder / "wb")
    return folder / "wb"


@dataclass(frozen=True)
class Teams:
    "Three workbenches, copied for each test that writes."

    home: Path

    def copies(self, to: Path, *names: str) -> list[Path]:
        return [Path(shutil.copytree(self.home / name / "wb", to / name)) for name in names]


@pytest.fixture(scope="module")
def teams(tmp_path_factory) -> Teams:
    home = tmp_path_factory.mktemp("teams")
    for name, (fault, seed, naming) in TEAMS.items():
        make(home, name, fault, seed, naming)
    return Teams(home)


def take(root: Path, source: Path, name: str, code: int = 0) -> dict:
    "Import by the command, and return what it says."
    result = failwb_here("import-catalog", source, "--as", name, "-C", root, "--json")
    assert result.returncode == code and "Traceback" not in result.stderr, said(result)
    return json.loads(result.stdout) if code == 0 else {"says": said(result)}


def similar(root: Path) -> list[dict]:
    "Tell the site anew; return the similar patterns of all patterns."
    run_stage(Workbench.find(root), load_stage("document"))
    return [m for matches in read_json(root / "out/document/similar.json").values() for m in matches]


def test_two_models_with_one_fault_know_each_other_and_what_helped(teams, tmp_path):
    home, berlin = teams.copies(tmp_path, "home", "berlin")
    assert take(home, berlin, "berlin")["adopted"] == take(berlin, home, "home")["adopted"] == 1
    [there], [back] = similar(home), similar(berlin)
    assert (
        min(there["score"], back["score"]) > 0.8 and abs(there["score"] - back["score"]) < 0.01
    )  # each on its own rows
    assert there["parts"]["cause"] == back["parts"]["cause"] == 1.0 and there["cause"] == "invalid-range-or-unit"
    assert [(t["remedy"], t["verdict"]) for t in there["tried"]] == [("unit_fix", "adopt")]
    assert (there["model"], back["model"]) == ("berlin", "home") and {"workbench", "model"} <= set(there["differs"])
    [page] = [p for p in (home / "out/document/patterns").glob("*.html") if p.name != "index.html"]
    text = page.read_text(encoding="utf-8")
    assert "Seen before, and elsewhere" in text and "Unit fix: adopt" in text
    assert "Tried there: Unit fix: adopt" in failwb_here("summary", "-C", home).stdout
    import failwb as lab

    assert "berlin" in repr(lab.open(home).patterns[0].similar())


def test_two_different_faults_are_strangers(teams, tmp_path):
    home, oslo = teams.copies(tmp_path, "home", "oslo")
    take(oslo, home, "home")
    assert similar(oslo) == []
    import failwb as lab

    assert "No similar pattern" in repr(lab.open(oslo).patterns[0].similar())


def contents(root: Path, *folders: str) -> dict[str, bytes]:
    files = [p for folder in folders for p in (root / folder).rglob("*") if p.is_file()]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def test_an_import_moves_no_plan_no_alpha_and_no_verdict_of_a_sealed_round(teams, tmp_path):
    home, berlin = teams.copies(tmp_path, "home", "berlin")
    before = contents(home, "out/propose", "out/gate")
    take(home, berlin, "berlin")
    wb = Workbench.find(home)
    for verb in ("propose", "gate", "document"):
        run_stage(wb, load_stage(verb))
    assert contents(home, "out/propose", "out/gate") == before
    told = contents(home, "out/document")
    run_stage(wb, load_stage("document"))
    assert contents(home, "out/document") == told  # the second run gives the same bytes


def test_what_is_imported_before_the_first_seal_is_learnt_and_named_by_it(teams, tmp_path):
    home, berlin = teams.copies(tmp_path, "home", "berlin")
    for kind in ("seals", "plans", "rounds"):
        shutil.rmtree(home / "ledger" / kind)
    planned = next(r for r in read_json(home / "out/propose/remedies.json") if r["decision"] == "plan")
    [told] = read_json(berlin / "out/document/findings.json")["patterns"]
    lesson = told["tried"][0] | {k: planned[k] for k in ("remedy", "cause")}  # there it was this remedy that worked
    take(home, edited(patterns=[told | {"tried": [lesson]}])(berlin), "berlin")
    wb = Workbench.find(home)
    run_stage(wb, load_stage("propose"))
    found = next(r for r in read_json(home / "out/propose/remedies.json") if r["decision"] == "plan")
    assert (planned["prior"], found["prior"]) == (0.5, pytest.approx(2 / 3))
    assert {k: found[k] for k in ("remedy", "effect", "power")} == {
        k: planned[k] for k in ("remedy", "effect", "power")
    }
    assert seal(wb)["round"] == 1 and wb.ledger.get("seals", "round-1")["body"]["learnt"] == ["berlin-00001"]
    plans = contents(home, "out/propose")
    newer = read_json(berlin / "out/document/findings.json") | {"as_of": "2099-01-01T00:00:00+00:00", "patterns": []}
    write_json(newer, berlin / "out/document/findings.json")
    assert take(home, berlin, "berlin")["supersedes"] == "berlin-00001"
    run_stage(wb, load_stage("propose"))
    assert contents(home, "out/propose") == plans  # news do not unsettle a sealed round


def test_nothing_private_leaves(teams):
    text = (teams.home / "home/wb/out/document/findings.json").read_text(encoding="utf-8")
    events = pd.read_parquet(teams.home / "home/wb/out/split/open.parquet")
    assert not [s for s in {*events["subject"].dropna().astype(str), *events["event_id"]} if s in text]
    told = parse_findings(text, "findings.json")
    assert {p.units >= told.k_anonymity for p in told.patterns} == {True}
    assert json.loads(text) == as_dict(told)


# -- what is refused


def edited(**changes):
    "Change what a workbench has published."

    def change(source: Path) -> Path:
        path = source / "out/document/findings.json"
        write_json(read_json(path) | changes, path)
        return source

    return change


def removed(name: str):
    def change(source: Path) -> Path:
        path = source / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return source

    return change


def written(content: bytes):
    def change(source: Path) -> Path:
        (source / "out/document/findings.json").write_bytes(content)
        return source

    return change


@pytest.mark.parametrize("change, says", [
    (lambda s: s / "nowhere", "There is nothing at"),
    (lambda s: s / "ledger", "is no workbench"),
    (removed("out"), "was never run here"),
    (removed("out/document/findings.json"), "an older failwb made it"),
    (edited(schema=2), "has version 2 of the form, and this failwb reads version 1"),
    (edited(kind="other"), "holds no findings of failwb"),
    (edited(rows=[1]), "rows: Extra inputs"),
    (edited(patterns=[{"id": "x"}]), "patterns.0"),
    (written(b"{"), "is no JSON"),
    (written(b"\xff\xfe"), "cannot be read"),
    (lambda s: s.parent / "home", "this very workbench"),
    (lambda s: shutil.copytree(s.parent / "home", s.parent / "a clone"), "or of a clone of it"),
])  # fmt: skip
def test_what_may_not_be_taken_is_a_message_and_leaves_the_ledger_alone(teams, tmp_path, change, says):
    home, berlin = teams.copies(tmp_path, "home", "berlin")
    before = contents(home, "ledger")
    assert says in take(home, change(berlin), "berlin", code=2)["says"]
    assert contents(home, "ledger") == before


def test_the_same_twice_is_a_no_op_a_newer_one_supersedes_an_older_one_is_refused(teams, tmp_path):
    home, berlin = teams.copies(tmp_path, "home", "berlin")
    assert take(home, berlin, "berlin")["new"]
    before = contents(home, "ledger")
    assert not take(home, berlin / "out/document", "berlin")["new"]  # the site alone says the same
    assert contents(home, "ledger") == before
    assert "already, as 'berlin'" in take(home, berlin, "other", code=2)["says"]
    assert "are newer" in take(home, edited(as_of="2000-01-01")(berlin), "berlin", code=2)["says"]
    newer = take(home, edited(as_of="2099-01-01")(berlin), "berlin")
    assert (newer["entry"], newer["supersedes"]) == ("berlin-00002", "berlin-00001")
    assert before.items() <= contents(home, "ledger").items()  # nothing was rewritten


def test_a_field_that_is_sensitive_here_does_not_come_in(teams, tmp_path):
    home, berlin = teams.copies(tmp_path, "home", "berlin")
    contract = yaml.safe_load((home / "contract.yaml").read_text(encoding="utf-8"))
    contract["columns"]["spent"]["role"] = "sensitive"
    (home / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False), encoding="utf-8")
    report = take(home, berlin, "berlin")
    assert report["patterns"] == 0 and list(report["dropped"].values()) == [
        "its rule names a field that identifies people or is sensitive here"
    ]
    assert b"spent" not in (home / "ledger/catalogs/berlin-00001.json").read_bytes().split(b'"bounds"')[0]


# -- with DVC


@pytest.mark.slow
def test_dvc_runs_what_uses_it_and_then_nothing(small, teams, tmp_path):
    root = crowd.copy(small.done, tmp_path / "wb")
    before = contents(root, "out/propose", "out/gate", "out/catalog")

    def changed() -> set[str]:
        return set(json.loads(run("dvc", "status", "--json", cwd=root).stdout))

    assert changed() == set()
    take(root, teams.home / "berlin/wb", "berlin")
    once = changed()
    assert {"propose", "document"} <= once <= {"propose", "document", "review"}
    take(root, teams.home / "berlin/wb", "berlin")
    assert changed() == once
    assert run("dvc", "repro", "-q", cwd=root).returncode == 0
    assert changed() == set() and contents(root, "out/propose", "out/gate", "out/catalog") == before
