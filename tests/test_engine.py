"""Experiments: two engines with the same bytes, kills that repeat nothing, lost kernels, limits, and Dask's workers."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
from house import BIN, ONE_THREAD, ROOT, failwb, failwb_here, said

from failwb.record.tables import read_json, write_json, write_table
from failwb.remedy.trial import example_workbench
from failwb.vault.ledger import Ledger

PLANS = 5
pytestmark = pytest.mark.slow


def seal(root: Path, plans: list[str]) -> Path:
    "Seal all plans of a workbench of the example, and give it parameters."
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    ledger = Ledger(root / "ledger")
    for plan in plans:
        ledger.append_raw("plans", plan, (root / f"out/propose/plans/{plan}.json").read_text())
    ledger.append("seals", "round-1", {"round": 1, "plans": plans, "m": len(plans), "alpha": 0.025})
    return root


def line(factor: float, threshold: float) -> dict:
    return {"params": {"feature": "amount", "factor": factor, "threshold": threshold}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    "A workbench with sealed plans, none of them carried out."
    root = tmp_path_factory.mktemp("engine") / "shop"
    return seal(root, example_workbench(root, *(line(100.0, 400.0 + 50 * k) for k in range(PLANS))))


@pytest.fixture(scope="module")
def done(shop, tmp_path_factory) -> Path:
    "The same after an undisturbed run."
    return carried_out(shop, tmp_path_factory.mktemp("done") / "shop")


def carried_out(shop: Path, to: Path, *words: str) -> Path:
    shutil.copytree(shop, to)
    result = failwb("experiment", *words, cwd=to)
    assert result.returncode == 0, said(result)
    return to


def results(root: Path) -> dict[str, bytes]:
    out = root / "out/experiment"
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def trace(root: Path) -> list[dict]:
    path = root / ".failwb/live/experiment/opened.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []


def counted(root: Path, event: str) -> Counter:
    return Counter(o["plan"] for o in trace(root) if o["event"] == event)


def start(root: Path) -> subprocess.Popen:
    "Start the experiments in a process group of their own."
    return subprocess.Popen(
        [BIN / "failwb", "experiment"],
        cwd=root,
        env=os.environ | ONE_THREAD,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(told, seconds: float = 120) -> None:
    "Wait until `told()`; fail after so many seconds."
    until = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.05)


def at_work(root: Path) -> list[psutil.Process]:
    "Processes that live in the workbench: runners, what forks kernels, and kernels."
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(root) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


# -- two engines


def test_plain_papermill_gives_the_bytes_of_the_forks(done, shop, tmp_path):
    assert results(carried_out(shop, tmp_path / "shop", "--engine", "papermill")) == results(done)


def test_plain_papermill_gives_the_bytes_of_the_sample(bench, out):
    "Executed notebooks, trials and candidates, refits among them."
    root = bench("data", "out/split", "out/propose")
    result = failwb("experiment", "--engine", "papermill", cwd=root)
    assert result.returncode == 0, said(result)
    assert results(root) == results(out.parent)


def test_an_unknown_engine_is_named(shop, tmp_path):
    shutil.copytree(shop, tmp_path / "shop")
    result = failwb_here("experiment", "--engine", "forks", cwd=tmp_path / "shop")
    assert result.returncode == 2 and "Did you mean 'fork'?" in said(result) and "papermill" in said(result)


# -- killed


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_run_loses_nothing_and_repeats_nothing(done, shop, tmp_path, seed):
    "The process group dies by SIGKILL three times, at any moment after the first opening of this attempt."
    root, rng, kills = tmp_path / "shop", random.Random(seed), 0
    shutil.copytree(shop, root)
    for _ in range(3):
        before = len(trace(root))
        process = start(root)
        wait_until(lambda: len(trace(root)) > before or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 4))
        kills += process.poll() is None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not at_work(root), 20)  # no kernel goes on with the held-out rows
    kept = {p.parent.name: p.stat().st_mtime_ns for p in (root / ".failwb/cache/experiment").glob("*/trial.json")}
    opened = counted(root, "opened")
    assert kills >= 1
    assert failwb("experiment", cwd=root).returncode == 0
    assert results(root) == results(done)
    keys = {o["plan"]: o["key"] for o in trace(root)}
    again = counted(root, "opened") - opened
    assert {p for p in again if keys[p] in kept} == set(), "a finished trial opened the held-out rows again"
    assert set(counted(root, "kept").values()) == {1} and all(n <= 1 + kills for n in counted(root, "opened").values())
    assert {k: (root / f".failwb/cache/experiment/{k}/trial.json").stat().st_mtime_ns for k in kept} == kept
    assert failwb("experiment", cwd=root).returncode == 0
    assert counted(root, "opened") - opened == again, "with everything finished, nothing is opened"


# -- lost kernels, and errors of a notebook


def test_a_lost_kernel_is_tried_again(done, shop, tmp_path):
    "What forks kernels dies in the midst of its work, its kernels with it."
    root = tmp_path / "shop"
    shutil.copytree(shop, root)
    runner = start(root)
    wait_until(lambda: counted(root, "kept").total() >= 1)
    server = next(p for p in psutil.Process(runner.pid).children() if "serve" in " ".join(p.cmdline()))
    for process in [*server.children(), server]:
        process.kill()
    assert runner.wait(300) == 0
    assert results(root) == results(done)
    assert set(counted(root, "kept").values()) == {1} and max(counted(root, "opened").values()) == 2


def test_an_error_of_the_notebook_is_never_tried_again(tmp_path):
    wrong = {"params": {"feature": "weight", "factor": 100.0, "threshold": 500.0}}
    root = tmp_path / "shop"
    plans = example_workbench(root, {}, wrong)
    seal(root, plans)
    result = failwb("experiment", cwd=root)
    assert result.returncode == 2 and "KeyError" in said(result) and "1 of 2 experiments failed" in said(result)
    assert counted(root, "opened") == dict.fromkeys(plans, 1) and counted(root, "kept") == {plans[0]: 1}


# -- limits


def limit(root: Path, old: str, new: str) -> None:
    path = root / "params.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_trial_that_breaks_a_limit_was_not_run(done, shop, tmp_path):
    "It has a verdict that says so, keeps the round open, and runs when asked."
    root = tmp_path / "shop"
    shutil.copytree(shop, root)
    limit(root, "memory: 4000 ", "memory: 20 ")
    assert failwb("experiment", cwd=root).returncode == 0
    trials = [read_json(p) for p in sorted((root / "out/experiment").glob("*/trial.json"))]
    assert {t["status"] for t in trials} == {"not-run"} and len(trials) == PLANS
    assert all("memory limit (20 MB)" in t["message"] and "Hint:" in t["message"] for t in trials)
    for name, content in (
        ("discover/patterns", []),
        ("diagnose/causes", []),
        ("propose/remedies", []),
        ("validate/summary", {"as_of": None}),
    ):
        write_json(content, root / f"out/{name}.json")
    write_table(pd.DataFrame({"event_id": ["a"], "pattern": ["west"]}), root / "out/discover/membership.parquet")
    assert failwb("gate", cwd=root).returncode == 0
    assert {v["verdict"] for v in read_json(root / "out/gate/verdicts.json")} == {"not-run"}
    closed = failwb("round", "close", cwd=root)
    assert closed.returncode == 2 and "stays open" in said(closed)
    opened = counted(root, "opened").total()
    assert failwb("experiment", cwd=root).returncode == 0 and counted(root, "opened").total() == opened
    assert (
        failwb("experiment", "--retry", cwd=root).returncode == 0 and counted(root, "opened").total() == opened + PLANS
    )
    limit(root, "memory: 20 ", "memory: 4000 ")
    assert failwb("experiment", cwd=root).returncode == 0 and results(root) == results(done)


# -- Dask


def test_dask_workers_give_the_same_bytes(done, shop, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, memory_limit=0) as cluster:
        root = carried_out(shop, tmp_path / "shop", "--scheduler", cluster.scheduler_address)
    assert results(root) == results(done) and set(counted(root, "kept").values()) == {1}
