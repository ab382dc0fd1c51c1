"""The benchmark of null tables in small: what it draws, what it counts, and that it goes on where it stopped."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from house import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks import nulls, peers  # noqa: E402
from benchmarks.null_tables import HELD, LIFT, exchanged, table_of  # noqa: E402
from failwb.record.predicate import match  # noqa: E402
from failwb.record.tables import features  # noqa: E402

SPLIT = nulls.PARAMS["split"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "Twelve tables with nothing in them and six with a slice, as failwb, failwb without floors, and a tree see them."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nulls, "CACHE", tmp_path_factory.mktemp("cache"))
        jobs = nulls.mixed(*([nulls.Job(11, k, planted) for k in range(n)] for n, planted in ((12, False), (6, True))))
        tools = ("failwb", "floors_off", "errortree")
        nulls.complete(tools, jobs)
        yield tools, jobs, {line.tool + " " + line.kind: line.figures() for line in nulls.rows_of(tools, jobs)}


def test_failwb_confirms_nothing_where_others_claim_and_finds_what_is_there(small):
    _, jobs, told = small
    assert sum(not j.planted for j in jobs) == 12 == told["failwb confirmed"]["tables"]
    assert told["failwb confirmed"]["wrong"] <= 1 and told["failwb claimed"]["mean"] <= nulls.CHANCE
    assert told["floors_off claimed"]["wrong"] >= 10
    assert told["floors_off confirmed"]["wrong"] <= 3  # P(more) below 0.001 at the stated rate
    assert told["errortree claimed"]["share"] == 1.0 and told["errortree claimed"]["mean"] > 1
    assert told["failwb confirmed"]["found"] >= 0.5 and told["errortree claimed"]["found"] >= 0.5


def test_a_second_run_does_nothing_and_an_interrupted_one_goes_on(small):
    tools, jobs, _ = small
    before = {p: p.read_bytes() for p in (nulls.stored(t, j) for t in tools for j in jobs)}
    written = {p: p.stat().st_mtime_ns for p in before}
    nulls.complete(tools, jobs)
    assert {p: p.stat().st_mtime_ns for p in before} == written
    lost = nulls.stored("failwb", jobs[3])
    lost.unlink()
    nulls.complete(tools, jobs)
    again = {p: json.loads(p.read_text()) | {"seconds": 0} for p in before}
    assert again == {p: json.loads(b) | {"seconds": 0} for p, b in before.items()}


@pytest.mark.parametrize("planted", [False, True])
def test_failures_depend_on_the_planted_slice_and_on_nothing_else(planted):
    "Correlations of features with losses are as small as chance makes them; the slice errs as often as it is said to."
    z, ratio = [], []
    for k in range(12):
        table = table_of(3, k, planted, SPLIT)
        X, loss = features(table.rows), table.rows["loss"].to_numpy()
        inside = match(table.planted, X) if planted else np.zeros(len(X), bool)
        if planted:
            assert HELD[0] * 0.8 <= inside.mean() <= HELD[1] * 1.2
            ratio.append(loss[inside].mean() / loss[~inside].mean())
        for f in X:
            code = X[f].rank() if pd.api.types.is_numeric_dtype(X[f]) else pd.Series(pd.factorize(X[f])[0])
            known = X[f].notna().to_numpy() & ~inside
            z.append(np.sqrt(known.sum()) * np.corrcoef(code[known], loss[known])[0, 1])
    assert abs(np.mean(np.square(z)) - 1) < 0.6, np.mean(np.square(z))  # 1 by chance; subjects add a little
    assert not planted or 0.8 * LIFT < np.mean(ratio) < 1.1 * LIFT  # a risk is at most 0.95


def test_tables_are_those_of_their_seed():
    first, again, other = (table_of(seed, 5, True, SPLIT) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.rows, again.rows)
    pd.testing.assert_frame_equal(first.reference, again.reference)
    assert first.planted == again.planted != other.planted
    parts = first.rows.groupby("subject")["split"].nunique()
    assert (parts == 1).all() and set(first.open["split"]) == {"develop", "select"}


def test_one_process_for_many_folders_answers_as_one_for_each(tmp_path):
    folders = [tmp_path / name for name in ("first", "empty", "third one")]
    for k in (0, 2):
        exchanged(table_of(4, k, True, SPLIT), folders[k])
    folders[1].mkdir()
    told = list(peers.run_many("errortree", folders, 60))
    assert "FileNotFoundError" in told[1]["failed"] and told[1]["seconds"] > 0
    for k in (0, 2):
        alone = peers.run("errortree", folders[k], 60)
        assert alone["patterns"] == told[k]["patterns"] and told[k]["patterns"]


def test_limits_hold_for_each_folder(tmp_path):
    folders = [tmp_path / str(k) for k in range(2)]
    for k, folder in enumerate(folders):
        exchanged(table_of(4, k, False, SPLIT), folder)
    assert [o["failed"] for o in peers.run_many("retrain", folders, 1)] == ["time", "time"]
    assert [o["failed"] for o in peers.run_many("errortree", folders, 60, 0.2)] == ["memory", "memory"]


def test_a_peer_that_is_not_installed_is_reported(small, monkeypatch, capsys):
    _, jobs, _ = small
    monkeypatch.setattr(peers, "PLACE", nulls.CACHE / "no peers")
    tools = ("failwb", "sliceline")
    nulls.complete(tools, jobs)
    figures = nulls.report(nulls.rows_of(tools, jobs))
    assert "sliceline   claimed    not installed. Hint: make peers" in capsys.readouterr().out
    assert not any(name.startswith("sliceline") for name in figures)


@pytest.mark.parametrize(
    "k, n, interval", [(0, 10, (0, 0.3085)), (5, 10, (0.1871, 0.8129)), (10, 10, (0.6915, 1)), (0, 0, (0, 1))]
)
def test_clopper_pearson(k, n, interval):
    assert nulls.clopper_pearson(k, n) == pytest.approx(interval, abs=1e-4)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"failwb_confirmed_share": 0.09, "failwb_confirmed_p_above_stated": 0.0002}, "9.0% of tables have"),
        ({"failwb_claimed_mean": 1.2}, "claims 1.20 slices"),
        ({"failwb_confirmed_found": 0.1, "failwb_confirmed_found_high": 0.3}, "finds only 10%"),
    ],
)
def test_a_broken_promise_is_named(change, words):
    fine = {
        "failwb_confirmed_share": 0.02,
        "failwb_confirmed_p_above_stated": 1.0,
        "failwb_claimed_mean": 0.1,
        "failwb_confirmed_found": 0.8,
        "failwb_confirmed_found_high": 0.9,
    }
    assert nulls.promises_broken(fine) == []
    [broken] = nulls.promises_broken(fine | change)
    assert words in broken
