"""Every remedy on every task that it claims: parameters, a candidate, valid answers, the same ones when saved."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from failwb.models.answer import answer
from failwb.models.checkpoint import load_checkpoint, save_checkpoint
from failwb.models.foreign import last_step
from failwb.models.outputs import Adjusted, line_of
from failwb.record.plugins import Reject, check_plugin, known
from failwb.record.tables import canonical, features, settle
from failwb.record.taxonomy import CATEGORIES
from failwb.remedy.cases import inside, predict_loss, served_loss
from failwb.remedy.toy import CLASSES, NORTH, toy_case
from failwb.remedy.trial import operations

REMEDIES = known("remedy")
TASKS = ("binary", "multiclass", "regression")
CLASSIFY = TASKS[:2]
OTHER = {"default": "repaid", "repaid": "default", **dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))}


def north(t: pd.DataFrame) -> pd.Series:
    return t["x.region"] == "north"


def neglect(t: pd.DataFrame) -> pd.DataFrame:
    return t.assign(weight=np.where(north(t), 0.001, 1.0))


def without(t: pd.DataFrame) -> pd.DataFrame:
    return t[~north(t) | (np.arange(len(t)) % 12 == 0)].reset_index(drop=True)


def wrong(labels: pd.Series) -> pd.Series:
    return labels.map(OTHER) if labels.isin(list(OTHER)).all() else (-labels.astype(float)).astype(str)


def flipped(t: pd.DataFrame) -> pd.DataFrame:
    return t.assign(label=wrong(t["label"]).where(north(t) & (np.arange(len(t)) % 4 > 0), t["label"]).astype("str"))


def copied(t: pd.DataFrame) -> pd.DataFrame:
    some = t[north(t)].head(20).assign(label=lambda s: wrong(s["label"]).astype("str"))
    return pd.concat([t, *[some] * 40], ignore_index=True).assign(row=lambda all: [f"r{i}" for i in range(len(all))])


def leaked(t: pd.DataFrame) -> pd.DataFrame:
    known = t["label"].map({"default": 1.0, **{c: float(i) for i, c in enumerate(CLASSES)}}).fillna(0.0)
    number = pd.to_numeric(t["label"], errors="coerce")
    return t.assign(**{"x.debt": known.where(number.isna(), number)})


def turned(t: pd.DataFrame) -> pd.DataFrame:
    return t.assign(label=wrong(t["label"]).where(np.arange(len(t)) > 500, t["label"]).astype("str"))


def scarce(t: pd.DataFrame) -> pd.DataFrame:
    first = t["label"].value_counts().index[0]
    return t[(t["label"] != first) | (np.arange(len(t)) % 6 == 0) | (np.arange(len(t)) < 200)].reset_index(drop=True)


def with_model(case, **changes):
    "A case whose service serves something else; what was logged is not known of it."
    base = replace(case.base, **changes)
    return replace(case, base=base, develop=case.develop.drop(columns=["prediction", "score"]))


def bent(case):
    offset = [3.0, *[0.0] * (len(case.task.labels) - 1)]
    step = {"where": NORTH, "excludes": [], "slope": 1.0, "offset": offset}
    return with_model(case, model=Adjusted(case.base.model, [step]))


def redrawn(case):
    return with_model(case, threshold=0.95) if case.task.kind == "binary" else case


def field(**columns):
    return lambda t: t.assign(**{"x." + name: change(t["x." + name]) for name, change in columns.items()})


def respelt(x: pd.Series) -> pd.Series:
    return x.replace("north", "Nörth")


def holes(x: pd.Series) -> pd.Series:
    return x.where(np.arange(len(x)) % 3 > 0)


def noise(x: pd.Series) -> pd.Series:
    return pd.Series(np.random.default_rng(5).random(len(x)), index=x.index)


def answered(t: pd.DataFrame) -> pd.DataFrame:
    return t.assign(prediction=t["prediction"].where(~north(t), t["prediction"].iloc[0]), score=t["score"] * 0.9)


# remedy: category, tasks, what is wrong (for toy_case), and what is done to the case
WRONG = {
    "category_mapping": ("schema-violation", TASKS, {"send": field(region=respelt), "predicate": []}, None),
    "deduplicate": ("duplicate-or-leak", TASKS, {"teach": copied}, None),
    "do_nothing": ("concept-drift", TASKS, {}, None),
    "fallback": ("out-of-distribution", TASKS, {"teach": without}, None),
    "feature_drop": (
        "spurious-or-leaky-feature", TASKS, {"teach": leaked, "send": field(debt=noise), "predicate": []}, None
    ),
    "importance_weights": ("covariate-shift", TASKS, {"teach": without}, None),
    "impute": ("missing-value-burst", TASKS, {"send": field(debt=holes)}, None),
    "jtt": ("systematic-slice-error", TASKS, {"teach": neglect}, None),
    "label_shift_correction": ("label-shift", CLASSIFY, {"send": scarce, "predicate": []}, None),
    "multicalibrate": ("miscalibration", ("binary",), {}, bent),
    "oversample": ("under-representation", TASKS, {"teach": without}, None),
    "pin": ("training-serving-skew", TASKS, {"serve": answered}, None),
    "prune_relabel": ("label-noise", TASKS, {"teach": flipped}, None),
    "recalibrate": ("miscalibration", CLASSIFY, {}, bent),
    "recent_window": ("concept-drift", TASKS, {"send": turned, "predicate": []}, None),
    "retune": ("over-or-underfit", TASKS, {"max_iter": 2, "max_leaf_nodes": 3}, None),
    "roll_back": ("version-mismatch", TASKS, {}, lambda c: replace(c, previous=replace(c.base, version="v0"))),
    "roll_forward": ("stale-artifact", TASKS, {}, None),
    "schema_guard": ("out-of-distribution", TASKS, {"send": field(debt=lambda x: x * 30)}, None),
    "slice_expert": ("concept-drift", TASKS, {"teach": neglect}, None),
    "slice_reweight": ("systematic-slice-error", TASKS, {"teach": neglect}, None),
    "slice_threshold": ("threshold-or-cost-mismatch", ("binary",), {}, bent),
    "threshold": ("threshold-or-cost-mismatch", ("binary",), {}, redrawn),
    "unit_fix": ("invalid-range-or-unit", TASKS, {"send": field(income=lambda x: x * 1000)}, None),
}  # fmt: skip
ADVICE = {
    "abstain": ("out-of-distribution", CLASSIFY, {"teach": without}),
    "acquire": ("under-representation", TASKS, {"teach": without}),
    "timeout_and_cache": ("latency", TASKS, {"serve": lambda t: t.assign(latency_ms=20.0)}),
}
HINTS = {"unit_fix": {"feature": "income"}}
CLAIMED = [(name, task) for name, (_, tasks, *_) in WRONG.items() for task in tasks]
SPARED = [(name, task) for name, (_, tasks, *_) in (WRONG | ADVICE).items() for task in TASKS if task not in tasks]


def case_for(name: str, task: str, tmp_path):
    category, _, faults, change = (*(WRONG | ADVICE)[name], None)[:4]
    case = toy_case(task, [{"category": category, "hints": HINTS.get(name, {}), "support": 1.0}], **faults)
    case = change(case) if change and task != "regression" or name == "roll_back" else case
    if name == "roll_forward":
        save(case, toy_case(task, max_iter=20).base.model, tmp_path / "registry/v2", parent="v1")
    return replace(case, registry=tmp_path / "registry")


@pytest.fixture(scope="module")
def claimed(tmp_path_factory):
    "The case of a remedy and a task, and the parameters that the remedy finds in it; looking for them takes long."

    @cache
    def found(name: str, task: str):
        case = case_for(name, task, tmp_path_factory.mktemp(f"{name}-{task}"))
        return case, settle(REMEDIES[name].parameters(case))

    return found


def save(case, model, folder, parent=None):
    base = case.base
    about = {n: getattr(base, n) for n in ("features", "positive", "negative", "task", "classes")}
    return save_checkpoint(folder, model, threshold=line_of(model, base.threshold), parent=parent, **about)


def said(model, case) -> pd.DataFrame:
    task = replace(case.task, threshold=line_of(model, case.task.threshold))
    return answer(model, task, features(case.develop)[list(case.base.features)])


def test_every_remedy_is_tried_here():
    assert sorted([*WRONG, *ADVICE]) == sorted(REMEDIES)
    assert sorted(ADVICE) == sorted(n for n, r in REMEDIES.items() if r.family == "advice")


@pytest.mark.parametrize("name, task", CLAIMED)
def test_a_remedy_gives_a_candidate_that_answers_and_can_be_kept(name, task, claimed, tmp_path):
    remedy, (case, params) = REMEDIES[name], claimed(name, task)
    canonical(params)  # what a plan is made of
    model = remedy.build(case, params, seed=1)
    answers = said(model, case)
    assert answers["prediction"].notna().all() and np.isfinite(answers["score"]).all()
    if task != "regression":
        assert answers["score"].between(0, 1).all() and set(answers["prediction"]) <= set(case.task.labels)
    kept = save(case, model, tmp_path / "candidate")
    loaded = load_checkpoint(tmp_path / "candidate")
    if task == "binary":
        again = save(case, remedy.build(case, params, seed=1), tmp_path / "again")
        assert kept.sha256 == again.sha256, "the same candidate twice, and other bytes"
    pd.testing.assert_frame_equal(said(loaded.model, case), answers)
    if case.task.kind == "binary":
        assert loaded.threshold == line_of(model, case.base.threshold)
    assert predict_loss(loaded.model, case.develop, case)["error"].notna().all()
    if remedy.family == "wrap":
        assert operations(model) <= 2 * operations(case.base.model), "a wrapper is cheap"
        assert name == "roll_forward" or last_step(model) is last_step(case.base.model), "the served model is inside"


MENDS = """
category_mapping deduplicate fallback feature_drop jtt label_shift_correction multicalibrate oversample pin
prune_relabel
recalibrate retune slice_expert slice_reweight slice_threshold threshold unit_fix
"""
ALWAYS = """
do_nothing fallback jtt label_shift_correction oversample recalibrate recent_window retune slice_expert slice_reweight
"""  # they have something to choose on any rows; what they choose is judged by the simulation


@pytest.mark.parametrize("name", MENDS.split())
def test_a_remedy_mends_what_it_is_for(name, claimed):
    "On the half of the subjects that taught nothing, where the wrong thing was planted strongly."
    from failwb.remedy.remedies import earlier_and_later, halves

    remedy, (case, params) = REMEDIES[name], claimed(name, "binary")
    teacher, judges = earlier_and_later(case) if name == "label_shift_correction" else halves(case)
    judges = judges[inside(case, judges)]
    loss = "log_loss" if name == "label_shift_correction" else "error"  # it is too sure to turn an answer
    served = served_loss(case, judges)[loss].mean()
    model = remedy.build(teacher, params, seed=1)
    mended = predict_loss(model, judges, case)[loss].mean()
    assert mended < served - 0.01


@pytest.mark.parametrize("name", [n for n, r in REMEDIES.items() if r.categories])
def test_a_remedy_refuses_a_cause_that_it_does_not_answer(name):
    other = next(c for family in CATEGORIES.values() for c in family if c not in REMEDIES[name].categories)
    with pytest.raises(Reject, match="It answers|It is for"):
        REMEDIES[name].parameters(toy_case(causes=[{"category": other, "hints": {}}]))


@pytest.mark.parametrize("name, task", SPARED)
def test_a_remedy_refuses_a_task_that_it_is_not_for(name, task, tmp_path):
    with pytest.raises(Reject, match="It is for|how sure"):
        REMEDIES[name].parameters(case_for(name, task, tmp_path))


@pytest.mark.parametrize("name", [n for n in WRONG if n not in ALWAYS.split()])
def test_a_remedy_finds_nothing_to_mend_where_nothing_is_wrong(name):
    with pytest.raises(Reject):
        REMEDIES[name].parameters(toy_case(causes=[{"category": c, "hints": {}} for c in REMEDIES[name].categories]))


@pytest.mark.parametrize("name, task", [(n, t) for n, (_, tasks, _) in ADVICE.items() for t in tasks])
def test_advice_says_what_to_do_and_what_it_would_save(name, task, claimed):
    remedy, (case, params) = REMEDIES[name], claimed(name, task)
    told = remedy.expected(case, params)
    assert told["saved"] >= 0 and np.isfinite(told["saved"]) and told["reason"].endswith(".")
    assert not hasattr(remedy, "build")


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_says_what_people_ask(name):
    remedy = REMEDIES[name]
    check_plugin("remedy", remedy)
    assert remedy.name == name and set(remedy.categories) <= {c for family in CATEGORIES.values() for c in family}
    said = [remedy.what, remedy.when, remedy.trade_off, remedy.rollback, remedy.source]
    assert all(text.endswith(".") for text in said), said
