"""How much faster are experiments in forked kernels? The same sealed plans by papermill, one after the other, and by `failwb experiment`; run it with `make bench-engine`."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from failwb.record.surroundings import own_homes, pin_environment

pin_environment()  # before NumPy, as a stage runs

from failwb.record.tables import read_json  # noqa: E402
from failwb.remedy.gate import verdicts_of  # noqa: E402
from failwb.remedy.trial import example_workbench  # noqa: E402
from failwb.vault.ledger import Ledger  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
EARLY = {"after": "2026-02-01T00:00:00+00:00", "train_before": "2026-01-31T00:00:00+00:00", "note": "Judged later."}
LATER = {"key", "provenance"}  # what the stage adds to a trial
CEILING = 0.25  # of the ratio: a run of experiments takes at most a quarter of the time


def change(k: int) -> dict:
    "What plan `k` of the example's shop differs by: two in three put a step before the model, each at another line; the third trains it again, on two seeds."
    if k % 3 == 2:
        return {"family": "refit", "window": EARLY, "seeds": [k, k + 1]}
    return {"params": {"feature": "amount", "factor": 100.0, "threshold": 300.0 + 40.0 * k}}


def make(root: Path, n: int) -> list[str]:
    "Make a workbench with `n` sealed plans; return their ids."
    plans = example_workbench(root, *map(change, range(n)))
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    ledger = Ledger(root / "ledger")
    for plan in plans:
        ledger.append_raw("plans", plan, (root / f"out/propose/plans/{plan}.json").read_text(encoding="utf-8"))
    ledger.append("seals", "round-1", {"round": 1, "plans": plans, "m": n, "alpha": 0.025})
    return plans


def by_papermill(root: Path, plans: list[str], to: Path) -> float:
    "Run each plan's template by plain papermill, one after the other; return the seconds."
    import papermill

    from failwb.remedy.experiment import template

    start = time.perf_counter()
    for plan in plans:
        made, path = to / plan, root / f"ledger/plans/{plan}.json"
        made.mkdir(parents=True)
        given = {"plan": str(path), "root": str(root), "out": str(made)}
        source = str(template(read_json(path)["family"]))
        papermill.execute_notebook(source, str(made / "notebook.ipynb"), parameters=given, progress_bar=False)
    return time.perf_counter() - start


def by_failwb(root: Path, jobs: int) -> float:
    "Run all plans by the command, its start and end included; return the seconds."
    start = time.perf_counter()
    command = [Path(sys.executable).parent / "failwb", "experiment", "--jobs", str(jobs), "--engine", "fork", "--json"]
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def compared(root: Path, plans: list[str], reference: Path) -> dict[str, int]:
    "Return how many verdicts, and how many trials but for what the stage adds, are the same on both sides."
    contents = {plan: read_json(root / f"ledger/plans/{plan}.json") for plan in plans}
    sides = [
        {plan: read_json(folder / plan / "trial.json") for plan in plans}
        for folder in (reference, root / "out/experiment")
    ]
    verdicts = [[v["verdict"] for v in verdicts_of(contents, side)] for side in sides]
    bare = [[{k: v for k, v in side[plan].items() if k not in LATER} for plan in plans] for side in sides]
    return {
        "verdicts_equal": sum(a == b for a, b in zip(*verdicts, strict=True)),
        "trials_equal": sum(a == b for a, b in zip(*bare, strict=True)),
        "adopted": verdicts[0].count("adopt"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve() / "shop"
        plans = make(root, options.plans)
        own_homes(root)
        reference, half = Path(place) / "papermill", len(plans) // 2
        slow = by_papermill(root, plans[:half], reference)
        fast = by_failwb(root, options.jobs)  # in the middle: what else the machine does meets both
        slow += by_papermill(root, plans[half:], reference)
        found = compared(root, plans, reference)
    n, ratio = options.plans, fast / slow
    print(f"{n} sealed plans, {n // 3} of them refits")
    print(f"  papermill, one after the other        {slow:7.1f} s   {slow / n:5.2f} s each")
    print(f"  failwb experiment, fork, {options.jobs} at a time   {fast:7.1f} s   {fast / n:5.2f} s each")
    print(
        f"  ratio {ratio:.3f}; {found['verdicts_equal']} of {n} verdicts equal, {found['trials_equal']} of {n} trials equal"
    )
    print(
        json.dumps(
            {"plans": n, "jobs": options.jobs, "papermill_seconds": slow, "fork_seconds": fast, "ratio": ratio, **found}
        )
    )
    if found["trials_equal"] != n or (n >= 40 and ratio > CEILING):
        sys.exit(f"The engine does not keep its promise: all trials equal, ratio at most {CEILING:g}.")


if __name__ == "__main__":
    main()
