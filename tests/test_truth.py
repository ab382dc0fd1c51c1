"""The benchmark of the whole loop: one case gives one answer, and nothing is claimed where nothing is wrong."""

import os
import sys

import pytest
from house import ROOT

sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.truth.case import one  # noqa: E402
from benchmarks.truth.grid import Case, cases  # noqa: E402
from benchmarks.truth.page import ASKED, RARE, reached  # noqa: E402
from benchmarks.truth.tables import summary  # noqa: E402
from failwb.faults.registry import FAULTS  # noqa: E402

MEASURED = ("cpu", "cpu_planting", "peak_mib")  # what a machine says about itself


def told(result: dict) -> dict:
    return {k: v for k, v in result.items() if k not in MEASURED}


@pytest.fixture(scope="module")
def faulty() -> dict:
    return one(Case("development", "claims", ("neglected_slice",), "strong", 7, n=8_000, n_reference=4_000))


def test_a_strong_fault_is_found_named_and_mended(faulty):
    [fault] = faulty["faults"]
    assert fault["recall"] >= 0.5 and fault["causes"][0] == fault["category"]
    assert set(fault["ranked"][:3]) & set(fault["right"])
    assert all(change["worse"] < 0 for change in faulty["adopted"])


def test_the_same_case_gives_the_same_answer(faulty):
    again = one(Case("development", "claims", ("neglected_slice",), "strong", 7, n=8_000, n_reference=4_000))
    assert told(again) == told(faulty)


def test_nothing_is_claimed_where_nothing_is_wrong(faulty):
    sound = one(Case("development", "claims", (), "none", 8, n=8_000, n_reference=8_000))
    assert sound["confirmed"] == 0 and sound["adopted"] == []
    figures = summary([faulty, sound])
    assert (
        figures["promises"]["no fault: any adoption"]["n"] == 1
        and figures["scores"]["all"]["pattern recall@10"]["value"] == 1.0
    )


def test_development_and_report_share_no_seed():
    grids = [cases(role, ["loans", "claims"], sorted(FAULTS), 4, 300, 8_000) for role in ("development", "report")]
    seeds = [{c.seed for c in grid} for grid in grids]
    assert not seeds[0] & seeds[1] and all(len(s) == len(g) for s, g in zip(seeds, grids, strict=True))


@pytest.mark.parametrize(
    "value, high, harmful, enough",
    [(0.95, 1.0, 0, {"yes"}), (0.6, 0.97, 0, {"yes", "within noise"}), (0.6, 0.65, 30, {"yes", "no"})],
)
def test_what_was_asked_for_is_held_against_what_came(value, high, harmful, enough):
    score = {"value": value, "low": 0.5, "high": high, "n": 40}
    quiet = {"value": 0.01, "low": 0.0, "high": 0.03, "k": 3, "n": 300}
    harm = {"value": harmful / 400, "low": 0.0, "high": harmful / 400 + 0.01, "k": harmful, "n": 400}
    figures = {
        "scores": {
            part: {name: score for name, *_ in ASKED} for part in ("all", "one fault", "three faults", "strong")
        },
        "promises": {"harmful adoptions": harm} | dict.fromkeys(RARE, quiet),
    }
    rows = reached(figures)
    assert len(rows) == len(ASKED) + len(RARE) + 1 and {r["enough"] for r in rows} == enough
    few = figures | {"promises": figures["promises"] | {"harmful adoptions": harm | {"k": 0, "n": 60, "high": 0.04}}}
    assert reached(few)[-1]["enough"] == "no"  # too few to be sure
