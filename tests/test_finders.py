"""Finders: each points first at what was planted and is quiet where nothing was; broken ones are named."""

import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from house import ROOT, failwb, failwb_here, run, said

from failwb.finders.case import FinderCase, run_finder
from failwb.lab.init import init
from failwb.models.answer import answer
from failwb.models.checkpoint import Checkpoint, load_checkpoint
from failwb.models.train import fit, make_pipeline
from failwb.record.contract import Contract
from failwb.record.plugins import PluginError, check_plugin, known, load
from failwb.record.tables import features, file_sha, read_json, read_table
from failwb.record.task import errors, task_of
from failwb.workbench import Workbench, load_stage, run_stage

ROWS = 2400
NUMBERS = ["spent", "age", "days", "calls"]
SHOP = Contract(
    name="shop",
    version="1",
    owner="ada",
    review_by="2027-01-01",
    target="left",
    positive="yes",
    negative="no",
    columns={n: {"type": "number"} for n in NUMBERS}
    | {"branch": {"type": "category"}, "card": {"type": "category", "role": "quasi"}},
)
SEEN = {"most": 5000, "neighbours": 5, "seeds": (1, 2, 3), "fdr": 0.05}


def people(n: int, seed: int) -> pd.DataFrame:
    "Customers; who spends and calls little leaves, and nobody is near the line."
    rng = np.random.default_rng(seed)
    stays = rng.random(n) < 0.5
    side = np.where(stays, 1.0, -1.0)
    X = pd.DataFrame({n_: rng.normal(0, 1, n) for n_ in NUMBERS})
    X["spent"], X["calls"] = side * rng.uniform(0.5, 2, n) + rng.normal(0, 0.9, n), side * rng.uniform(0.5, 2, n)
    X["branch"], X["card"] = rng.choice(list("abcd"), n), rng.choice(["debit", "credit"], n)
    return X.add_prefix("x.").assign(label=np.where(X["calls"] > 0, "no", "yes"))


def clean() -> FinderCase:
    "A population in which nothing is wrong: the model's scores are honest, and it fails by chance alone."
    reference = people(900, 1).assign(row=[f"t{i:04d}" for i in range(900)], weight=1.0)
    model = fit(
        make_pipeline(NUMBERS, ["branch", "card"], 0), features(reference), (reference["label"] == "yes").to_numpy()
    )
    rng, rows = np.random.default_rng(3), people(ROWS, 2)
    yes = (rows["label"] == "yes") == (rng.random(ROWS) >= 0.02)  # one answer in fifty is wrong, anywhere
    rows = rows.assign(
        event_id=[f"e{i:04d}" for i in range(ROWS)],
        subject=[f"s{i // 2:04d}" for i in range(ROWS)],
        time=pd.Timestamp("2026-01-05", tz="UTC"),
        score=np.where(yes, 0.98, 0.02),
        prediction=pd.array(np.where(yes, "yes", "no"), dtype="str"),
        label=rows["label"].astype("str"),
    )
    rows["loss"] = errors(task_of(SHOP), rows, rows["label"])
    quality = pd.DataFrame(
        {
            "row": reference["row"],
            "quality": rng.uniform(0.9, 1, 900),
            "issue": False,
            "fresh": reference["label"],
            "given": reference["label"],
        }
    )
    failed = rows.loc[rows["loss"] == 1, ["event_id"]].reset_index(drop=True)
    pushes = pd.DataFrame(rng.uniform(-1, 1, (len(failed), 6)), columns=["x." + n for n in SHOP.columns])
    served = Checkpoint("v1", "0" * 64, model, tuple(SHOP.columns), positive="yes", negative="no")
    return FinderCase(
        rows, reference, served, SHOP, task_of(SHOP), pd.DataFrame(), quality, failed.join(pushes), **SEEN
    )  # fmt: skip


def flipped(case):
    quality = case.quality.copy()
    quality.loc[7, ["quality", "issue", "given"]] = [0.01, True, "no"]
    quality.loc[7, "fresh"] = "yes"
    return replace(case, quality=quality), ["t0007"]


def copied(case):
    twin = case.reference[5:6].assign(row="t9999", label="no" if case.reference["label"][5] == "yes" else "yes")
    return replace(case, reference=pd.concat([case.reference, twin], ignore_index=True)), ["t0005", "t9999"]


def leaked(case):
    reference = case.reference.copy()
    reference["x.card"] = np.where(reference["label"] == "yes", "closed", "open")
    return replace(case, reference=reference), ["calls", "card"]  # `calls` decides by construction


def foreign(case):
    rows = case.rows.copy()
    rows.loc[[3, 4, 5], "x.age"] = [60.0, -80.0, 70.0]
    return replace(case, rows=rows), ["e0003", "e0004", "e0005"]


def mistaught(case):
    "Two failures in a corner where every training row has the other label."
    rows, reference = case.rows.copy(), case.reference.copy()
    for table, at in ((rows, [0, 1]), (reference, range(10))):
        for n in NUMBERS:
            table.loc[list(at), f"x.{n}"] = 9.0 + 0.01 * np.arange(len(at))
    reference.loc[range(10), "label"] = "no"
    rows.loc[[0, 1], ["label", "prediction"]] = ["yes", "no"]
    rows.loc[[0, 1], "loss"] = 1.0
    return replace(case, rows=rows, reference=reference), ["e0000", "e0001"]


def coin_tossed(case):
    "Training labels of one corner are the toss of a coin."
    rows, reference = case.rows.copy(), case.reference.copy()
    rng = np.random.default_rng(5)
    corner = np.arange(120)
    reference.loc[corner, "x.age"], rows.loc[corner, "x.age"] = 8 + rng.random(120), 8 + rng.random(120)
    reference.loc[corner, "label"] = rng.choice(["yes", "no"], 120)
    return replace(case, reference=reference), replace(case, rows=rows, reference=reference), corner


def shifted(case):
    rows = case.rows.copy()
    rows.loc[rows["x.branch"] == "c", "score"] = 0.95
    return replace(case, rows=rows), ["branch = c"]


def disadvantaged(case):
    rows = case.rows.copy()
    there = np.flatnonzero(rows["x.branch"] == "b")[::2]
    rows.loc[there, "loss"] = 1.0
    return replace(case, rows=rows), ["branch = b"]


def two_reasons(case):
    rng = np.random.default_rng(0)
    n = len(case.attributions)
    values = rng.normal(0, 0.2, (n, 6)) + np.where(
        np.arange(n)[:, None] < n // 2, [[2, 0, 0, 0, 0, 0]], [[0, -2, 0, 0, 0, 0]]
    )
    columns = [c for c in case.attributions if c.startswith("x.")]
    return replace(case, attributions=case.attributions.assign(**dict(zip(columns, values.T, strict=True)))), [
        "cluster 1 of 2",
        "cluster 2 of 2",
    ]


PLANTED = {
    "label_noise": flipped,
    "near_duplicates": copied,
    "out_of_distribution": foreign,
    "nearest_training_rows": mistaught,
    "miscalibration": shifted,
    "group_disparity": disadvantaged,
    "attribution_clusters": two_reasons,
}


@pytest.fixture(scope="module")
def world() -> FinderCase:
    return clean()


def ranked(name: str, case: FinderCase) -> pd.DataFrame:
    table, refused = run_finder(name, load("finder", name), case)
    assert not refused, refused
    return table.sort_values(["score", "id"], ascending=[False, True], kind="stable").reset_index(drop=True)


def least(name: str) -> float:
    find = yaml.safe_load((ROOT / "params.yaml").read_text())["find"]
    return find["least_gap"] if load("finder", name).about == "slice" else find["least"]


@pytest.mark.parametrize("name, plant", PLANTED.items())
def test_what_was_planted_ranks_first(world, name, plant):
    case, wanted = plant(world)
    table = ranked(name, case)
    assert sorted(table["id"].head(len(wanted))) == wanted
    assert (table["score"].head(len(wanted)) >= least(name)).all(), table.head(5)
    assert len(table) == len(wanted) or table["score"][len(wanted)] < table["score"][len(wanted) - 1]


@pytest.mark.parametrize("name", sorted(known("finder")))
def test_where_nothing_is_planted_it_stays_quiet(world, name):
    if name == "leakage":  # where one feature decides by construction there is nothing to be quiet about
        rng = np.random.default_rng(6)
        world = replace(world, reference=world.reference.assign(label=rng.choice(["yes", "no"], 900)))
    table, refused = run_finder(name, load("finder", name), world)
    assert bool(refused) == (name == "attribution_clusters"), refused
    assert (table["score"] >= least(name)).mean() <= 0.01 if len(table) else refused


def test_a_leaked_feature_is_named_beside_the_one_that_decides(world):
    case, wanted = leaked(world)
    table = ranked("leakage", case)
    assert sorted(table["id"].head(2)) == wanted and (table["score"].head(2) > 0.95).all()
    assert "Alone it reaches AUC 1.000" in table["evidence"][1]
    assert ranked("leakage", world).set_index("id")["score"]["card"] < 0.2


def test_instability_lies_where_labels_were_tossed(world):
    _, case, corner = coin_tossed(world)
    table = ranked("instability", case)
    tossed = {f"e{i:04d}" for i in corner}
    unstable = set(table["id"][table["score"] >= 0.5])
    inside, outside = len(unstable & tossed) / len(tossed), len(unstable - tossed) / (ROWS - len(tossed))
    assert inside > 0.1 and inside > 10 * outside
    assert table["id"][0] in tossed


def test_a_strong_honest_feature_is_no_leak(world):
    "`calls` is told with a probability of nine in ten: AUC 0.9, as good features reach."
    told = np.random.default_rng(8).random(900) < 0.1
    label = world.reference["label"].where(~told, np.where(world.reference["label"] == "yes", "no", "yes"))
    table = ranked("leakage", replace(world, reference=world.reference.assign(label=label)))
    assert table["id"][0] == "calls" and 0.3 < table["score"][0] < least("leakage")
    assert "Alone it reaches AUC 0." in table["evidence"][0]


def test_scores_that_are_all_too_high_are_told_once(world):
    coins = np.random.default_rng(8).choice(["yes", "no"], ROWS)
    table = ranked("miscalibration", replace(world, rows=world.rows.assign(score=0.7, label=coins)))
    assert table["id"][table["score"] >= least("miscalibration")].tolist() == ["all predictions"]


def test_what_neighbours_teach_is_held_against_right_answers(world):
    table = ranked("nearest_training_rows", mistaught(world)[0])
    assert re.search(r"5 of the 5 .* label yes, as around \d\.\d% of the right answers: t000", table["evidence"][0])


def test_a_contradicting_twin_is_told(world):
    table = ranked("near_duplicates", copied(world)[0])
    assert "t9999" in table.set_index("id")["evidence"]["t0005"] and "contradict" in table["evidence"][0]


def test_fields_that_may_identify_somebody_are_not_spelled_out(world):
    for name in known("finder"):
        table, _ = run_finder(name, load("finder", name), world)
        text = " ".join([*table["id"], *table["evidence"]])
        assert "debit" not in text and "credit" not in text, name


@pytest.mark.parametrize("name", sorted(known("finder")))
def test_a_built_in_finder_conforms(name):
    finder = load("finder", name)
    check_plugin("finder", finder)
    assert finder.name == name


NEED_ROWS = {
    "instability",
    "label_noise",
    "leakage",
    "near_duplicates",
    "nearest_training_rows",
    "out_of_distribution",
}
CLOUD = {"attribution_clusters"}  # refuses here whatever is at hand: these attributions fall into no clusters


@pytest.mark.parametrize(
    "lacking, refusing",
    [
        ({"reference": None}, NEED_ROWS | CLOUD),
        ({"checkpoint": Checkpoint("log", "0", None, ())}, {"instability"} | CLOUD),
        ({"attributions": pd.DataFrame(), "quality": pd.DataFrame()}, {"label_noise"} | CLOUD),
    ],
)
def test_what_is_missing_is_the_reason(world, lacking, refusing):
    case = replace(world, **lacking)
    reasons = {name: run_finder(name, load("finder", name), case)[1] for name in known("finder")}
    assert {name for name, reason in reasons.items() if reason} == refusing
    assert all(reason.endswith(".") for reason in reasons.values() if reason)
    assert "attributions" not in lacking or "0 failures have attributions" in reasons["attribution_clusters"]


def test_without_labels_those_that_need_them_refuse(world):
    case = replace(world, rows=world.rows.assign(label=pd.array([None] * ROWS, dtype="str"), loss=np.nan))
    refused = {name for name in known("finder") if run_finder(name, load("finder", name), case)[1]}
    assert refused == {"attribution_clusters", "group_disparity", "miscalibration", "nearest_training_rows"}


@pytest.mark.parametrize("value", [1e308, -1e308, np.nan, np.inf, 0.0])
def test_odd_numbers_stop_no_finder(world, value):
    def odd(table, at):
        return table.assign(**{"x.age": table["x.age"].mask(table.index.isin(at), value), "x.days": value})

    case = replace(world, rows=odd(world.rows, [0, 1]), reference=odd(world.reference, [0]))
    for name in known("finder"):
        run_finder(name, load("finder", name), case)  # a score that is no number in [0, 1] would be an error


# -- the stage, on workbenches of one's own


TASKS = ("binary", "multiclass", "regression")


def bench_of(home: Path, task: str) -> Path:
    "A workbench for a small table, up to its context."
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"spent": rng.gamma(2, 50, 2500).round(2), "branch": rng.choice(["a", "b", "c"], 2500)})
    table["weight"], table["height"] = rng.normal(70, 9, 2500).round(2), rng.normal(170, 9, 2500).round(2)
    worth = table["spent"] * (1 + (table["branch"] == "a")) + rng.normal(0, 9, 2500)
    kinds = {"binary": np.where(worth > 120, "yes", "no"), "regression": worth.round(2)}
    kinds["multiclass"] = [f"class {t}" for t in np.digitize(worth, [80, 160])]
    when = pd.date_range("2026-01-05", periods=2500, freq="h")
    table.assign(target=kinds[task], when=when).to_csv(home / "t.csv", index=False)
    init(home / "wb", home / "t.csv", "target", task=task, time="when", owner="ada")
    wb = Workbench.find(home / "wb")
    for verb in ("validate", "detect", "split", "enrich"):
        run_stage(wb, load_stage(verb))
    return wb.root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = {}

    def give(task: str) -> Path:
        return found.get(task) or found.setdefault(task, bench_of(tmp_path_factory.mktemp(task), task))

    return give


@pytest.fixture
def own(made, tmp_path) -> Path:
    return Path(shutil.copytree(made("binary"), tmp_path / "wb", ignore=shutil.ignore_patterns(".git", ".dvc")))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_goes_through(made, task):
    root = made(task)
    summary = run_stage(Workbench(root), load_stage("find"))
    refused = {n: f["refused"] for n, f in summary["finders"].items() if f["refused"]}
    allowed = {"attribution_clusters"} | ({"miscalibration"} if task == "regression" else set())
    assert sorted(summary["finders"]) == sorted(known("finder")) and set(refused) <= allowed, refused
    table = read_table(root / "out/find/findings.parquet")
    assert list(table) == ["finder", "about", "id", "score", "evidence"] and table["score"].between(0, 1).all()
    assert table.groupby("finder").size().max() <= 100
    assert {"leakage", "instability", "nearest_training_rows"} <= set(table["finder"])


def test_a_log_alone_says_what_is_missing(tmp_path):
    rng = np.random.default_rng(0)
    log = pd.DataFrame({"customer": np.arange(900) // 2, "spent": rng.gamma(2, 50, 900).round(2)})
    log["branch"] = rng.choice(["a", "b"], 900)
    log["score"] = rng.random(900).round(3)
    log["prediction"] = np.where(log["score"] >= 0.5, "yes", "no")
    log["label"] = np.where(rng.random(900) < log["score"], "yes", "no")
    log.assign(time=pd.date_range("2026-01-05", periods=900, freq="h"), id=[f"r{i}" for i in range(900)]).to_csv(
        tmp_path / "log.csv", index=False
    )
    result = failwb_here("init", "wb", "--log", "log.csv", "--subject", "customer", "--json", cwd=tmp_path)
    assert result.returncode == 0, said(result)
    wb = Workbench(tmp_path / "wb")
    for verb in ("validate", "detect", "split", "enrich"):
        run_stage(wb, load_stage(verb))
    told = run_stage(wb, load_stage("find"))["finders"]
    assert sorted(n for n, f in told.items() if not f["refused"]) == ["group_disparity", "miscalibration"]
    assert all("at hand" in told[n]["refused"] for n in ("instability", "near_duplicates", "out_of_distribution"))


OWN = """
import pandas as pd


class Monday:
    "Training rows that somebody marked."

    name, term, about, what = "monday", "marked rows", "training row", __doc__
    library, source = "pandas", "our own"

    def find(self, case):
        ids = case.reference["row"].head(3)
        return pd.DataFrame({{"id": {ids}, "score": {score}, "{evidence}": "It was marked."}})


plugins = {{"monday": Monday}}
"""


def with_own(root: Path, ids: str = "ids", score: str = "0.9", evidence: str = "evidence", **change: str) -> Workbench:
    text = OWN.format(ids=ids, score=score, evidence=evidence)
    for old, new in change.items():
        text = text.replace(old, new)
    (root / "plugins").mkdir(exist_ok=True)
    (root / "plugins/monday.py").write_text(text)
    return Workbench(root)


def test_a_finder_in_the_folder_plugins_is_found(own):
    summary = run_stage(with_own(own), load_stage("find"))
    assert (summary["finders"]["monday"]["looked_at"], summary["finders"]["monday"]["found"]) == (3, 3)
    table = read_table(own / "out/find/findings.parquet")
    assert table.loc[table["finder"] == "monday", "evidence"].tolist() == ["It was marked."] * 3


def test_a_finder_of_an_installed_package_is_found(own, installed):
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    result = failwb("find", cwd=own, PYTHONPATH=path)
    assert result.returncode == 0, said(result)
    table = read_table(own / "out/find/findings.parquet")
    assert sorted(table.loc[table["finder"] == "unchanging", "id"]) == ["branch", "height", "spent", "weight"]


def test_the_finder_of_the_contributing_guide_runs(own):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [code] = [c for c in re.findall(r"```python\n(.*?)```", text, re.S) if "class Stale" in c]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    (own / "plugins/stale.py").write_text(code)
    result = only(Workbench(own), {"stale": known("finder", own / "plugins")["stale"]})
    told = result["summary.json"]["finders"]["stale"]
    rows = len(read_table(own / "out/split/open.parquet"))
    assert told["looked_at"] == rows and 0.02 * rows < told["found"] < 0.2 * rows


@pytest.mark.parametrize(
    "change, says",
    [
        ({"score": "1.5"}, r"'monday' broke its contract: `score` lies in \[0, 1\], not 1.5"),
        ({"score": "float('nan')"}, r"`score` lies in \[0, 1\]"),
        ({"ids": "'x' + ids"}, "is no training row that it was given"),
        ({"ids": "['a'] * 3"}, "'a' comes twice"),
        ({"ids": "[1, 2, 3]"}, "`id` holds texts"),
        ({"evidence": "reason"}, "'monday' returned a table without evidence"),
        ({"ids": "ids.nothing"}, r"'monday' failed in generic.py|'monday' failed in .*AttributeError"),
        ({"source": "sauce"}, "it lacks `source`"),
        ({'"training row"': '"everything"'}, "`about` is one of"),
        ({'name, term, about, what = "monday"': 'name, term, about, what = "tuesday"'}, "calls itself 'tuesday'"),
    ],
)
def test_a_finder_that_breaks_its_contract_is_named(own, change, says):
    wb = with_own(own, **change)
    quick = {"monday": known("finder", own / "plugins")["monday"]}
    with pytest.raises(PluginError, match=says):
        only(wb, quick)


def only(wb: Workbench, finders: dict) -> dict:
    "Let `finders` alone look at what the stage would look at."
    from failwb.finders.find import find_all

    rows, served = read_table(wb.root / "out/split/open.parquet"), load_checkpoint(wb.root / "data/checkpoints/v1")
    reference, empty = read_table(wb.root / "data/reference" / served.reference), pd.DataFrame()
    case = FinderCase(rows, reference, served, wb.contract, task_of(wb.contract), empty, empty, empty, **SEEN)
    return find_all(case, finders, 100, 0.5, 0.05)


def test_the_command_names_the_broken_finder_without_a_traceback(own):
    with_own(own, score="-1.0")
    result = failwb("find", cwd=own)
    assert result.returncode != 0 and "'monday' broke its contract" in said(result) and "Traceback" not in said(result)


def test_the_same_bytes_on_any_number_of_threads(own):
    program = "from failwb.workbench import Workbench, load_stage, run_stage\n"
    program += "run_stage(Workbench.find('.'), load_stage('find'))"
    digests = set()
    for threads in ("1", "3"):
        result = run(sys.executable, "-c", program, cwd=own, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
        assert result.returncode == 0, said(result)
        digests.add(tuple(file_sha(own / "out/find" / name) for name in ("findings.parquet", "summary.json")))
    assert len(digests) == 1


def test_no_finder_sees_a_held_out_row(own):
    run_stage(Workbench(own), load_stage("find"))
    confirm = read_table(own / "out/split/confirm.parquet")["event_id"]
    table = read_table(own / "out/find/findings.parquet")
    assert len(table) and not table["id"].isin(confirm).any()
    assert read_json(own / "out/find/summary.json")["findings"] == len(table)


def test_the_readme_names_every_finder():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in known("finder") if f"`{name}`" not in text] == []


def test_disagreement_of_answers_is_rescaled(world):
    from failwb.finders.events import disagreement

    X = features(world.rows[:1])
    yes = answer(world.checkpoint.model, world.task, X).assign(prediction="yes")
    no = yes.assign(prediction="no")
    assert disagreement(world, [yes, yes]).tolist() == [0.0] and disagreement(world, [yes, no]).tolist() == [1.0]
    assert disagreement(world, [yes, yes, no]).tolist() == [pytest.approx(2 / 3)]
