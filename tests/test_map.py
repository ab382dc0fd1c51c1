"""The failure map: places that stay, whatever comes, in whatever order, from nothing up to many rows and columns."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from house import ROOT

from failwb.discover.map import explain_axes, fit_plane, placed_failures
from failwb.discover.map import map as draw
from failwb.publish.explorer import chart_data
from failwb.record.contract import Contract, Field
from failwb.record.tables import table_bytes

KEYS = {"fit_failures": 400, "cells": 40, "region_share": 0.8, "landscape_rows": 5000}
PATTERN = {"id": "p1", "name": "channel is partner", "confirmed": True}
KNOWN = {"name": "t", "version": "1", "owner": "o@example", "review_by": "2027-01-01", "target": "y"}
FOUR = {
    "amount": Field(type="number", nullable=True),
    "age": Field(type="integer", role="quasi"),
    "channel": Field(type="category", nullable=True),
    "ward": Field(type="category", role="sensitive"),
}


def contract(columns: dict[str, Field]) -> Contract:
    return Contract(**KNOWN, positive="1", negative="0", columns=columns)


def requests(n: int, rng: np.random.Generator) -> pd.DataFrame:
    channel = rng.choice(["web", "branch", "partner"], n, p=[0.5, 0.3, 0.2]).astype(object)
    amount = rng.lognormal(8, 1, n) * np.where(channel == "partner", 50, 1)
    X = pd.DataFrame({"amount": amount, "age": rng.integers(18, 90, n).astype(float), "channel": channel})
    X.loc[rng.random(n) < 0.05, ["amount"]] = np.nan
    X.loc[rng.random(n) < 0.02, ["channel"]] = None
    return X.assign(ward=rng.choice(["a", "b"], n))


def world(
    X: pd.DataFrame, known: object, name: str = "e", segment: int = 1, time: str = "2026-01-01"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    "The catalog's rows and the events of requests of `time` that all failed; `known` is when their labels came."
    when = pd.Series(pd.to_datetime(known, utc=True), index=X.index)
    own = pd.DataFrame({"event_id": [f"{name}{i:06d}" for i in range(len(X))], "split": "develop"}, index=X.index)
    own = own.assign(time=pd.Timestamp(time, tz="UTC"), subject=own["event_id"])
    came = own.assign(ingested=own["time"], label_time=when, loss=1.0, segment=f"events-{segment:05d}")
    events = pd.concat([came, X.add_prefix("x.")], axis=1)
    pattern = np.where(X["channel"] == "partner", "p1", None) if "channel" in X else None
    rows = own.assign(failure_id="f" + own["event_id"], symptom="misprediction", severity="S1", withdrawn=False)
    return rows.assign(pattern=pattern), events


def places(drawn: dict) -> pd.DataFrame:
    return drawn["points.parquet"].set_index("event_id")[["x", "y"]]


def both(*worlds: tuple[pd.DataFrame, pd.DataFrame]) -> list[pd.DataFrame]:
    return [pd.concat(parts, ignore_index=True) for parts in zip(*worlds, strict=True)]


def moved(before: pd.DataFrame, after: pd.DataFrame) -> float:
    "The furthest that an old point went, as a share of the old map's width."
    way = np.linalg.norm(after.loc[before.index].to_numpy() - before.to_numpy(), axis=1)
    return float(way.max() / np.ptp(before.to_numpy(), axis=0).max())


# -- stability


def test_a_later_batch_moves_nothing():
    rng = np.random.default_rng(0)
    old = world(requests(1000, rng), "2026-02-01")
    strange = requests(20, rng).assign(amount=1e12, channel="fax")  # unlike anything that came before
    drawn = draw(*old, [], contract(FOUR), **KEYS)
    grown = draw(*both(old, world(strange, "2026-03-01", "late")), [], contract(FOUR), **KEYS)
    assert moved(places(drawn), places(grown)) == 0 and len(places(grown)) == 1020
    assert (drawn["plane.json"]["low"], drawn["plane.json"]["axes"]) == (
        grown["plane.json"]["low"],
        grown["plane.json"]["axes"],
    )


def later(n: int, rng: np.random.Generator, way: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    "`n` failures that come later: fresh ones, an old log in a new segment, or late labels of an old segment."
    when, known = ("2025-05-01", "2025-06-01") if way == "backfill" else ("2026-01-01", "2026-03-01")
    return world(requests(n, rng), known, "a", 1 if way == "late labels" else 2, when)  # "a" sorts before all others


@pytest.mark.parametrize("way", ["fresh", "backfill", "late labels"])
@pytest.mark.parametrize("n", [20, 300, 1000, 5000])
def test_two_percent_more_move_no_point_by_more_than_one_percent(n, way):
    rng = np.random.default_rng(n)
    X = requests(n, rng)
    labelled = pd.Timestamp("2026-01-03", tz="UTC") + pd.to_timedelta(np.arange(n), unit="min")
    old = world(X, labelled)
    keys = KEYS | {"fit_failures": 2000}
    grown = both(old, later(max(1, n // 50), rng, way))
    before, after = (places(draw(*w, [], contract(FOUR), **keys)) for w in (old, grown))
    assert moved(before, after) <= 0.01


def test_five_percent_of_corrected_labels_among_the_first_failures_move_it_a_little():
    failures, events = world(requests(3000, np.random.default_rng(1)), "2026-02-01")
    keys = KEYS | {"fit_failures": 2000}
    before = draw(failures, events, [], contract(FOUR), **keys)
    after = draw(failures.assign(withdrawn=np.arange(3000) % 20 == 0), events, [], contract(FOUR), **keys)
    kept = places(after).index
    assert 0 < moved(places(before).loc[kept], places(after)) <= 0.1


def test_an_old_prediction_with_a_late_label_is_new():
    rng = np.random.default_rng(2)
    old, late = world(requests(500, rng), "2026-02-01"), world(requests(5, rng), "2026-06-01", "a")
    assert list(placed_failures(*both(late, old))["event_id"].tail(5)) == [f"a{i:06d}" for i in range(5)]


# -- determinism

PROGRAM = """
import sys
sys.path.insert(0, "tests")
import numpy as np
from test_map import FOUR, KEYS, PATTERN, contract, draw, requests, sha_of, world
print(sha_of(draw(*world(requests(600, np.random.default_rng(3)), "2026-02-01"), [PATTERN], contract(FOUR), **KEYS)))
"""


def sha_of(drawn: dict) -> str:
    from failwb.record.tables import canonical, sha

    tables = [sha(table_bytes(drawn[name])) for name in ("points.parquet", "landscape.parquet")]
    return sha(canonical([tables, drawn["plane.json"], drawn["summary.json"]]))


def test_neither_row_order_nor_hash_seed_has_a_say():
    failures, events = world(requests(600, np.random.default_rng(3)), "2026-02-01")
    mixed = failures.sample(frac=1, random_state=1), events.sample(frac=1, random_state=2)
    here = {sha_of(draw(*w, [PATTERN], contract(FOUR), **KEYS)) for w in ((failures, events), mixed)}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        here.add(done.stdout.strip() or done.stderr)
    assert len(here) == 1, here


# -- the edges


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_failures(n):
    failures, events = world(requests(50, np.random.default_rng(4)), "2026-02-01")
    drawn = draw(failures.head(n), events, [PATTERN], contract(FOUR), **KEYS)
    assert drawn["summary.json"]["points"] == len(drawn["points.parquet"]) == n
    assert np.isfinite(places(drawn).to_numpy(float)).all()
    data = chart_data(drawn["points.parquet"], drawn["plane.json"], drawn["landscape.parquet"], {}, 10)
    assert len(data["x"]) == n and json.dumps(data, allow_nan=False)


def test_failures_that_are_all_alike_lie_on_one_point():
    X = pd.concat([requests(1, np.random.default_rng(5))] * 40, ignore_index=True)
    drawn = draw(*world(X.assign(channel="partner"), "2026-02-01"), [PATTERN], contract(FOUR), **KEYS)
    assert len(places(drawn).drop_duplicates()) == 1
    region = drawn["plane.json"]["regions"][0]
    assert (region["holds"], region["purity"]) == (1, 1) and region["outlines"]


@pytest.mark.parametrize("subjects, regions", [(0, 0), (9, 0), (10, 1)])
def test_a_pattern_has_a_region_only_for_enough_people(subjects, regions):
    failures, events = world(requests(300, np.random.default_rng(6)), "2026-02-01")
    failures["pattern"] = np.where(np.arange(300) < subjects, "p1", None)
    found = draw(failures, events, [PATTERN], contract(FOUR), **KEYS)
    assert found["summary.json"]["regions"] == regions and found["summary.json"]["without_region"] == 1 - regions


def test_withdrawn_and_held_out_failures_are_not_on_it():
    failures, events = world(requests(300, np.random.default_rng(7)), "2026-02-01")
    failures.loc[:9, "withdrawn"] = True
    drawn = draw(failures, events.iloc[:200], [], contract(FOUR), **KEYS)
    assert drawn["summary.json"]["points"] == 190 and drawn["summary.json"]["unplaced"] == 100


def test_a_prediction_that_failed_twice_is_one_point_with_its_pattern():
    failures, events = world(requests(300, np.random.default_rng(8)), "2026-02-01")
    slow = failures.head(50).assign(symptom="latency", severity="S4", pattern=None)
    slow["failure_id"] = "g" + slow["event_id"]
    drawn = draw(pd.concat([slow, failures]), events, [], contract(FOUR), **KEYS)["points.parquet"]
    own = failures["pattern"].notna()
    assert len(drawn) == 300
    outside = set(slow["event_id"]) - set(failures.loc[own, "event_id"])
    assert set(drawn.loc[drawn["symptom"] == "latency", "event_id"]) == outside
    assert set(drawn.dropna(subset="pattern")["event_id"]) == set(failures.loc[own, "event_id"])


def test_five_hundred_columns_with_infinities_and_holes():
    rng = np.random.default_rng(9)
    columns = {f"n{i}": Field(type="number", nullable=True) for i in range(400)}
    columns |= {f"c{i}": Field(type="category", nullable=True) for i in range(100)}
    X = pd.DataFrame(rng.normal(size=(500, 400)), columns=list(columns)[:400])
    X = X.mask(rng.random(X.shape) < 0.1).assign(n0=np.nan, n1=7.0, n2=np.inf)
    words = {f"c{i}": rng.choice([f"v{j}" for j in range(60)], 500).astype(object) for i in range(100)}
    X = pd.concat([X, pd.DataFrame(words)], axis=1)
    drawn = draw(*world(X, "2026-02-01"), [], contract(columns), **KEYS)
    assert np.isfinite(places(drawn).to_numpy(float)).all() and (places(drawn).std() > 0).all()
    assert drawn["plane.json"]["axes"][0]


def test_the_time_grows_with_the_failures_no_faster_than_they_do():
    rng = np.random.default_rng(10)
    spent = {}
    for n in (4_000, 40_000):
        failures, events = world(requests(n, rng), "2026-02-01")
        began = time.process_time()
        draw(failures, events, [PATTERN], contract(FOUR), **KEYS)
        spent[n] = time.process_time() - began
    assert spent[40_000] <= 20 * spent[4_000], spent


# -- privacy


def test_sensitive_fields_and_exact_quasi_numbers_have_no_say():
    rng = np.random.default_rng(11)
    X = requests(400, rng)
    plane = fit_plane(X, contract(FOUR))
    assert (plane.place(X.assign(ward="z")) == plane.place(X)).all()
    assert (fit_plane(X.assign(ward="z"), contract(FOUR)).place(X) == plane.place(X)).all()
    ages = plane.place(pd.concat([X.head(1)] * 72, ignore_index=True).assign(age=np.arange(18.0, 90)))
    assert 2 <= len(np.unique(ages, axis=0)) <= 10  # tenths
    quasi = contract(FOUR | {"channel": Field(type="category", role="quasi", nullable=True)})
    named = [a for axis in explain_axes(fit_plane(X, quasi), X) for a in axis if a["field"] == "channel"]
    assert named and all(a["low"] == a["high"] == "" for a in named)


def test_a_cell_of_few_people_is_left_out():
    failures, events = world(requests(400, np.random.default_rng(12)), "2026-02-01")
    cells = draw(failures, events, [], contract(FOUR), **KEYS | {"cells": 8})["landscape.parquet"]
    one = draw(failures, events.assign(subject="same"), [], contract(FOUR), **KEYS | {"cells": 8})["landscape.parquet"]
    assert len(cells) and (cells["predictions"] >= 10).all() and len(one) == 0
