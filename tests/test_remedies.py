"""Every remedy on every task that it claims: parameters, a candidate, valid answers, the same ones when saved."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from ailing import ADVICE, CLAIMED, REMEDIES, SPARED, WRONG, case_for, said, save, worked

from failwb.models.burden import operations
from failwb.models.checkpoint import load_checkpoint
from failwb.models.foreign import last_step
from failwb.models.outputs import line_of
from failwb.publish.worked import WORKED
from failwb.record.plugins import Reject, check_plugin
from failwb.record.tables import canonical, settle
from failwb.record.taxonomy import CATEGORIES
from failwb.remedy.cases import inside, predict_loss, served_loss
from failwb.remedy.toy import toy_case


def test_every_remedy_is_tried_here():
    assert sorted([*WRONG, *ADVICE]) == sorted(REMEDIES)
    assert sorted(ADVICE) == sorted(n for n, r in REMEDIES.items() if r.family == "advice")


@pytest.fixture(scope="module")
def claimed(tmp_path_factory):
    "The case of a remedy and a task, and the parameters that the remedy finds in it; looking for them takes long."

    @cache
    def found(name: str, task: str):
        case = case_for(name, task, tmp_path_factory.mktemp(f"{name}-{task}"))
        return case, settle(REMEDIES[name].parameters(case))

    return found


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


@pytest.mark.parametrize("name", REMEDIES)
def test_the_example_on_a_remedy_s_page_is_what_comes_out(name, tmp_path):
    told, found = dict(WORKED[name]), worked(name, tmp_path)
    found["params"] = {key: value for key, value in found["params"].items() if key != "sha256"}
    assert told.pop("wrong").endswith(".") and told == found
    assert set(found["params"]) <= set(REMEDIES[name].ranges), "a parameter that the page does not explain"
