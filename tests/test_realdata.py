"""Public tables from `failwb init` to verdicts and a site: two classes, three, a number; in time; and their twins."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from crowd import treat_hard_regions
from house import BIN, failwb, log_of, overlap, run

from failwb.lab.datasets import permute_losses
from failwb.record.contract import load_contract
from failwb.record.tables import read_json, read_table
from failwb.workbench import Workbench, load_stage, run_stage

FOLDER = os.environ.get("FAILWB_REAL_DATA", "")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="FAILWB_REAL_DATA names no folder with the public tables"),
]
MINUTES, GIBIBYTES = 5, 2


@dataclass(frozen=True)
class Case:
    "A table, how it is imported, and what its first turn must say."

    name: str
    label: str
    rows: int
    task: str
    time: bool = False
    leaks: set[str] = field(default_factory=set)
    cutoff: float = 0.4  # of its params.yaml; later where a pattern begins late, so that some labels of it may teach
    drift: tuple[str, str] | None = None  # between these dates the error of all predictions rises

    @property
    def init(self) -> list[str]:
        return ["--table", f"{self.name}.parquet", "--label", self.label, *(["--time", "time"] if self.time else [])]


CASES = [
    Case("adult", "class", 48_842, "binary"),
    Case("adult3", "status", 48_842, "multiclass"),
    Case("elec2", "class", 45_312, "binary", time=True, drift=("1997-05-15", "1997-07-01")),
    Case("bike", "cnt", 17_379, "regression", time=True, leaks={"casual", "registered"}, cutoff=0.7),
]

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


@dataclass(frozen=True)
class Turn:
    "A workbench after one turn, and what its two commands needed."

    case: Case
    root: Path
    figures: list[dict]

    def out(self, name: str):
        return read_json(self.root / "out" / name)


@pytest.fixture(scope="module", params=CASES, ids=[c.name for c in CASES])
def turn(request, tmp_path_factory) -> Turn:
    case = request.param
    home = tmp_path_factory.mktemp(case.name)
    assert failwb("dataset", case.name, f"{case.name}.parquet", cwd=home, FAILWB_REAL_DATA=FOLDER).returncode == 0
    made = measured(BIN / "failwb", "init", "wb", *case.init, "--train", cwd=home)
    treat_hard_regions(home / "wb")
    params = home / "wb/params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("  cutoff: 0.4 ", f"  cutoff: {case.cutoff} "))
    assert f"cutoff: {case.cutoff} " in params.read_text(encoding="utf-8")
    ran = measured(BIN / "failwb", "run", cwd=home / "wb")
    seconds, cpu = made["seconds"] + ran["seconds"], made["cpu"] + ran["cpu"]
    print(f"{case.name}: {seconds:.0f} s, {cpu:.0f} s of CPU, peak {max(made['peak'], ran['peak']) / 2**20:.0f} MiB")
    return Turn(case, home / "wb", [made, ran])


def test_it_stays_within_time_and_memory(turn):
    seconds, cpu = (sum(f[k] for f in turn.figures) for k in ("seconds", "cpu"))
    idle = os.getloadavg()[1] < 2 * (os.cpu_count() or 1)
    assert cpu <= 60 * MINUTES * (os.cpu_count() or 1)
    assert not idle or seconds <= 60 * MINUTES, f"{seconds:.0f} s"
    assert max(f["peak"] for f in turn.figures) <= GIBIBYTES * 2**30


def test_it_ends_with_patterns_verdicts_and_a_site(turn):
    assert len(read_table(turn.root.parent / f"{turn.case.name}.parquet")) == turn.case.rows
    assert load_contract(turn.root / "contract.yaml").task == turn.case.task
    funnel = turn.out("catalog/funnel.json")
    assert funnel["confirmed"] >= 1 and funnel["unsealed"] == 0
    assert funnel["plans"] == len(turn.out("gate/verdicts.json")) >= 1
    assert (turn.root / "out/document/index.html").is_file()


def test_verdicts_say_how_time_was_used(turn):
    plans = [read_json(p) for p in sorted((turn.root / "out/propose/plans").glob("*.json"))]
    said = {v["plan"]: " ".join(v["reasons"]) for v in turn.out("gate/verdicts.json")}
    assert plans and all(any(p["window"]["note"] in text for text in said.values()) for p in plans)
    refits = [p for p in plans if p["family"] == "refit"]
    assert all((p["window"]["after"] is not None) == turn.case.time for p in refits)


def test_leaks_are_named_on_every_page_that_asks(turn):
    left_out = load_contract(turn.root / "contract.yaml").left_out
    assert {name for name, why in left_out.items() if "a leak" in why} == turn.case.leaks
    page = (turn.root / "out/document/reference/contract.html").read_text(encoding="utf-8")
    assert all(name in page for name in turn.case.leaks)


def test_drift_is_dated_and_its_remedy_is_judged_forward_in_time(turn):
    drift, dates = turn.out("discover/drift.json"), turn.case.drift
    assert drift["confirmed"] == bool(dates), drift["words"]
    if not dates:
        return
    first, last = (pd.Timestamp(d, tz="UTC") for d in dates)
    assert first <= pd.Timestamp(drift["since"]) <= last
    pattern = next(p for p in turn.out("discover/patterns.json") if p["span"])
    plan = next(
        p for f in (turn.root / "out/propose/plans").glob("*.json") if (p := read_json(f))["pattern"] == pattern["id"]
    )
    assert plan["remedy"] == "recent_window" and pd.Timestamp(plan["window"]["train_before"]) > last
    verdict = next(v for v in turn.out("gate/verdicts.json") if v["pattern"] == pattern["id"])
    assert "judged on rows after" in " ".join(verdict["reasons"])
    summary = failwb("summary", cwd=turn.root).stdout
    assert "Drift:" in summary and pattern["name"] in summary
    assert pattern["name"] in (turn.root / "out/document/index.html").read_text(encoding="utf-8")


def test_another_repro_runs_nothing(turn):
    result = run("dvc", "repro", cwd=turn.root)
    assert result.returncode == 0 and "Running stage" not in result.stdout, result.stdout


def test_its_twin_has_no_pattern(turn, tmp_path):
    "Predictions stay, losses are permuted over subjects: what is found now would be an artefact of the search."
    twin = tmp_path / "twin"
    shutil.copytree(turn.root, twin, ignore=shutil.ignore_patterns(".git", ".dvc", "out", ".failwb"))
    permute_losses(twin, seed=0)
    for verb in ("validate", "detect", "split", "enrich", "discover"):
        run_stage(Workbench.find(twin), load_stage(verb))
    before, after = turn.out("detect/summary.json"), read_json(twin / "out/detect/summary.json")
    assert after["error"] == pytest.approx(before["error"], abs=1e-9)
    assert [p["name"] for p in read_json(twin / "out/discover/patterns.json") if p["confirmed"]] == []
    assert not read_json(twin / "out/discover/drift.json")["confirmed"]


def test_adults_log_alone_shows_the_same_patterns(turn, tmp_path):
    "Without the model and its training rows: no subject is named, so the split is the same, and so are the patterns."
    if turn.case.name != "adult":
        return
    log, labels = log_of(turn.root, tmp_path)
    about = ("--labels", labels, "--features-prefix", "feat_", "--map", "subject=")
    assert failwb("init", "log", "--log", log, *about, cwd=tmp_path).returncode == 0
    treat_hard_regions(tmp_path / "log")
    wb = Workbench(tmp_path / "log")
    for verb in ("validate", "detect", "split", "enrich", "discover"):
        run_stage(wb, load_stage(verb))
    rows = read_table(turn.root / "out/validate/events.parquet")
    before, now = (
        [p for p in read_json(w / "out/discover/patterns.json") if p["confirmed"]] for w in (turn.root, wb.root)
    )
    assert max(overlap(before[0], o, rows) for o in now) >= 0.8
    assert {p["id"] for p in before} & {p["id"] for p in now}
