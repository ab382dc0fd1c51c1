"""What is claimed where there is nothing to find: failures that have nothing to do with the features, searched by failwb and by other tools.

    make bench-nulls                                                       # everything; goes on where it was interrupted
    python -m benchmarks.nulls --only failwb                               # failwb alone (three minutes)
    python -m benchmarks.nulls --tables 50 --effects 10 --only failwb --only errortree
    python -m benchmarks.nulls --at-hand                                   # run nothing: report what is finished

failwb is its stage `discover` with the parameters of params.yaml: searched on develop rows, tested on select rows. *Floors off* is the same with every filter before
the test taken away (chance, lift, least effect), so that whatever looks worst is claimed and the test alone has to refuse it. The others see develop and select rows
together, through their adapters: sliceline claims a slice of score above 0, divexplorer an itemset with t above 2 that its pruning keeps, pysubgroup a subgroup of
quality above 0, the error tree a leaf with more errors than average; ten at most.
In the tables of the second arm one slice of two conditions errs three times as often: *found* if patterns of which at least half of the failures are the slice's hold
at least half of its failures. So a tool that says nothing does not pass. The last line is one JSON object of figures by name.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before NumPy

import numpy as np  # noqa: E402
import yaml  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from scipy import stats  # noqa: E402

from failwb.discover.discover import discover  # noqa: E402
from failwb.record.provenance import code_digest  # noqa: E402
from failwb.record.tables import canonical, read_json, settle, sha, write_json  # noqa: E402

from . import peers  # noqa: E402
from .null_tables import Table, checkpointed, exchanged, table_of  # noqa: E402
from .truth import score  # noqa: E402
from .truth.others import marked  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".failwb/cache/nulls"
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
RATE, CHANCE = PARAMS["discover"]["fdr"], PARAMS["discover"]["chance"]
OWN = {"failwb": {}, "floors_off": {"chance": 1e30, "minimum_lift": 1.0, "minimum_effect": 0.0}}
OTHERS = ("errortree", "pysubgroup", "divexplorer", "sliceline")
TOOLS = (*OWN, *OTHERS)
LIMIT = 120  # CPU seconds of a peer on one table
AT_ONCE = 20  # tables of one adapter process
SUSPICION = 0.001  # the rate counts as broken where as many wrong tables have at most this chance while it is kept
console = Console(stderr=True)


@dataclass(frozen=True)
class Job:
    "One table, by what it is drawn from."

    seed: int
    number: int
    planted: bool

    def table(self) -> Table:
        "Draw it."
        return table_of(self.seed, self.number, self.planted, PARAMS["split"])


def stored(tool: str, job: Job) -> Path:
    "Return where the result lies; results of other code or parameters are not used again."
    return CACHE / _version(tool) / f"{tool}-{job.seed}-{'effect' if job.planted else 'null'}-{job.number:04d}.json"


_VERSIONS: dict[str, str] = {}


def _version(tool: str) -> str:
    if tool not in _VERSIONS:
        here = Path(__file__).parent
        texts = [(here / "null_tables.py").read_text(), PARAMS["split"], code_digest("failwb.catalog.split")]
        if tool in OWN:
            texts += [PARAMS["discover"], OWN[tool], code_digest("failwb.discover.discover")]
        else:
            texts += [(here / f"adapters/{n}.py").read_text() for n in ("exchange", tool)] + [peers.available()[tool]]
        _VERSIONS[tool] = sha(canonical(texts))[:12]
    return _VERSIONS[tool]


# -- what a tool says about a table


def own_words(tool: str, table: Table) -> dict:
    "Run the stage on `table`; return its claims, those confirmed, and whether they hold the planted slice."
    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="nulls-") as place:
        data, context = Path(place), table.open[["event_id", "fresh_wrong"]]
        checkpointed(table, data)
        events = table.open.drop(columns="fresh_wrong")
        folders = data / "reference", data / "checkpoints"
        told = discover(events, context, *folders, table.contract, **PARAMS["discover"] | OWN[tool])
    patterns = told["patterns.json"]
    confirmed = [p for p in patterns if p["confirmed"]]
    own = score.rows_of(patterns, table.open)
    said = {"claims": len(patterns), "confirmed": len(confirmed), "seconds": time.process_time() - began}
    said |= {"names": [p["name"] for p in confirmed]}
    return said | found_in(table, {p["id"]: own[p["id"]] for p in confirmed})


def found_in(table: Table, patterns: dict[str, np.ndarray]) -> dict:
    "Return whether `patterns` (masks of the open rows) hold the planted slice, if there is one."
    if not table.planted:
        return {}
    rows = table.open
    inside = marked({"predicate": table.planted}, rows)
    [recall] = score.searched(patterns, [inside], (rows["loss"] == 1).to_numpy())["recall"]
    return {"found": bool(recall >= score.SHARE)}


def their_words(table: Table, told: dict) -> dict:
    "Return the findings in an adapter's answer, those with a score above 0."
    if "failed" in told:
        return {"failed": told["failed"]}
    claims = [p for p in told["patterns"] if p["score"] > 0]
    masks = {str(k): marked(p, table.open) for k, p in enumerate(claims)} if table.planted else {}
    return {"claims": len(claims), "seconds": told["seconds"], **found_in(table, masks)}


def asked(tool: str, jobs: Sequence[Job]) -> Iterator[None]:
    "Run `tool` on the tables of `jobs` and keep each result; yields after each."
    if tool in OWN:
        for job in jobs:
            write_json(settle(own_words(tool, job.table())), stored(tool, job))
            yield
        return
    with tempfile.TemporaryDirectory(prefix="nulls-") as place:
        tables, folders = [job.table() for job in jobs], [Path(place) / str(k) for k in range(len(jobs))]
        for table, folder in zip(tables, folders, strict=True):
            exchanged(table, folder)
        for job, table, told in zip(jobs, tables, peers.run_many(tool, folders, LIMIT), strict=True):
            write_json(settle(their_words(table, told)), stored(tool, job))
            yield


def complete(tools: Sequence[str], jobs: Sequence[Job]) -> None:
    "Run what is missing: failwb first, then the others, some tables of each in turn."
    ready = [t for t in tools if t in OWN or peers.ready(t)]
    groups = [[t for t in ready if t in OWN], [t for t in ready if t not in OWN]]
    with Progress(console=console, disable=not console.is_terminal) as bar:
        bars = {t: bar.add_task(t, total=len(jobs), completed=sum(stored(t, j).is_file() for j in jobs)) for t in ready}
        for group in groups:
            for start in range(0, len(jobs), AT_ONCE):
                for tool in group:
                    missing = [j for j in jobs[start : start + AT_ONCE] if not stored(tool, j).is_file()]
                    for _ in asked(tool, missing) if missing else ():
                        bar.advance(bars[tool])


# -- figures


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    "Return the exact interval of a share k / n (Clopper and Pearson 1934)."
    if not n:
        return 0.0, 1.0
    interval = stats.binomtest(k, n).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


@dataclass
class Row:
    "One line of the table: a tool, and what it calls a finding."

    tool: str
    kind: str  # claimed or confirmed
    counts: list[int]  # findings, by null table
    failed: list[str]  # why it gave no answer, by null table without one
    found: list[bool] = field(default_factory=list)  # by table of the second arm

    def figures(self) -> dict[str, float | int]:
        "Return the figures by name."
        n, wrong = len(self.counts), sum(c > 0 for c in self.counts)
        low, high = clopper_pearson(wrong, n)
        told = {"tables": n, "wrong": wrong, "share": wrong / n if n else None, "low": low, "high": high}
        told |= {"mean": float(np.mean(self.counts)) if n else None, "failed": len(self.failed)}
        if self.kind == "confirmed" and n:
            told["p_above_stated"] = float(stats.binomtest(wrong, n, RATE, alternative="greater").pvalue)
        if self.found:
            low, high = clopper_pearson(sum(self.found), len(self.found))
            told |= {
                "effects": len(self.found),
                "found": float(np.mean(self.found)),
                "found_low": low,
                "found_high": high,
            }
        return told


def rows_of(tools: Sequence[str], jobs: Sequence[Job]) -> list[Row]:
    "Return the lines of the table, from the results that are there."
    lines = []
    for tool in tools:
        results = [(job, read_json(stored(tool, job))) for job in jobs if stored(tool, job).is_file()]
        answers = [(job, r) for job, r in results if "failed" not in r]
        failed = [r["failed"] for job, r in results if "failed" in r and not job.planted]
        for kind in ("claims", "confirmed") if tool in OWN else ("claims",):
            counts = [r[kind] for job, r in answers if not job.planted]
            found = [r["found"] for job, r in answers if job.planted] if tool not in OWN or kind == "confirmed" else []
            lines.append(Row(tool, "claimed" if kind == "claims" else kind, counts, failed, found))
    return lines


def report(lines: Sequence[Row]) -> dict:
    "Print the table; return the figures by name."
    above = f"p above {RATE:.0%}"
    print(
        f"{'tool':12}{'finding':11}{'tables':>7}{'with any':>10}{'95% interval':>18}{'mean':>8}{above:>12}{'planted':>9}{'found':>8}{'95% interval':>18}"
    )
    figures: dict[str, float | int | None] = {}
    for line in lines:
        told = line.figures()
        name = line.tool.replace("_", " ")
        if not told["tables"]:
            reason = "no results yet" if line.tool in OWN or peers.ready(line.tool) else peers.available()[line.tool]
            print(f"{name:12}{line.kind:11}{reason if not line.failed else f'failed: {line.failed[0]}'}")
            continue
        span = f"{told['low']:.1%} to {told['high']:.1%}"
        p = f"{told['p_above_stated']:.2g}" if "p_above_stated" in told else ""
        between = f"{told['found_low']:.1%} to {told['found_high']:.1%}" if line.found else ""
        found = f"{told['effects']:9}{told['found']:8.1%}{between:>18}" if line.found else ""
        late = f"   {len(line.failed)} without an answer: {', '.join(sorted(set(line.failed)))}" if line.failed else ""
        print(
            f"{name:12}{line.kind:11}{told['tables']:7}{told['share']:10.1%}{span:>18}{told['mean']:8.2f}{p:>12}{found}{late}"
        )
        figures |= {f"{line.tool}_{line.kind}_{k}": v for k, v in told.items()}
    print(
        f"\nStated by params.yaml: discover.fdr {RATE:g}, the share of tables with a confirmed pattern where nothing is wrong; discover.chance {CHANCE:g}, the claims of one search that chance may make."
    )
    return figures


def promises_broken(figures: dict) -> list[str]:
    "Return in words what failwb does not keep: its rates where nothing is wrong, and finding most of what is planted."
    broken = [
        f"{tool}: {figures[f'{tool}_confirmed_share']:.1%} of tables have a confirmed pattern, more than {RATE:.0%} (p = {p:.2g})."
        for tool in OWN
        if (p := figures.get(f"{tool}_confirmed_p_above_stated", 1.0)) < SUSPICION
    ]
    if (mean := figures.get("failwb_claimed_mean") or 0.0) > CHANCE:
        broken.append(f"failwb claims {mean:.2f} slices a table by chance, more than {CHANCE:g}.")
    if figures.get("failwb_confirmed_found_high", 1.0) < 0.5:
        broken.append(f"failwb finds only {figures['failwb_confirmed_found']:.0%} of the planted slices.")
    return broken


def main() -> int:
    "Run what is missing, print the table and, last, the figures as JSON; return 1 where a promise is broken."
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nulls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=int, default=500, help="tables in which nothing is wrong (500)")
    parser.add_argument("--effects", type=int, default=60, help="tables with one planted slice (60)")
    parser.add_argument("--only", choices=TOOLS, action="append", help="a tool; may be given several times (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the tables (0)")
    parser.add_argument("--at-hand", action="store_true", help="run nothing: report what is finished")
    parser.add_argument("--to", type=Path, help="also write the figures to this JSON file")
    given = parser.parse_args()
    tools = [t for t in TOOLS if t in (given.only or TOOLS)]
    nulls, effects = (
        [Job(given.seed, k, planted) for k in range(n)] for n, planted in ((given.tables, False), (given.effects, True))
    )
    jobs = mixed(nulls, effects)
    if not given.at_hand:
        complete(tools, jobs)
    figures = report(rows_of(tools, jobs))
    broken = promises_broken(figures)
    for words in broken:
        print(f"BROKEN: {words}")
    figures = settle(
        figures | {"seed": given.seed, "stated_rate": RATE, "stated_chance": CHANCE, "promises_broken": len(broken)}, 4
    )
    if given.to:
        write_json({"schema": 1, "figures": figures}, given.to)
    print(json.dumps(figures))
    return 1 if broken else 0


def mixed(nulls: Sequence[Job], effects: Sequence[Job]) -> list[Job]:
    "Return all jobs, those with an effect spread evenly among the others, so that a part of the run is a small run."
    place = {
        **{j: (k + 0.5) / len(nulls) for k, j in enumerate(nulls)},
        **{j: (k + 0.5) / len(effects) for k, j in enumerate(effects)},
    }
    return sorted(place, key=lambda j: (place[j], j.planted))


if __name__ == "__main__":
    sys.exit(main())
