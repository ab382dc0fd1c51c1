"""A table of one's own: UCI Adult from `failwb init` to verdicts and a site, and its twin without structure."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from house import BIN, failwb, run

from failwb.record.tables import read_json, read_table, write_table

FOLDER = os.environ.get("FAILWB_REAL_DATA", "")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="FAILWB_REAL_DATA names no folder with adult.data and adult.test"),
]
MINUTES, GIBIBYTES = 5, 2

# Runs a command and prints, as its last line, what it and all its children needed.
MEASURE = """
import json, resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, seconds = used.ru_utime + used.ru_stime, time.monotonic() - start
print(json.dumps({"code": code, "seconds": seconds, "cpu": cpu, "peak": used.ru_maxrss * 1024}))
"""


def measured(*command: str | Path, cwd: Path) -> dict:
    "Run a command; return exit code, seconds, CPU seconds, and the peak memory of its largest process in bytes."
    result = run(sys.executable, "-c", MEASURE, *command, cwd=cwd, timeout=1800)
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["code"] == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return figures


@pytest.fixture(scope="module")
def adult(tmp_path_factory) -> tuple[Path, list[dict]]:
    "A workbench for Adult after one turn, and what its two commands needed."
    home = tmp_path_factory.mktemp("adult")
    assert failwb("dataset", "adult", "adult.parquet", cwd=home, FAILWB_REAL_DATA=FOLDER).returncode == 0
    start = time.monotonic()
    made = measured(BIN / "failwb", "init", "wb", "--table", "adult.parquet", "--label", "class", "--train", cwd=home)
    ran = measured(BIN / "failwb", "run", cwd=home / "wb")
    print(f"adult: {time.monotonic() - start:.0f} s, peak {max(made['peak'], ran['peak']) / 2**20:.0f} MiB")
    return home / "wb", [made, ran]


def test_it_stays_within_time_and_memory(adult):
    _, figures = adult
    seconds, cpu = (sum(f[k] for f in figures) for k in ("seconds", "cpu"))
    idle = os.getloadavg()[1] < 2 * (os.cpu_count() or 1)
    assert cpu <= 60 * MINUTES * (os.cpu_count() or 1)
    assert not idle or seconds <= 60 * MINUTES, f"{seconds:.0f} s"
    assert max(f["peak"] for f in figures) <= GIBIBYTES * 2**30


def test_it_ends_with_patterns_verdicts_and_a_site(adult):
    root, _ = adult
    table = read_table(root.parent / "adult.parquet")
    assert len(table) == 48_842
    funnel = read_json(root / "out/catalog/funnel.json")
    assert funnel["confirmed"] >= 1 and funnel["unsealed"] == 0
    assert funnel["plans"] == len(read_json(root / "out/gate/verdicts.json")) >= 1
    assert (root / "out/document/index.html").is_file()


def test_another_repro_runs_nothing(adult):
    root, _ = adult
    result = run("dvc", "repro", cwd=root)
    assert result.returncode == 0 and "Running stage" not in result.stdout, result.stdout


def test_its_twin_has_no_pattern(adult, tmp_path):
    "Predictions stay, losses are permuted over subjects: what is found now would be an artefact of the search."
    root, _ = adult
    twin = tmp_path / "twin"
    shutil.copytree(root, twin, ignore=shutil.ignore_patterns(".git", ".dvc", "document", "experiment", ".failwb"))
    outcomes = read_table(twin / "out/detect/outcomes.parquet")
    events = read_table(twin / "out/validate/events.parquet").merge(outcomes[["event_id", "loss"]], on="event_id")
    judged = events[events["loss"].notna()].sort_values(["subject", "event_id"], kind="stable").reset_index(drop=True)
    assert judged["subject"].is_unique, "one row per subject, so rows may change places"
    loss = np.random.default_rng(0).permutation(judged["loss"].to_numpy())
    classes = sorted(judged["prediction"].unique())
    other = judged["prediction"].map(dict(zip(classes, reversed(classes), strict=True)))
    label = dict(zip(judged["event_id"], np.where(loss == 1, other, judged["prediction"]), strict=True))
    labels = read_table(twin / "out/validate/labels.parquet")
    write_table(
        labels.assign(label=labels["event_id"].map(label).fillna(labels["label"])), twin / "out/validate/labels.parquet"
    )
    for verb in ("detect", "split", "enrich", "discover"):
        result = failwb(verb, cwd=twin)
        assert result.returncode == 0, result.stderr
    assert read_json(twin / "out/detect/summary.json")["error"] == read_json(root / "out/detect/summary.json")["error"]
    assert [p["name"] for p in read_json(twin / "out/discover/patterns.json") if p["confirmed"]] == []
