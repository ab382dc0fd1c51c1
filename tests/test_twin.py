"""A table of one's own has its bad group found; on its twin, whose losses are dealt out anew, nothing is confirmed."""

import pytest
from crowd import crowd, treat_hard_regions

from failwb.lab.datasets import permute_losses
from failwb.lab.init import init
from failwb.record.tables import read_json
from failwb.workbench import Workbench, load_stage, run_stage

pytestmark = pytest.mark.slow


def confirmed(root) -> list[str]:
    "Run the stages that find patterns and return the names of those that were confirmed."
    for verb in ("validate", "detect", "split", "enrich", "discover"):
        run_stage(Workbench.find(root), load_stage(verb))
    return [p["name"] for p in read_json(root / "out/discover/patterns.json") if p["confirmed"]]


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    home = tmp_path_factory.mktemp("own table")
    crowd(6000).to_csv(home / "crowd.csv", index=False)
    init(home / "wb", home / "crowd.csv", "left", owner="ada")
    treat_hard_regions(home / "wb")
    return home / "wb"


def test_the_group_is_found_and_its_twin_has_none(workbench):
    assert confirmed(workbench)[0] == "branch is d"
    before = read_json(workbench / "out/detect/summary.json")
    permute_losses(workbench, seed=0)
    assert confirmed(workbench) == []
    after = read_json(workbench / "out/detect/summary.json")
    assert after["misprediction"] == before["misprediction"] and after["labelled"] == before["labelled"]
