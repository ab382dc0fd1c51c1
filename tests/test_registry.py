"""Every fault of the registry does what it says on a ground, can be told apart, and is known to nobody who searches."""

import json
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
from house import modules

from failwb.faults.fault import Drawn, plant
from failwb.faults.places import overlap
from failwb.faults.registry import FAULTS, OVERLAP, draw_many, fault_of, origin
from failwb.faults.tables import grounds
from failwb.faults.world import World, accepted, chance, expected_error, oracle
from failwb.models.skops import dumps_stable, loads_trusted
from failwb.models.train import fit, make_pipeline
from failwb.record.plugins import Reject
from failwb.record.predicate import match
from failwb.record.provenance import imports_of
from failwb.record.tables import canonical, features, prefixed, sha
from failwb.record.taxonomy import family_of

GROUNDS = grounds()
SINCE, VERSIONS = "2026-02-15T00:00:00+00:00", ["v1", "v2"]
TAUGHT, ASKED, SMALL = 2_000, 4_000, {"max_iter": 30, "max_leaf_nodes": 12}
SYMPTOMS = {"slow_route", "outage"}  # they harm by another symptom than a wrong answer
HOME = {kind: "claims" if kind == "renamed_category" else "machines" for kind in FAULTS}  # one ground for each


def fact(kind: str, name: str):
    "A field that all faults of a kind have in common."
    return FAULTS[kind].__dataclass_fields__[name].default


@cache
def people(name: str) -> tuple[pd.DataFrame, pd.Series]:
    "Rows of a ground as they really are, at two times: every other one after the faults' date."
    X, _ = GROUNDS[name].draw(ASKED, np.random.default_rng(2))
    return X, pd.Series(pd.to_datetime(["2026-02-01", "2026-03-01"] * (ASKED // 2), utc=True))


@cache
def drawn(kind: str, dial: str) -> Drawn:
    name = HOME[kind]
    rng = np.random.default_rng([7, len(kind)])
    [fault] = draw_many([kind], GROUNDS[name], people(name)[0], dial, rng, since=SINCE)
    return fault


def taught(world: World, name: str, version: str) -> pd.DataFrame:
    "The training table of a version in a world."
    ground, rng = GROUNDS[name], np.random.default_rng([1, VERSIONS.index(version)])
    X, _ = ground.draw(TAUGHT, rng)
    label = np.where(rng.random(TAUGHT) < chance(world, X), ground.contract.positive, ground.contract.negative)
    table = prefixed(X).assign(row=[f"{version}-{i}" for i in range(TAUGHT)], label=pd.Series(label, dtype="str"))
    return world.train(table.assign(weight=1.0), version, rng)


@cache
def plain_table(name: str, version: str) -> pd.DataFrame:
    return taught(GROUNDS[name].world(), name, version)


def trained(world: World, name: str, version: str):
    table, contract = taught(world, name, version), GROUNDS[name].contract
    recipe = make_pipeline(contract.numeric, contract.categorical, seed=0, **SMALL | world.recipe(version))
    return fit(recipe, features(table), table["label"] == contract.positive, table["weight"])


@cache
def plain_model(name: str, version: str):
    return trained(GROUNDS[name].world(), name, version)


@dataclass
class Service:
    "What a world's service did with the people's requests."

    time: pd.Series
    sent: pd.DataFrame
    score: np.ndarray
    harm: np.ndarray  # expected error beyond the oracle's
    latency: np.ndarray
    status: np.ndarray


def served(world: World, name: str, retrained: bool) -> Service:
    X, time = people(name)
    rng = np.random.default_rng(3)
    kept = accepted(world, X, rng.random(len(X)) < chance(world, X, time), time, rng)
    X, time = X[kept].reset_index(drop=True), time[kept].reset_index(drop=True)
    version = world.served(VERSIONS)
    model = world.deploy(trained(world, name, version) if retrained else plain_model(name, version), version)
    sent = world.serve(X, time)
    score = world.answer(model, sent, time)
    harm = expected_error(world, X, time, score >= world.threshold(version)) - oracle(world, X, time)
    latency, status = world.operate(np.full(len(X), 10.0), np.full(len(X), 200), sent, time)
    return Service(time, sent, score, harm, latency, status)


@cache
def with_fault(kind: str, dial: str) -> Service:
    fault, name = drawn(kind, dial), HOME[kind]
    return served(
        plant(GROUNDS[name].world(), [fault]), name, any(hasattr(fault, m) for m in ("log_odds", "train", "recipe"))
    )


# -- the registry


def test_there_are_enough_faults_of_every_family():
    assert len(FAULTS) >= 16
    assert {family_of(fact(kind, "category")) for kind in FAULTS} == {"data", "model", "deployment"}
    assert {kind for kind, o in FAULTS.items() if o.held_back} == {"bad_release", "sentinel_value"}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_says_what_it_is(kind):
    fault = drawn(kind, "strong")
    assert fault.name == kind and fault.right_remedies and list(FAULTS[kind].dials) == ["weak", "medium", "strong"]
    assert fault_of(fault.to_dict()) == fault
    assert fault_of(json.loads(canonical(fault.to_dict()))) == fault  # as it comes back from a file


@pytest.mark.parametrize("kind", [k for k, o in FAULTS.items() if not o.everywhere])
def test_a_fault_sits_on_a_describable_slice(kind):
    fault, (X, _) = drawn(kind, "strong"), people(HOME[kind])
    assert 1 <= len(fault.predicate) <= 2
    assert 0.08 <= origin(fault, X).mean() <= 0.15 * FAULTS[kind].wider
    assert kind == "renamed_category" or not fault.bends & {o.feature for o in fault.predicate}


@pytest.mark.parametrize("kind", FAULTS)
def test_its_rows_differ_and_others_do_not(kind):
    "What is sent, answered, taught or true changes on the fault's rows alone."
    fault, name = drawn(kind, "strong"), HOME[kind]
    X, time = people(name)
    plain = GROUNDS[name].world()
    bent, model = plant(plain, [fault]), plain_model(name, "v2")
    sent, mine = bent.serve(X, time), origin(fault, X)
    changed = {
        "sent": ~(sent.eq(X) | (sent.isna() & X.isna())).all(axis=1).to_numpy(),
        "true": bent.log_odds(X, time) != plain.log_odds(X, time),
        "kept": (bent.keep(X, np.ones(len(X), bool), time) < 1) & (kind != "label_shift"),
        "deployed": np.abs(bent.answer(bent.deploy(model, "v2"), X, time) - plain.answer(model, X, time)) > 1e-6,
        "slow or down": np.any([a != time.index for a in bent.operate(time.index, time.index, X, time)], axis=0),
    }
    touched = {what: rows for what, rows in changed.items() if rows.any()}
    for what, rows in touched.items():
        assert not (rows & ~mine).any(), what
        early = rows & (time < pd.Timestamp(SINCE)).to_numpy()
        # a region's own rule is older than the date from which it is common
        always = what == "kept" or (what == "true" and kind != "concept_drift")
        assert fault.since is None or always or not early.any(), what
    tables = [
        not plain_table(name, v).equals(bent.train(plain_table(name, v), v, np.random.default_rng(0))) for v in VERSIONS
    ]
    rest = (
        bent.threshold("v2") != 0.5 or bent.recipe("v2") != {} or bent.served(VERSIONS) != "v2" or kind == "label_shift"
    )
    assert touched or any(tables) or rest


@pytest.mark.parametrize("kind", [k for k in FAULTS if hasattr(FAULTS[k], "train")])
def test_training_rows_of_others_stay(kind):
    fault, name = drawn(kind, "strong"), HOME[kind]
    for version in VERSIONS:
        before, after = (
            plain_table(name, version),
            fault.train(plain_table(name, version), version, np.random.default_rng(0)),
        )
        a, b = (table[~fault.rows(features(table))].reset_index(drop=True) for table in (before, after))
        assert a.equals(b)


# -- harm


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - SYMPTOMS))
def test_the_harm_grows_with_the_dial(kind):
    fault = drawn(kind, "strong")
    weak, strong = (with_fault(kind, dial) for dial in ("weak", "strong"))
    plain = served(GROUNDS[HOME[kind]].world(), HOME[kind], False)
    at_rest = plain.harm[match(fault.predicate, plain.sent)].mean() if kind != "renamed_category" else plain.harm.mean()
    a, b = (float(o.harm[fault.rows(o.sent, o.time)].mean()) for o in (weak, strong))
    if kind == "renamed_category":  # the dial is the share of the level's requests
        a, b = (float(o.harm.mean()) for o in (weak, strong))
    assert b > at_rest and b >= a, (at_rest, a, b)
    if FAULTS[kind].__dataclass_fields__["provable"].default:
        assert b - at_rest > (0.004 if kind == "renamed_category" else 0.03), (at_rest, a, b)


@pytest.mark.parametrize("kind", sorted(SYMPTOMS))
def test_other_symptoms_grow_with_the_dial(kind):
    fault, found = drawn(kind, "strong"), {}
    for dial in ("weak", "strong"):
        o = with_fault(kind, dial)
        mine = fault.rows(o.sent, o.time)
        found[dial] = o.latency[mine].mean() if kind == "slow_route" else (o.status[mine] >= 500).mean()
        assert (o.latency[~mine] == 10).all() and (o.status[~mine] == 200).all()
    assert found["strong"] > found["weak"] > (200 if kind == "slow_route" else 0.2)


def test_no_fault_is_no_harm():
    plain = GROUNDS["machines"].world()
    assert plant(plain, []) is plain
    assert served(GROUNDS["loans"].world(), "loans", False).harm.mean() < 0.07


def test_a_bent_model_is_saved_and_a_refit_is_rid_of_it():
    fault, name = drawn("miscalibrated_slice", "strong"), HOME["miscalibrated_slice"]
    X, table = people(name)[0], plain_table(name, "v2")
    bent = fault.deploy(plain_model(name, "v2"), "v2")
    content = dumps_stable(bent)
    assert (loads_trusted(content, sha(content)).predict_proba(X) == bent.predict_proba(X)).all()
    again = fit(bent, features(table), table["label"] == "yes", table["weight"])
    assert np.abs(again.predict_proba(X) - plain_model(name, "v2").predict_proba(X)).max() < 1e-6


# -- several at once


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("loans", ["neglected_slice", "unit_scale"]),
        ("claims", ["renamed_category", "label_flips", "outage"]),
        ("machines", ["null_burst", "concept_drift", "broken_fallback", "duplicate_rows"]),
        ("loans", ["label_shift", "under_represented", "slow_route", "sentinel_value", "miscalibrated_slice"]),
        ("machines", ["leaked_feature", "wrong_preprocessor"]),
    ],
)
def test_faults_drawn_together_can_be_told_apart(name, kinds):
    X, _ = people(name)
    rng = np.random.default_rng(len(kinds))
    found = draw_many(kinds, GROUNDS[name], X, "medium", rng, since=SINCE)
    assert [o.name for o in found] == kinds
    for i, a in enumerate(found):
        for b in found[:i]:
            assert overlap(origin(a, X), origin(b, X)) <= OVERLAP
            assert not a.bends & b.bends


@pytest.mark.parametrize(
    "kind, ground, reason", [("renamed_category", "breast_cancer", "No category"), ("leaked_feature", "claims", None)]
)
def test_a_fault_that_does_not_fit_says_why(kind, ground, reason):
    X, _ = people(ground)
    if reason is None:
        assert draw_many([kind], GROUNDS[ground], X, "weak", np.random.default_rng(0))
        return
    with pytest.raises(Reject, match=reason):
        draw_many([kind], GROUNDS[ground], X, "weak", np.random.default_rng(0))


# -- who may know


@pytest.mark.parametrize(
    "module", [m for m in modules() if m.split(".")[1] in {"signals", "catalog", "discover", "remedy", "publish"}]
)
def test_nobody_who_searches_or_judges_imports_a_fault(module):
    assert [o for o in imports_of(module) if o.startswith("failwb.faults")] == []
