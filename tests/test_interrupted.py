"""A run that is killed at any moment and run again ends with the same bytes, and two runs never meet.

About three minutes: a reference run, a copy that is killed ten times, and what two processes say to each other.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import crowd
import pytest
from house import BIN, ONE_THREAD, failwb, said

from failwb.record.exclusive import holder
from failwb.remedy.leftovers import half_made
from failwb.workbench import STAGES

pytestmark = pytest.mark.slow
KILLS = 10


def start(root: Path, *words: str) -> subprocess.Popen:
    "Start a command in a process group of its own."
    env = os.environ | ONE_THREAD | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [BIN / "failwb", *words],
        cwd=root,
        env=env,
        text=True,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(process: subprocess.Popen, steps: int) -> bool:
    "Wait until `process` has begun that many steps; False if it ends before."
    for line in process.stderr:
        steps -= line.strip() in STAGES or line.strip().startswith(("sealed", "closed"))
        if steps <= 0:
            return True
    return False


def kill_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def test_killed_ten_times_it_ends_with_the_same_bytes(small, tmp_path):
    "Each attempt gets one or two steps further than it must, then dies up to three seconds into the next."
    root, rng, kills = crowd.copy(small.fresh, tmp_path / "killed"), random.Random(0), 0
    for _ in range(KILLS):
        process = start(root, "run")
        if not wait_for(process, rng.choice([2, 3])):
            process.wait()
            break
        time.sleep(rng.uniform(0, 3))
        kill_group(process)
        kills += 1
    assert kills >= 5, "the run was over before it was killed often enough"
    last = failwb("run", "--json", cwd=root)
    assert last.returncode == 0, said(last)
    assert crowd.different(small.done, root) == []
    assert half_made(root) == []
    assert failwb("run", "--json", cwd=root).stdout.count('"ran": []') == 1  # and now there is nothing left to do


@pytest.fixture(scope="module")
def at_work(small, tmp_path_factory):
    "A run that is at work; its group is ended at the end."
    root = crowd.copy(small.fresh, tmp_path_factory.mktemp("busy") / "a workbench")
    process = start(root, "run")
    assert wait_for(process, 1)
    yield root, process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("typed", [["run"], ["round", "close"], ["validate"]], ids=" ".join)
def test_a_second_process_says_who_works_here(at_work, typed):
    root, process = at_work
    result = failwb(*typed, cwd=root)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert f"in use by `failwb run` (process {process.pid}, since 20" in said(result) and "Hint:" in said(result)


def test_where_only_the_run_is_killed_its_stages_end_and_block_nobody(at_work):
    root, process = at_work
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 30
    while holder(root) and time.monotonic() < until:
        time.sleep(0.2)
    assert holder(root) is None
    result = failwb("seal", cwd=root)
    assert result.returncode == 0, said(result)


def test_dvc_at_work_is_named_too(small, tmp_path):
    "The lock is DVC's own, held by a process that runs its code."
    root = crowd.copy(small.done, tmp_path / "wb")
    program = (
        "import sys, time, zc.lockfile as z; l = z.LockFile(sys.argv[1]); print('held', flush=True); time.sleep(99)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, root / ".dvc/tmp/lock"], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout.readline() == "held\n"
            result = failwb("run", cwd=root)
        finally:
            other.kill()
    assert result.returncode == 2 and "Another DVC command is at work" in said(result), said(result)


def leave_everything(root: Path) -> None:
    "All that kills were seen to leave behind, at once."
    for name in ("dvc.lock", "data.dvc"):
        (root / name).write_bytes((root / name).read_bytes()[:40] if name == "dvc.lock" else b"")
    (root / ".dvc/tmp/rwlock").write_text('{"write": {"/x"')
    for name in (
        "out/.gate.part/verdicts.json",
        "ledger/seals/.round-2.json.4194305",
        "data/segments/.manifest.json.tmp",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{")
    (root / ".failwb/live/run.lock").write_text(
        json.dumps({"pid": 4194305, "command": "failwb run", "since": "2026-01-01T00:00:00+00:00"})
    )


def test_what_a_kill_leaves_is_put_in_order(small, tmp_path):
    root = crowd.copy(small.done, tmp_path / "left over")
    leave_everything(root)
    result = failwb("run", "--json", cwd=root)
    assert result.returncode == 0 and json.loads(result.stdout)["ran"] == [], said(result)
    assert crowd.different(small.done, root) == [] and half_made(root) == []
    assert "cut short by an interrupted run" in said(result)


def test_a_killed_init_leaves_no_workbench(small, tmp_path):
    typed = ("init", "wb", "--table", str(small.table), "--label", "left", "--train", "--owner", "ada")
    process = start(tmp_path, *typed)
    for line in process.stderr:
        if "training" in line:
            break
    kill_group(process)
    assert not (tmp_path / "wb").exists()
    assert failwb(*typed, cwd=tmp_path).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wb"]
