# ruff: noqa: E501  (programs and tables are wide)
"""Exact slice search against its peers, each in a process of its own: CPU seconds and peak memory of the whole process.

    make bench-slices                                      # Adult, a million rows, the pair; census-shaped rows
    .venv/bin/python benchmarks/slices.py --only adult     # one of: adult, pair, million, census
    .venv/bin/python benchmarks/slices.py --stream         # also 100 million rows of twenty features, out of core (2 GB of disk)

Runs of ours and of the peers take turns. A peer that is not installed, fails, or passes its limits of time and memory is reported as such.
The last line is one JSON object of figures by name.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(os.environ.get("FAILWB_PEERS", ROOT / ".peers"))
K, LITERALS = 10, 3


def support(n: int) -> int:
    "Least rows of a slice, for every tool."
    return max(32, n // 100)


# -- tables: codes (n, features; from 1, 0 is missing) and 0/1 errors, in one .npz


def adult(folder: Path) -> Path:
    "UCI Adult, 48,842 x 14, numbers in ten bins, with the errors of gradient boosted trees in three folds."
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import cross_val_predict

    from failwb.lab.datasets import adult as read

    table = read()
    target, codes = table.pop("class"), np.zeros(table.shape, dtype=np.uint8, order="F")
    numbers = [f for f in table if pd.api.types.is_numeric_dtype(table[f])]
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    typed = table.astype({f: "category" for f in table if f not in numbers})
    errors = (cross_val_predict(model, typed, target, cv=3) != target).to_numpy(np.uint8)
    for j, f in enumerate(table):
        if f in numbers:
            cuts = np.unique(np.quantile(table[f], np.arange(1, 10) / 10))
            codes[:, j] = 1 + np.searchsorted(cuts, table[f], side="right")
        else:
            codes[:, j] = 1 + pd.factorize(table[f], sort=True)[0]
    table.assign(error=errors).to_parquet(folder / "adult.parquet", index=False)
    return saved(folder / "adult.npz", codes, errors)


def million(folder: Path, n: int = 1_000_000) -> Path:
    "20 features of ten levels; {f3=1, f8=1, f14=1}, about one row in a hundred, errs at 0.55 among 0.17."
    import numpy as np

    rng, weights = np.random.default_rng(0), 0.8045 ** np.arange(10)
    codes = 1 + rng.choice(10, size=(n, 20), p=weights / weights.sum()).astype(np.uint8)
    planted = (codes[:, [3, 8, 14]] == 1).all(axis=1)
    return saved(folder / f"million{n}.npz", codes, rng.random(n) < np.where(planted, 0.55, 0.17))


def pair(folder: Path) -> Path:
    "10,000 rows, 20 features of ten levels; the pair {f0=1, f18=1} errs at 0.9 among 0.1: its id passes 2**53 where ids are products."
    import numpy as np

    rng = np.random.default_rng(0)
    codes = rng.integers(1, 11, size=(10_000, 20), dtype=np.uint8)
    return saved(
        folder / "pair.npz", codes, rng.random(10_000) < np.where((codes[:, [0, 18]] == 1).all(axis=1), 0.9, 0.1)
    )


def census(folder: Path, n: int = 2_458_285) -> Path:
    "Rows like those of US Census 1990: 68 features, 378 levels, skewed, and alike in groups (eight kinds of household); every eighth row errs, some slices more."
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = np.array([2] * 20 + [3] * 14 + [5] * 12 + [8] * 10 + [10] * 6 + [13] * 3 + [15] * 2 + [17])
    rng.shuffle(sizes)
    kind, codes = rng.choice(8, n, p=np.arange(8, 0, -1) / 36), np.zeros((n, 68), dtype=np.uint8, order="F")
    for j, size in enumerate(sizes):
        for group in range(8):
            mine = np.flatnonzero(kind == group)
            codes[mine, j] = 1 + rng.choice(size, len(mine), p=rng.dirichlet(np.full(size, 0.5)))
    risk = np.full(n, 0.11)
    for features in ((5, 40), (12, 33, 61), (7, 21, 50)):
        risk[np.all([codes[:, f] == np.bincount(codes[:, f]).argmax() for f in features], axis=0)] += 0.1
    return saved(folder / f"census{n}.npz", codes, rng.random(n) < risk)


def saved(path: Path, codes, errors) -> Path:
    import numpy as np

    np.savez(path, codes=np.asfortranarray(codes), errors=errors.astype(np.uint8))
    return path


# -- tools: programs that read the .npz, and end with a line of JSON: the slices, each a list of [feature, code]

OURS = """
import json, sys
import numpy as np
from failwb.discover.lattice import Memory, in_blocks, search_levels
with np.load(sys.argv[1]) as file:
    codes, errors = file["codes"], file["errors"]
found = search_levels(Memory(in_blocks(codes, errors)), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), 0.0, float(sys.argv[5]))
print(json.dumps([[[[s.feature, s.start] for s in o.spans], o.score, o.rows, o.errors] for o in found.slices]))
"""

TABLE = """
import json, sys
import pandas as pd
from failwb.discover.slices import SliceSearch
table = pd.read_parquet(sys.argv[1].replace(".npz", ".parquet"))
errors = table.pop("error").to_numpy()
search = SliceSearch(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), 0.0, float(sys.argv[5])).fit(table, errors)
print(json.dumps([[[[s.feature, s.start] for s in o.spans], o.score, o.rows, o.errors] for o in search.slices_]))
"""

SLICELINE = """
import json, logging, sys
import numpy as np
from sliceline.slicefinder import Slicefinder
logging.disable(logging.CRITICAL)
with np.load(sys.argv[1]) as file:
    codes, errors = file["codes"], file["errors"]
finder = Slicefinder(alpha=float(sys.argv[5]), k=int(sys.argv[2]), max_l=int(sys.argv[3]), min_sup=int(sys.argv[4]), verbose=False)
finder.fit(codes.astype(int), errors.astype(float))
slices = [[[j, int(v)] for j, v in enumerate(row) if v is not None] for row in finder.top_slices_]
held = [[s["slice_score"], s["slice_size"], s["sum_slice_error"]] for s in finder.top_slices_statistics_]
print(json.dumps([[s, *map(float, h)] for s, h in zip(slices, held)]))
"""

PYSUBGROUP = """
import json, sys
import numpy as np, pandas as pd
import pysubgroup as ps
with np.load(sys.argv[1]) as file:
    codes, errors = file["codes"], file["errors"]
table = pd.DataFrame(codes).add_prefix("f").assign(error=errors.astype(bool))
space = [ps.EqualitySelector(f"f{j}", v) for j in range(codes.shape[1]) for v in np.unique(codes[:, j])]
task = ps.SubgroupDiscoveryTask(table, ps.BinaryTarget("error", True), space, result_set_size=int(sys.argv[2]), depth=int(sys.argv[3]),
                                qf=ps.StandardQF(0.5), constraints=[ps.MinSupportConstraint(int(sys.argv[4]))])
found = ps.Apriori().execute(task)
rows = found.to_dataframe()
slices = [[[int(s.attribute_name[1:]), int(s.attribute_value)] for s in r.selectors] for r in rows["subgroup"]]
print(json.dumps([[s, float(q), int(n), float(e)] for s, q, n, e in zip(slices, rows["quality"], rows["size_sg"], rows["positives_sg"])]))
"""


DEPTH_FIRST = PYSUBGROUP.replace("ps.Apriori()", "ps.DFS(ps.BitSetRepresentation)")  # slower on Adult, but holds less


@dataclass(frozen=True)
class Tool:
    "A way to search: an interpreter and a program."

    name: str
    python: Path
    program: str

    def why_not(self) -> str | None:
        "Return why it cannot be run here."
        return None if self.python.exists() else f"not installed: {self.python} is missing (make peers)"


@dataclass(frozen=True)
class Run:
    "What became of one process."

    cpu: float  # seconds, user and system, whole process
    peak: float  # MB
    slices: list | None  # none where it failed
    said: str  # why it failed


# A child's peak counts what its parent held when it was forked, so the parent is a small one.
LAUNCH = """
import json, os, resource, subprocess, sys, tempfile
seconds, gigabytes, *command = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes) << 30, int(gigabytes) << 30))
with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
    process = subprocess.Popen(command, stdout=out, stderr=err)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    out.seek(0), err.seek(0)
    said = [out.read().decode(), err.read().decode()]
print(json.dumps([process.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, *said]))
"""


def run(tool: Tool, data: Path, alpha: float, least: int, seconds: int, gigabytes: int) -> Run:
    "Run a tool of slice search to its end or its limits."
    return launched(tool, (data, K, LITERALS, least, alpha), seconds, gigabytes)


def launched(tool: Tool, arguments: tuple, seconds: int, gigabytes: int) -> Run:
    "Run a tool to its end or its limits; the last line that it prints is JSON."
    own = str(ROOT) if tool.python == Path(sys.executable) else ""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": own}
    command = [tool.python, "-c", tool.program, *arguments]
    started = [sys.executable, "-I", "-S", "-c", LAUNCH, *map(str, (seconds, gigabytes, *command))]
    code, cpu, peak, out, complaint = json.loads(
        subprocess.run(started, env=env, capture_output=True, text=True, check=True).stdout
    )
    if code == 0:
        return Run(cpu, peak, json.loads(out.splitlines()[-1]), "")
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return Run(cpu, peak, None, f"not done in {seconds} CPU s")
    why = (complaint.strip().splitlines() or [f"exit code {code}"])[-1]
    return Run(cpu, peak, None, f"failed: {why[:100]} (limits {seconds} CPU s, {gigabytes} GB)")


# -- comparisons


def better_than(codes, errors, alpha: float, ours: list, theirs: list) -> tuple[int, list[str]]:
    "Return how many of a peer's slices score as ours of the same rank do, and ours that score higher than its k-th and that it does not have."
    import numpy as np

    n, total = len(errors), errors.sum()

    def score(spans: list) -> float:
        inside = np.all([codes[:, f] == v for f, v in spans], axis=0)
        rows, wrong = inside.sum(), errors[inside].sum()
        return round(alpha * (wrong / rows * n / total - 1) - (1 - alpha) * (n / rows - 1), 6)

    true, mine = [score(s) for s, *_ in theirs], [round(o[1], 6) for o in ours]
    floor, have = min(true, default=0.0), {json.dumps(s) for s, *_ in theirs}
    missed = [
        f"{{{' & '.join(f'f{f}={v}' for f, v in s)}}} at {score(s):g}"
        for s, *_ in ours
        if json.dumps(s) not in have and score(s) > floor
    ]
    return sum(bool(a == b) for a, b in zip(sorted(true, reverse=True), mine, strict=False)), missed


def compare(
    name: str, data: Path, alpha: float, tools: list[Tool], rounds: int, limits: tuple[int, int], figures: dict
) -> None:
    "Run the tools in turn, print a row for each, and say where the slices differ."
    import numpy as np

    with np.load(data) as file:
        codes, errors = file["codes"], file["errors"].astype(float)
    print(
        f"\n{name}: {len(errors):,} rows x {codes.shape[1]} features, {sum(len(np.unique(c)) for c in codes.T)} levels, "
        f"{errors.mean():.1%} errors; top {K}, up to {LITERALS} literals, at least {support(len(errors)):,} rows, alpha {alpha}"
    )
    print(f"  {'tool':34}{'CPU s':>10}{'peak MB':>10}   result")
    runs: dict[str, list[Run]] = {}
    for _turn in range(rounds):
        for tool in tools:
            if not tool.why_not() and not any(r.slices is None for r in runs.get(tool.name, [])):
                runs.setdefault(tool.name, []).append(run(tool, data, alpha, support(len(errors)), *limits))
    ours = runs[tools[0].name][0].slices or []
    for tool in tools:
        key = f"{name}_{tool.name.split()[0]}"
        if not (mine := runs.get(tool.name)):
            print(f"  {tool.name:34}{'-':>10}{'-':>10}   {tool.why_not()}")
            continue
        cpu, peak, last = float(np.median([r.cpu for r in mine])), max(r.peak for r in mine), mine[-1]
        figures |= {
            f"{key}_cpu_s": round(cpu, 3),
            f"{key}_peak_mb": round(peak, 1),
            f"{key}_done": last.slices is not None,
        }
        print(
            f"  {tool.name:34}{cpu:10.2f}{peak:10.0f}   {last.said or told(tool, key, codes, errors, alpha, ours, last.slices, figures)}"
        )
    for tool in tools[1:]:
        base, peer = f"{name}_{tools[0].name.split()[0]}", f"{name}_{tool.name.split()[0]}"
        if figures.get(f"{peer}_done") and tool.program in (SLICELINE, PYSUBGROUP):
            figures[f"{peer}_cpu_ratio"] = round(figures[f"{base}_cpu_s"] / figures[f"{peer}_cpu_s"], 4)
            figures[f"{peer}_peak_ratio"] = round(figures[f"{base}_peak_mb"] / figures[f"{peer}_peak_mb"], 4)
            print(
                f"  ours / {tool.name}: CPU x {figures[f'{peer}_cpu_ratio']:.4f}, peak x {figures[f'{peer}_peak_ratio']:.4f}"
            )


def told(tool: Tool, key: str, codes, errors, alpha: float, ours: list, theirs: list, figures: dict) -> str:
    "Return what a tool found, in a few words."
    first = "{" + " & ".join(f"f{f}={v}" for f, v in theirs[0][0]) + "}" if theirs else "nothing"
    if tool.program != SLICELINE:
        return f"first: {first}" + (" (another score)" if tool.program in (PYSUBGROUP, DEPTH_FIRST) else "")
    agree, missed = better_than(codes, errors, alpha, ours, theirs)
    same = len({json.dumps(s) for s, *_ in ours} & {json.dumps(s) for s, *_ in theirs})
    figures |= {f"{key}_agreeing": agree, f"{key}_same": same, f"{key}_missed": len(missed)}
    return (
        f"first: {first}; {agree} of {len(ours)} scores and {same} slices are ours"
        + (f"; misses {missed[0]}" if missed else "")
        + (f" and {len(missed) - 1} more" if missed[1:] else "")
    )


STREAM = """
import glob, json, sys
from failwb.discover.blocks import row_groups
from failwb.discover.lattice import search_levels
from failwb.discover.spread import source_of
groups = row_groups(sorted(glob.glob(sys.argv[1])), losses="error")
found = search_levels(source_of(groups, None, None), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), 0.0, float(sys.argv[5]))
print(json.dumps([[[[s.feature, s.start] for s in o.spans], o.score, o.rows, o.errors] for o in found.slices]))
"""


def stream(folder: Path, figures: dict, files: int) -> None:
    "A million rows at a time in Parquet files, searched out of core."
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    weights = 0.8045 ** np.arange(10)
    for seed in range(files):
        rng = np.random.default_rng(seed)
        codes = 1 + rng.choice(10, size=(1_000_000, 20), p=weights / weights.sum()).astype(np.uint8)
        risk = np.where((codes[:, [3, 8, 14]] == 1).all(axis=1), 0.55, 0.17)
        columns = {f"f{j}": codes[:, j] for j in range(20)} | {
            "error": (rng.random(len(codes)) < risk).astype(np.uint8)
        }
        pq.write_table(pa.table(columns), folder / f"part{seed:03}.parquet", row_group_size=1 << 18)
    rows = files * 1_000_000
    ours = run(Tool("ours", Path(sys.executable), STREAM), folder / "part*.parquet", 0.98, support(rows), 7200, 64)
    figures |= {"stream_rows": rows, "stream_ours_cpu_s": round(ours.cpu, 1), "stream_ours_peak_mb": round(ours.peak)}
    print(
        f"\nstream: {rows:,} rows x 20 features out of core\n  ours: {ours.cpu:.1f} CPU s, peak {ours.peak:.0f} MB, first {ours.slices[0][0] if ours.slices else ours.said}"
    )


def main() -> None:
    "Make the tables, run the tools, print the figures."
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", choices=["adult", "million", "pair", "census"], action="append")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument(
        "--stream",
        nargs="?",
        type=int,
        const=100,
        default=0,
        metavar="MILLIONS",
        help="millions of rows out of core (100)",
    )
    options = asked.parse_args()
    wanted = options.only or ["adult", "million", "pair", "census"]
    here, figures = Path(sys.executable), {}
    ours, table = Tool("ours", here, OURS), Tool("table (SliceSearch, Parquet)", here, TABLE)
    sliceline, pysubgroup, depth_first = (
        Tool(f"{n} {v}", PEERS / n / "bin" / "python", p)
        for n, v, p in (
            ("sliceline", "0.3.0", SLICELINE),
            ("pysubgroup", "0.9.0", PYSUBGROUP),
            ("pysubgroup", "0.9.0", DEPTH_FIRST),
        )
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if "adult" in wanted:
            compare(
                "adult", adult(folder), 0.95, [ours, table, sliceline, pysubgroup], options.rounds, (300, 12), figures
            )
        if "pair" in wanted:
            compare("pair", pair(folder), 0.98, [ours, sliceline], 1, (300, 16), figures)
        if "million" in wanted:
            compare("million", million(folder), 0.98, [ours, sliceline, depth_first], 1, (150, 16), figures)
        if "census" in wanted:
            compare("census", census(folder), 0.95, [ours], 1, (3600, 16), figures)
        if options.stream:
            stream(folder, figures, options.stream)
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
