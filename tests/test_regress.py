"""What was mended stays mended: a new model is held to it, and to nothing that was never promised."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from house import ROOT, copy_workbench, failwb, out_json, said

from failwb.lab.init import init
from failwb.models.checkpoint import Checkpoint, dumps_stable, load_checkpoint, save_checkpoint
from failwb.models.train import fit, make_pipeline
from failwb.models.wrappers import UnitFix, before
from failwb.record.errors import FailwbError
from failwb.record.tables import canonical, features, file_sha, read_json, read_table, write_table
from failwb.remedy.cases import Case
from failwb.remedy.promote import promote
from failwb.remedy.regress import regress, regress_markdown, untaught
from failwb.remedy.remedies import retrain
from failwb.workbench import Workbench, load_stage, run_stage

READ = ("data", "out/split", "out/discover", "out/propose/plans", "out/experiment", "out/gate")


def adopted() -> dict[str, str]:
    "The sample's adopted plans by the name of the pattern that each mends; none where the pipeline has not run."
    if not (ROOT / "out/gate/verdicts.json").is_file():
        return {}
    names = {p["id"]: p["name"] for p in out_json("discover/patterns.json")}
    return {names[v["pattern"]]: v["plan"] for v in out_json("gate/verdicts.json") if v["selected"]}


def mended_by(remedy: str) -> str:
    "The name of the pattern that a remedy mends in the sample."
    verdicts = out_json("gate/verdicts.json") if PLANS else []
    return next((n for n, plan in PLANS.items() for v in verdicts if (v["plan"], v["remedy"]) == (plan, remedy)), "")


PLANS = adopted()
SHIPPED, OTHER = mended_by("slice_reweight"), mended_by("unit_fix")  # promoted in the second workbench; adopted only


@pytest.fixture(scope="module")
def sample(tmp_path_factory, out) -> Workbench:
    "A copy of the sample in which nothing was promoted."
    return Workbench(copy_workbench(tmp_path_factory.mktemp("sample") / "bench", *READ))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, out) -> Workbench:
    "A copy of the sample in which the candidate for one pattern was promoted, as v3."
    wb = Workbench(copy_workbench(tmp_path_factory.mktemp("shipped") / "bench", *READ))
    assert promote(wb, PLANS[SHIPPED], unapproved="To try the regression test")["version"] == "v3"
    return wb


def source(wb: Workbench, name: str) -> str:
    "A version, or the folder of the candidate that mends a pattern."
    return str(wb.path(f"out/experiment/{PLANS[name]}/candidate")) if name in PLANS else name


def verdicts(result: dict) -> dict[str, str]:
    "The verdicts on mended patterns, by name."
    return {m["name"]: m["verdict"] for m in result["mended"]}


# -- what is a promise


@pytest.mark.parametrize("every, verdict", [(False, "not mended"), (True, "regressed")])
def test_a_fault_that_nobody_promised_to_mend_is_reported(sample, every, verdict):
    "The served model has every fault; it fails only where it is held to all adopted remedies."
    result = regress(sample, "v2", every)
    assert verdicts(result) == dict.fromkeys(PLANS, verdict)
    assert sorted(result["regressed"]) == (sorted(PLANS) if every else []) and result["code"] == int(every)


@pytest.mark.parametrize("name", PLANS)
def test_a_candidate_mends_its_own_pattern(sample, name):
    held, loose = regress(sample, source(sample, name), True), regress(sample, source(sample, name))
    assert verdicts(held)[name] == "kept" and verdicts(loose)[name] == "mended too"
    assert (loose["code"], held["code"]) == (0, int(bool(held["regressed"])))


@pytest.mark.parametrize("name, regressed", [("v2", 1), ("v1", 1), ("v3", 0), (OTHER, 1), (SHIPPED, 0)])
def test_what_was_shipped_is_a_promise_for_every_model(shipped, name, regressed):
    "Also for a candidate that mends another pattern: serving it would bring this one back."
    result = regress(shipped, source(shipped, name))
    assert result["regressed"] == [SHIPPED] * regressed and result["code"] == regressed
    told = {m["name"]: (m["held"], m["version"]) for m in result["mended"]}
    assert told == {one: (True, "v3") if one == SHIPPED else (False, None) for one in PLANS}


def test_figures_are_those_of_the_models(shipped):
    "Then is the served model's error, mended the candidate's, now the new one's; each failure is counted once."
    old, new = regress(shipped, "v2"), regress(shipped, "v3")
    [a], [b] = ([m for m in r["mended"] if m["held"]] for r in (old, new))
    assert a["now"] == a["then"] == b["then"] and b["now"] == b["mended"] == a["mended"] and b["worse"] == 0
    rows = read_table(shipped.path("out/split/open.parquet"))
    assert old["failures"] == {"failures": int((rows["loss"] == 1).sum()), "now_right": 0, "newly_broken": 0} | {
        "matched": old["failures"]["matched"]
    }
    assert new["failures"]["now_right"] > 10 * new["failures"]["newly_broken"] > 0
    assert new["failures"]["matched"] == new["failures"]["failures"] and new["overall"]["now"] < new["overall"]["then"]


def test_allowed_regressions_do_not_fail(sample):
    codes = [regress(sample, "v2", True, allow)["code"] for allow in (len(PLANS) - 1, len(PLANS))]
    assert codes == [1, 0]


# -- other models


def trained(wb: Workbench, folder: Path, change=lambda table: table, seed: int = 0, **recipe) -> str:
    "Save a model of the promoted candidate's own training table, after a `change`."
    table, served = (
        change(read_table(wb.path("data/reference/v3.parquet"))),
        load_checkpoint(wb.path("data/checkpoints/v3")),
    )
    if recipe:
        numeric = [n for n in served.features if n in wb.contract.numeric]
        rest = [n for n in served.features if n not in numeric]
        y = (table["label"] == served.positive).to_numpy()
        model = fit(make_pipeline(numeric, rest, seed, **recipe), features(table)[list(served.features)], y)
    else:
        model = retrain(Case([], [], [], served, None, table, table, wb.contract), table, seed)
    return save(folder, served, model)


def save(folder: Path, like: Checkpoint, model) -> str:
    save_checkpoint(folder, model, features=list(like.features), positive=like.positive, negative=like.negative)
    return str(folder)


def without(share: float, seed: int):
    "Leave out a share of the training table, as another draw of it would."
    return lambda table: table[np.random.default_rng(seed).random(len(table)) >= share].reset_index(drop=True)


def flipped(share: float):
    def change(table: pd.DataFrame) -> pd.DataFrame:
        labels = sorted(table["label"].unique())
        hit = np.random.default_rng(0).random(len(table)) < share
        other = table["label"].map(dict(zip(labels, reversed(labels), strict=True)))
        return table.assign(label=table["label"].where(~hit, other))

    return change


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_is_as_good_passes(shipped, tmp_path, seed):
    result = regress(shipped, trained(shipped, tmp_path / "other", without(0.1, 100 + seed), seed))
    assert result["regressed"] == [] and result["code"] == 0


PLANTED = {
    "labels turned over": (dict(change=flipped(0.45)), {"all predictions", SHIPPED}),
    "one split": (dict(max_iter=1, max_leaf_nodes=2), {"all predictions", SHIPPED}),
    "never saw the pattern": (dict(change=lambda t: t[(t["x.purpose"] != "business") | (t["x.term"] < 48)]), {SHIPPED}),
}


@pytest.mark.parametrize("planted, regressed", PLANTED.values(), ids=PLANTED)
def test_a_planted_worse_model_is_found(shipped, tmp_path, planted, regressed):
    result = regress(shipped, trained(shipped, tmp_path / "worse", **planted))
    assert set(result["regressed"]) == regressed and result["code"] == 1


def test_a_bare_file_is_a_model(shipped, tmp_path):
    path = tmp_path / "model.skops"
    path.write_bytes(shipped.path("data/checkpoints/v3/model.skops").read_bytes())
    bare, whole = regress(shipped, str(path)), regress(shipped, "v3")
    assert bare["model"] == {"version": "model", "sha256": whole["model"]["sha256"]}
    assert {k: v for k, v in bare.items() if k != "model"} == {k: v for k, v in whole.items() if k != "model"}


# -- other tasks


@pytest.fixture(scope="module", params=["multiclass", "regression"])
def own(request, tmp_path_factory) -> Workbench:
    "A workbench for a small table of another task, up to its patterns."
    home, rng = tmp_path_factory.mktemp(request.param), np.random.default_rng(0)
    table = pd.DataFrame({"spent": rng.gamma(2, 50, 2500).round(2), "branch": rng.choice(["a", "b"], 2500)})
    worth = table["spent"] * (1 + (table["branch"] == "a")) + rng.normal(0, 5, 2500)
    target = np.digitize(worth, [80, 160]) if request.param == "multiclass" else worth.round(2)
    table.assign(target=[f"class {t}" for t in target] if request.param == "multiclass" else target).to_csv(
        home / "t.csv", index=False
    )
    init(home / "wb", home / "t.csv", "target", task=request.param, owner="ada")
    wb = Workbench.find(home / "wb")
    for verb in ("validate", "detect", "split", "enrich", "discover"):
        run_stage(wb, load_stage(verb))
    return wb


def test_a_model_of_another_task_is_judged(own, tmp_path, sample):
    served = load_checkpoint(own.path("data/checkpoints/v1"))
    assert regress(own, "v1")["regressed"] == []
    table = read_table(own.path("data/reference") / served.reference)
    labels = table["label"].sample(frac=1.0, random_state=0, ignore_index=True)
    case = Case([], [], [], served, None, table, table, own.contract)
    shuffled = retrain(case, table.assign(label=labels), seed=0)
    about = {"task": served.task, "classes": served.classes, "features": list(served.features)}
    save_checkpoint(tmp_path / "shuffled", shuffled, **about)
    result = regress(own, str(tmp_path / "shuffled"))
    assert result["regressed"] == ["all predictions"] and "**1 regressed: all predictions.**" in regress_markdown(
        result
    )
    with pytest.raises(FailwbError, match="cannot be judged: it asks for|the contract is"):
        regress(own, str(sample.path("data/checkpoints/v2")))


# -- a model that cannot be judged


class Odd:
    "A model that answers as it was told."

    def __init__(self, answer):
        self.answer = answer

    def predict_proba(self, X):
        return self.answer(X)


def wrong_answer(X):
    raise KeyError("surname")


ODD = {
    "three columns": (lambda X: np.ones((len(X), 3)) / 3, "classes are 0, 1, 2"),
    "one column": (lambda X: np.ones(len(X)), "has the shape (20,)"),
    "no probabilities": (lambda X: np.full((len(X), 2), 7.0), "scores run from 7 to 7"),
    "no numbers": (lambda X: np.full((len(X), 2), np.nan), "scores run from nan to nan"),
    "an error": (wrong_answer, "does not answer requests (KeyError: 'surname')"),
}


@pytest.mark.parametrize("answer, says", ODD.values(), ids=ODD)
def test_an_odd_answer_is_no_verdict(sample, monkeypatch, answer, says):
    served = load_checkpoint(sample.path("data/checkpoints/v2"))
    monkeypatch.setattr("failwb.remedy.regress.load_new", lambda *_: replace(served, model=Odd(answer)))
    with pytest.raises(FailwbError, match="cannot be judged") as refused:
        regress(sample, "odd")
    assert says in str(refused.value)


def other_features(wb, folder):
    served = load_checkpoint(wb.path("data/checkpoints/v2"))
    model = before(served.model, "extra", UnitFix("postcode", 10.0, 5.0))
    save_checkpoint(
        folder, model, features=[*served.features, "postcode"], positive=served.positive, negative=served.negative
    )
    return str(folder)


def other_classes(wb, folder):
    served = load_checkpoint(wb.path("data/checkpoints/v2"))
    return save(folder, replace(served, positive="late", negative="early"), served.model)


def not_a_model(wb, folder):
    folder.mkdir()
    (folder / "model.skops").write_bytes(b"not a zip")
    return str(folder / "model.skops")


def not_trusted(wb, folder):
    from sklearn.gaussian_process import GaussianProcessClassifier

    folder.mkdir()
    (folder / "model.skops").write_bytes(dumps_stable(GaussianProcessClassifier().fit([[0.0], [1.0]], [0, 1])))
    return str(folder / "model.skops")


UNFIT = [
    (other_features, "asks for postcode, which requests do not hold"),
    (other_classes, "with the classes early, late; the contract is binary with repaid, default"),
    (not_a_model, "not a skops file"),
    (not_trusted, "sklearn.gaussian_process"),
    (lambda wb, folder: "v9", "No model named 'v9'. Known: v1, v2"),
]


@pytest.mark.parametrize("make, says", UNFIT, ids=["features", "classes", "no model", "not trusted", "unknown"])
def test_a_model_that_cannot_be_judged_is_a_message(sample, tmp_path, make, says):
    with pytest.raises(FailwbError) as refused:
        regress(sample, make(sample, tmp_path / "unfit"))
    assert says in str(refused.value)


def test_a_model_that_cannot_be_judged_exits_with_2(sample, tmp_path):
    result = failwb("regress", other_features(sample, tmp_path / "unfit"), "-C", sample.root, cwd=tmp_path)
    assert result.returncode == 2 and "asks for postcode" in said(result) and "Traceback" not in result.stderr


# -- the command


def files(root: Path) -> dict[str, tuple]:
    return {str(p): (p.stat().st_mtime_ns, file_sha(p)) for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name, code", [("v2", 1), ("v3", 0)])
def test_the_exit_code_is_the_answer_and_only_the_report_is_written(shipped, tmp_path, name, code):
    "From the folder of another repository, as a model's own CI does."
    there = files(shipped.root)
    result = failwb("regress", name, "-C", shipped.root, "--report", "regress.md", "--json", cwd=tmp_path)
    assert result.returncode == code, said(result)
    told, text = json.loads(result.stdout), (tmp_path / "regress.md").read_text()
    assert told["code"] == code and text == regress_markdown(told)
    assert ("**Nothing regressed.**" in text) == (code == 0) and SHIPPED in text
    assert files(shipped.root) == there and [p.name for p in tmp_path.iterdir()] == ["regress.md"]


def test_a_report_holds_no_row_and_no_subject(shipped):
    text = canonical(regress(shipped, "v2"))
    tables = [read_table(shipped.path(f"out/split/{name}.parquet")) for name in ("open", "confirm")]
    for table in tables:
        assert not any(value in text for value in [*table["event_id"], *table["subject"].unique()])


# -- which rows may judge


def test_rows_that_no_closed_plan_has_opened_stay_closed(shipped, tmp_path):
    "Held-out rows of a later segment are turned over: nothing changes. Those of the plan's own segments count."
    before_, path = regress(shipped, "v3"), shipped.path("out/split/confirm.parquet")
    confirm = read_table(path)
    original = path.read_bytes()
    try:
        later = confirm.assign(segment="events-99999", event_id="later-" + confirm["event_id"], loss=1.0)
        write_table(pd.concat([confirm, later], ignore_index=True), path)
        assert regress(shipped, "v3") == before_
        write_table(confirm[confirm["segment"] != "events-00012"], path)
        rows = [[m["rows"] for m in r["mended"]] for r in (before_, regress(shipped, "v3"))]
        assert all(a > b for a, b in zip(*rows, strict=True))
    finally:
        path.write_bytes(original)


def test_a_candidate_is_not_judged_on_what_taught_it(shipped):
    taught = set(read_table(shipped.path("data/reference/v3.parquet"))["row"])
    rows = read_table(shipped.path("out/split/open.parquet"))
    plan = read_json(shipped.path(f"ledger/plans/{PLANS[SHIPPED]}.json"))
    left = untaught(rows[rows["loss"].notna()], plan)
    assert len(left) > 5000 and not taught & set(left["event_id"]) and taught & set(rows["event_id"])
