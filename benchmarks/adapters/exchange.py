"""What every adapter reads and writes: a folder with the rows, and one JSON answer.

It runs in the environments of the peers, so it needs NumPy and pandas alone. An adapter is `find(rows) -> dict` in a
file named as the peer; `python -m adapters.sliceline FOLDER`, started in benchmarks/, writes FOLDER/sliceline.json. Of
several folders each is answered in a fork of one process, and a line on stdout says when.
"""

import argparse
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

TOP = 10  # patterns that a peer may report
BINS = 10  # quantiles of a number, for peers that take levels alone
MINIMUM_ROWS = 32  # of a slice, or 1% where that is more: SliceLine's protocol
MISSING = "(missing)"  # the level of a missing value


@dataclass(frozen=True)
class Rows:
    "What a peer may see: `X` are the features by bare name, `error` the losses (0/1) of the open rows."

    folder: Path
    task: dict  # numeric, categorical: names; target: name; positive: value, or none
    reference: pd.DataFrame  # rows that taught the model: features, label, weight
    open: pd.DataFrame  # develop and select rows with a known loss, in order of time

    def features(self, table: pd.DataFrame) -> pd.DataFrame:
        "Return the features of `table` by bare name: numbers as float64, categories as text with missing ones as None."
        X = {n: pd.to_numeric(table[f"x.{n}"]).astype("float64") for n in self.task["numeric"]}
        for n in self.task["categorical"]:
            values = table[f"x.{n}"]
            X[n] = values.astype("object").where(values.notna(), None)
        return pd.DataFrame(X, index=table.index)

    @property
    def X(self) -> pd.DataFrame:
        "Return the features of the open rows."
        return self.features(self.open)

    @property
    def error(self) -> np.ndarray:
        "Return the losses of the open rows (n,), 0 or 1."
        return self.open["loss"].to_numpy(dtype=float)

    @property
    def minimum(self) -> int:
        "Return how many rows a slice needs."
        return max(MINIMUM_ROWS, len(self.open) // 100)

    def ids(self, mask: np.ndarray) -> list[str]:
        "Return the event ids of the open rows in `mask`."
        return self.open["event_id"].to_numpy()[mask].tolist()


def read(folder: Path) -> Rows:
    "Return the rows that stand in `folder`."
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    reference = pd.read_parquet(folder / "reference.parquet")
    rows = pd.read_parquet(folder / "open.parquet").dropna(subset=["loss", "label"])
    rows = rows.sort_values(["time", "event_id"], kind="stable").reset_index(drop=True)
    return Rows(folder, task, reference.reset_index(drop=True), rows)


def literal(feature: str, op: str, value=None, low: float | None = None, high: float | None = None) -> dict:
    "Return a condition as failwb writes it: low <= x < high, == value, or missing; an open side is None."
    finite = {k: None if v is None or np.isinf(v) else float(v) for k, v in (("low", low), ("high", high))}
    return {"feature": feature, "op": op, "value": value, **finite}


def levels(rows: Rows, bins: int = BINS) -> tuple[pd.DataFrame, dict[str, dict[str, dict]]]:
    "Return the open rows in levels (text), and for each feature and level the literal that says it."
    X, table, meaning = rows.X, {}, {}
    for n in rows.task["numeric"]:
        table[n], meaning[n] = _intervals(n, X[n].to_numpy(), bins)
    for n in rows.task["categorical"]:
        table[n] = X[n].map(str).where(X[n].notna(), MISSING)
        meaning[n] = {str(v): literal(n, "==", v) for v in X[n].dropna().unique()} | {MISSING: literal(n, "missing")}
    return pd.DataFrame(table), meaning


def _intervals(feature: str, x: np.ndarray, bins: int) -> tuple[np.ndarray, dict[str, dict]]:
    known = x[~np.isnan(x)]
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="higher")) if len(known) else known
    edges = edges[edges > known.min()] if len(known) else edges  # no level that is always empty
    code = np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="right"))
    ends = [-np.inf, *edges, np.inf]
    spans = [literal(feature, "in", low=low, high=high) for low, high in zip(ends, ends[1:], strict=False)]
    names = [f"bin{i:02d}" for i in range(len(spans))] + [MISSING]
    return np.array(names, dtype=object)[code], dict(zip(names, [*spans, literal(feature, "missing")], strict=True))


def pattern(literals: Iterable[dict], score: float, **more) -> dict:
    "Return a slice as it goes into the answer."
    return {"predicate": list(literals), "score": float(score), **more}


def cpu_seconds() -> float:
    "Return the CPU time of this process and of its children so far."
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def peak_mib() -> float:
    "Return the peak memory of this program by the kernel's count, where it has one: rusage keeps what the parent had."
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return own[0] / 1024 if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def answer(find: Callable[[Rows], dict]) -> None:
    "Run `find` on each folder of the command line within the limits, and write its answers; of several, each in a process of its own."
    parser = argparse.ArgumentParser(description=sys.modules[find.__module__].__doc__)
    parser.add_argument("folders", nargs="+", metavar="folder", type=Path)
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds, for each folder")
    parser.add_argument("--gib", type=float, default=8, help="address space")
    given = parser.parse_args()
    name = Path(sys.argv[0]).stem
    if len(given.folders) == 1:
        answered(find, given.folders[0], name, given.seconds, given.gib)
        return
    for (
        folder
    ) in given.folders:  # the libraries are imported once, and one folder's memory and limits are not the next one's
        status = forked(find, folder, name, given.seconds, given.gib)
        print(json.dumps([str(folder), status]), flush=True)


def forked(find: Callable[[Rows], dict], folder: Path, name: str, seconds: float, gib: float) -> int:
    "Answer in a child process, whose words go to FOLDER/NAME.log; return its exit code, or the signal that ended it below 0."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    code = 1
    try:
        answered(find, folder, name, seconds, gib)
        code = 0
    except BaseException:  # the child must not go on with the other folders
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def answered(find: Callable[[Rows], dict], folder: Path, name: str, seconds: float, gib: float) -> None:
    "Run `find` on `folder` within the limits of this process, and write FOLDER/NAME.json."
    whole = int(np.ceil(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 5))  # SIGXCPU ends it: `run` says "time"
    resource.setrlimit(resource.RLIMIT_AS, (int(gib * 2**30),) * 2)
    start = time.monotonic()
    try:
        found = json.loads(json.dumps(find(read(folder)), default=lambda o: o.item(), allow_nan=False))
    except MemoryError:
        found = {"failed": "memory"}  # where it ends outside Python, the runner reads the log
    except Exception as e:  # the peer's own failure is a result; the trace goes to its log
        traceback.print_exc()
        found = {"failed": f"{type(e).__name__}: {e}"[:300]}
    spent = {"seconds": cpu_seconds(), "peak_mib": peak_mib(), "wall_seconds": time.monotonic() - start}
    (folder / f"{name}.json").write_text(json.dumps(spent | found), encoding="utf-8")
