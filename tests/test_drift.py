"""Mergeable histograms and what is recognised in them: any order, any parts, any values, few false alarms."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from failwb.record.tables import read_table
from failwb.signals.bins import (
    Cells,
    Levels,
    frame_blocks,
    kept,
    merged,
    read_reference,
    reference_bytes,
    reference_of,
)
from failwb.signals.changes import column_changes
from failwb.signals.distances import shift_of
from failwb.signals.intervals import holm
from failwb.signals.shift import segment_shifts
from failwb.signals.skew import reached, recognised, renamed, unit_skew

ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-5, 5).map(float),
    st.just(float("nan")),
    st.floats(-1e-300, 1e-300),
)
NAMES = st.sampled_from(["a", "b", "ä", "", "a long level", None])


def frame(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame({"n": np.array([r[0] for r in rows], float), "t": pd.Series([r[1] for r in rows], dtype="str")})


ROWS = st.lists(st.tuples(ANY, NAMES), max_size=60)


def reference_for(rows: list[tuple]):
    table = frame(rows)
    return reference_of(lambda: frame_blocks(table, ["t"]), len(table))


@settings(deadline=None, max_examples=25)
@given(ROWS, ROWS, st.lists(st.integers(0, 6), min_size=60, max_size=60), st.randoms(use_true_random=False))
def test_parts_in_any_order_equal_one_pass(before, now, dealt, order):
    reference, table = reference_for(before), frame(now)
    whole = reference.of(frame_blocks(table, ["t"]))
    deal = np.array(dealt[: len(table)], int)
    parts = [reference.of(frame_blocks(table[deal == k], ["t"], rows=7)) for k in range(7)]
    order.shuffle(parts)
    assert merged(parts) == whole
    assert whole["n"].rows == whole["t"].rows == len(table)


@settings(deadline=None, max_examples=15)
@given(ROWS)
def test_a_stored_reference_is_the_same_and_so_are_its_bytes(rows):
    reference = reference_for(rows)
    stored = reference_bytes(reference)
    again = read_reference(stored)
    assert again.tally == reference.tally and again.id == reference.id and reference_bytes(again) == stored


@settings(deadline=None, max_examples=25)
@given(ROWS, ROWS)
def test_distances_are_where_distances_lie(before, now):
    reference = reference_for(before)
    for f in shift_of(reference, reference.of(frame_blocks(frame(now), ["t"]))).values():
        assert np.isnan(f["ks"]) or -1e-12 <= f["ks"] <= 1 + 1e-12
        assert np.isnan(f["js"]) or 0 <= f["js"] <= 1 + 1e-9
        assert f["psi"] >= -1e-12 and 0 <= f["p"] <= 1
        assert np.isnan(f["wasserstein"]) or f["wasserstein"] >= 0


CASES = {
    "all missing": (np.full(500, np.nan), np.full(400, np.nan), float("nan")),
    "constant": (np.full(500, 3.0), np.full(400, 3.0), 0.0),
    "another constant": (np.full(500, 3.0), np.full(400, 4.0), 1.0),
    "infinite": (np.r_[np.zeros(500), np.inf], np.r_[np.zeros(250), np.full(250, np.inf)], 0.5 - 1 / 501),
    "became missing": (np.arange(500.0), np.full(400, np.nan), float("nan")),
}


@pytest.mark.parametrize("name", CASES)
def test_columns_without_a_spread(name):
    before, now, expected = CASES[name]
    reference = reference_of(lambda: frame_blocks(pd.DataFrame({"x": before})), len(before))
    found = shift_of(reference, reference.of(frame_blocks(pd.DataFrame({"x": now}))))["x"]
    assert found["ks"] == pytest.approx(expected, nan_ok=True)
    if name == "became missing":
        assert found["missing_share"] == 1.0 and found["p"] < 1e-9


@pytest.mark.parametrize("shape", ["normal", "lognormal", "whole", "two clusters", "far from zero"])
@pytest.mark.parametrize("bend", ["none", "moved", "times 2.54", "times 1000", "filled"])
def test_distances_are_those_of_scipy(shape, bend):
    rng, n = np.random.default_rng(7), 60_000

    def draw():
        return {
            "normal": lambda: rng.normal(size=n),
            "lognormal": lambda: rng.lognormal(size=n),
            "whole": lambda: rng.integers(0, 12, n) * 1.0,
            "two clusters": lambda: np.where(rng.random(n) < 0.4, rng.normal(-3, 0.2, n), rng.normal(2, 1, n)),
            "far from zero": lambda: 1.6e9 + rng.exponential(1e6, n),
        }[shape]()

    x, y = draw(), draw()
    spread = np.subtract(*np.quantile(x, [0.75, 0.25]))
    bent = {
        "none": y,
        "moved": y + 0.1 * spread,
        "times 2.54": y * 2.54,
        "times 1000": y * 1000,
        "filled": np.where(rng.random(n) < 0.2, x[:100].mean(), y),
    }
    now = bent[bend]
    reference = reference_of(lambda: frame_blocks(pd.DataFrame({"x": x})), n)
    found = shift_of(reference, reference.of(frame_blocks(pd.DataFrame({"x": now}))))["x"]
    assert abs(found["ks"] - stats.ks_2samp(x, now, method="asymp").statistic) <= 1e-3
    exact = stats.wasserstein_distance(x, now)
    assert abs(found["wasserstein"] - exact) <= 0.01 * max(exact, 0.01 * spread)  # below 1% of the spread it is noise


@pytest.mark.parametrize("shape", ["lognormal", "very lognormal", "student", "cauchy", "two decimals"])
def test_the_wasserstein_distance_of_heavy_tails_that_did_not_change(shape):
    "What is left of a distance that is all chance is within 1% of it."
    n = 200_000
    for seed in range(3):
        rng = np.random.default_rng(seed)
        draw = {
            "lognormal": lambda rng=rng: rng.lognormal(sigma=1.5, size=n),
            "very lognormal": lambda rng=rng: rng.lognormal(sigma=3, size=n),
            "student": lambda rng=rng: rng.standard_t(3, n),
            "cauchy": lambda rng=rng: rng.standard_cauchy(n),
            "two decimals": lambda rng=rng: np.round(rng.gamma(2, 300, n), 2),
        }[shape]
        x, y = draw(), draw()
        reference = reference_of(lambda x=x: frame_blocks(pd.DataFrame({"x": x})), n)
        found = shift_of(reference, reference.of(frame_blocks(pd.DataFrame({"x": y}))))["x"]["wasserstein"]
        assert found == pytest.approx(stats.wasserstein_distance(x, y), rel=0.01)


@settings(deadline=None, max_examples=20)
@given(st.lists(ANY, max_size=60), st.lists(st.integers(0, 6), min_size=60, max_size=60), st.integers(0, 3))
def test_parts_of_a_column_in_cells_equal_one_pass(values, dealt, seed):
    "As above, for columns whose bins are unions of cells: those of many values."
    rng = np.random.default_rng(seed)
    before = pd.DataFrame({"x": rng.standard_t(2, 3000) * 10.0 ** rng.integers(-3, 9) + rng.integers(-1000, 1000)})
    reference = reference_of(lambda: frame_blocks(before), len(before))
    assert isinstance(reference.rulers["x"], Cells)
    now = pd.DataFrame({"x": np.array([*values, *before["x"].head(40)], float)})
    deal = np.resize(np.array(dealt), len(now))
    parts = [reference.of(frame_blocks(now[deal == k], rows=7)) for k in range(7)]
    whole = reference.of(frame_blocks(now))
    assert merged(parts[::-1]) == whole and whole["x"].rows == len(now)
    x, huge = now["x"].to_numpy(), 3.5e38  # beyond what a float32 holds, from any centre here
    assert whole["x"].other.tolist() == [np.isnan(x).sum(), (x < -huge).sum(), (x > huge).sum()]
    assert (whole["x"].sums >= 0).all() and (whole["x"].sums <= whole["x"].counts * reference.rulers["x"].grain).all()
    stored = read_reference(reference_bytes(reference))
    assert stored.id == reference.id and stored.of(frame_blocks(now)) == whole


def test_bins_of_cells_hold_what_lies_between_their_ends():
    x = np.random.default_rng(0).normal(3, 2, 50_000)
    reference = reference_of(lambda: frame_blocks(pd.DataFrame({"x": x})), len(x))
    ruler, told = reference.rulers["x"], reference.tally["x"]
    place = np.searchsorted(ruler.edges, x - ruler.centre, side="right")
    moved = np.abs(told.counts - np.bincount(place, minlength=len(told.counts))).sum()
    assert moved <= 20  # rounding to a float32 moves a few
    low = np.append(ruler.edges[:1], ruler.edges)
    mean = low + told.sums / np.maximum(told.counts, 1) / ruler.grain * ruler.width
    exact = np.bincount(place, weights=x - ruler.centre, minlength=len(low)) / np.maximum(told.counts, 1)
    held = told.counts > 50
    assert held.sum() > 100 and (np.abs(mean - exact)[held] <= 0.02 * ruler.width[held]).all()


def test_drift_loads_neither_pandas_nor_scipy(tmp_path):
    "Half of the time that a million rows take would go into loading them."
    import subprocess
    import sys

    rng = np.random.default_rng(0)
    x = np.where(rng.random(5000) < 0.1, np.nan, rng.normal(size=5000))
    table = pd.DataFrame({"x": x, "t": rng.choice(["a", "b", None], 5000)})
    table.to_parquet(tmp_path / "t.parquet", index=False)
    (tmp_path / "r").write_bytes(reference_bytes(reference_of(lambda: frame_blocks(table, ["t"]), len(table))))
    program = """
import sys
from failwb.signals.bins import parquet_blocks, read_reference
from failwb.signals.distances import shift_of
reference = read_reference(sys.argv[1] + "/r")
found = shift_of(reference, reference.of(parquet_blocks(sys.argv[1] + "/t.parquet", ["t"])))
print(found["x"]["ks"], found["t"]["ks"], *{"pandas", "scipy"} & set(sys.modules))
"""
    told = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0.0", "0.0"]


def test_a_broken_column_is_no_other_rule():
    "A column that comes a thousand times too large in one branch is named; where the rule changed, none is."
    rng, n = np.random.default_rng(3), 6000
    for broken in (True, False):
        X = pd.DataFrame({"branch": rng.choice(["north", "south"], n), "pay": rng.lognormal(10, 0.5, n)})
        time = pd.Series(pd.date_range("2026-01-01", periods=n, freq="20min"))
        hit = ((X["branch"] == "south") & (time >= "2026-02-15")).to_numpy()
        chance = 1 / (1 + np.exp(4 * (np.log(X["pay"]) - 10)))
        outcome = rng.random(n) < (chance if broken else np.where(hit, 1 - chance, chance))
        sent = X["pay"] * np.where(hit & broken, 1000, 1)
        score = 1 / (1 + np.exp(np.clip(4 * (np.log(sent) - 10), -50, 50)))
        seen = pd.Series(rng.lognormal(10, 0.5, n))
        evidence = recognised(sent, seen, time)["evidence"]
        assert ("invalid-range-or-unit" in evidence) == broken
        loss = ((score > 0.5) != outcome) * 1.0
        about = pd.DataFrame(
            {"time": time, "subject": np.arange(n), "outcome": outcome * 1.0, "score": score, "loss": loss}
        )
        rows = {"pay": reached(sent, seen, evidence)}
        assert not broken or (rows["pay"] == hit).mean() > 0.999
        X = X[["branch"]].assign(noise=rng.normal(size=n))
        told = segment_shifts(X, about, ["branch"], rng.integers(0, 3, n), rows)
        told = told[(told["q"] <= 0.05) & (told["kind"] == "concept-drift")]
        assert {"", "south"} <= set(told["level"])
        assert set(told.loc[told["level"] != "north", "because"]) == {"pay" if broken else ""}


def test_ten_thousand_levels_and_new_ones():
    rng = np.random.default_rng(0)
    before, now = (pd.DataFrame({"id": [f"l{k}" for k in rng.integers(lo, lo + 10_000, 50_000)]}) for lo in (0, 5_000))
    reference = reference_of(lambda: frame_blocks(before), len(before))
    tally = reference.of(frame_blocks(now, rows=4_096))
    assert tally["id"].levels == now["id"].value_counts().sort_index().to_dict()
    p, q = (t["id"].value_counts(normalize=True) for t in (before, now))
    assert shift_of(reference, tally)["id"]["ks"] == pytest.approx(p.sub(q, fill_value=0).abs().sum() / 2)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.dictionaries(st.text(max_size=2), st.integers(1, 9), max_size=9), min_size=1, max_size=5))
def test_a_limit_of_names_merges_exactly(parts):
    def levels(d, most=4):
        names, rest = kept(d, 0, most)
        return Levels(names, 0, rest, most)

    whole: dict[str, int] = {}
    for d in parts:
        whole = {k: whole.get(k, 0) + d.get(k, 0) for k in {**whole, **d}}
    total = levels(parts[0])
    for d in parts[1:]:
        total = total + levels(d)
    assert total == levels(whole)


def test_memory_is_that_of_a_block(tmp_path):
    "A file four times as long needs hardly more memory."
    import tracemalloc

    from failwb.signals.bins import parquet_blocks

    rng, peaks = np.random.default_rng(0), []
    for n in (200_000, 800_000):
        pd.DataFrame(rng.normal(size=(n, 4))).add_prefix("x").to_parquet(tmp_path / "t.parquet", index=False)
        reference = reference_of(lambda: frame_blocks(pd.DataFrame(rng.normal(size=(1000, 4))).add_prefix("x")), 1000)
        tracemalloc.start()
        reference.of(parquet_blocks(tmp_path / "t.parquet"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


KINDS = {
    "invalid-range-or-unit": [lambda x: x * 1.8 + 32, lambda x: x * 2.54, lambda x: x * 1000],
    "covariate-shift": [lambda x: x + 4, lambda x: 18 + (x - 18) * 1.7, lambda x: np.where(x > 20, 20, x)],
    "": [lambda x: x],
}


@pytest.mark.parametrize("category, bend", [(k, f) for k, fs in KINDS.items() for f in fs])
@pytest.mark.parametrize("seed", range(3))
def test_a_unit_is_no_drift_and_drift_is_no_unit(category, bend, seed):
    rng = np.random.default_rng(seed)
    before, now = rng.normal(18, 6, 3000), rng.normal(18, 6, 2500)
    assert recognised(pd.Series(bend(now)), pd.Series(before), None)["categories"] == ([category] if category else [])


def test_part_of_the_rows_in_another_unit_are_counted():
    rng = np.random.default_rng(1)
    sent = rng.gamma(3, 20, 4000) * np.where(rng.random(4000) < 0.3, 2.54, 1)
    found = unit_skew(sent, rng.gamma(3, 20, 4000))
    assert found["factor"] == 2.54 and found["share"] == pytest.approx(0.3, abs=0.05)


def test_names_without_likeness_are_matched_by_rows_and_profile():
    rng = np.random.default_rng(2)
    before = pd.Series(rng.choice(["red", "green", "blue"], 4000, p=[0.34, 0.33, 0.33]))
    now = pd.Series(rng.choice(["x1", "x2", "blue"], 4000, p=[0.34, 0.33, 0.33]))
    means = {"red": 0.0, "green": 3.0, "blue": 6.0, "x1": 3.0, "x2": 0.0}
    profiles = tuple(pd.DataFrame({"v": s.map(means) + rng.normal(size=len(s))}) for s in (before, now))
    assert {r["level"]: r["known"] for r in renamed(before, now, profiles=profiles)} == {"x1": "green", "x2": "red"}
    assert all(r["confidence"] < 0.7 or r["known"] is None for r in renamed(before, now))  # shares alone cannot tell


def test_false_alarms_are_as_many_as_promised():
    rng, columns, tables, changed = np.random.default_rng(3), 0, 0, 0
    for _ in range(60):
        a, b = (
            pd.DataFrame(
                {f"n{j}": rng.lognormal(size=1500) for j in range(5)} | {"c": rng.choice(list("abcdefgh"), 1500)}
            )
            for _ in "ab"
        )
        reference = reference_of(lambda a=a: frame_blocks(a), len(a))
        p = np.array([f["p"] for f in shift_of(reference, reference.of(frame_blocks(b))).values()])
        columns, tables = columns + int((p <= 0.05).sum()), tables + int((holm(p) <= 0.05).any())
        changed += int(column_changes(b, a, None)["changed"].any())
    assert stats.binomtest(columns, 60 * 6, 0.05, alternative="greater").pvalue > 0.01
    assert stats.binomtest(tables, 60, 0.05, alternative="greater").pvalue > 0.01
    assert changed == 0  # an effect is asked for as well


def test_the_sample_says_what_was_planted(out):
    "Income came times 1,000 from a partner; the page says so in the taxonomy's words."
    changes = read_table(out / "enrich" / "columns.parquet").set_index("column")
    assert set(changes.loc[changes["changed"], "categories"].str.split(", ").explode()) <= {
        "invalid-range-or-unit",
        "schema-violation",
        "missing-value-burst",
        "covariate-shift",
    }
    assert "Drift" in (out / "document" / "drift.html").read_text(encoding="utf-8")
