"""A small case for every remedy and task: what is wrong in it, so that the remedy has something to mend."""

from dataclasses import replace

import numpy as np
import pandas as pd

from failwb.models.answer import answer
from failwb.models.checkpoint import save_checkpoint
from failwb.models.outputs import Adjusted, line_of
from failwb.record.plugins import known
from failwb.record.tables import features, settle
from failwb.remedy.cases import inside, predict_loss, served_loss
from failwb.remedy.remedies import earlier_and_later, halves
from failwb.remedy.toy import CLASSES, NORTH, toy_case

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


def save(case, model, folder, parent=None):
    base = case.base
    about = {n: getattr(base, n) for n in ("features", "positive", "negative", "task", "classes")}
    return save_checkpoint(folder, model, threshold=line_of(model, base.threshold), parent=parent, **about)


def said(model, case) -> pd.DataFrame:
    task = replace(case.task, threshold=line_of(model, case.task.threshold))
    return answer(model, task, features(case.develop)[list(case.base.features)])


def worked(name: str, tmp_path) -> dict:
    "The figures of the example on a remedy's page: on subjects that taught nothing; of advice, what it would save."
    remedy, case = REMEDIES[name], case_for(name, "binary", tmp_path)
    params = settle(remedy.parameters(case), 3)
    if remedy.family == "advice":
        return {"params": params, "saved": settle(remedy.expected(case, settle(remedy.parameters(case)))["saved"], 3)}
    teacher, judges = earlier_and_later(case) if name == "label_shift_correction" else halves(case)
    judges = judges[inside(case, judges)]
    mended = predict_loss(remedy.build(teacher, settle(remedy.parameters(case)), 1), judges, case)
    before, after = (float(loss["error"].mean()) for loss in (served_loss(case, judges), mended))
    return {"params": params, "before": settle(before, 2), "after": settle(after, 2)}
