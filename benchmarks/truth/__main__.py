"""Run the benchmark of the whole loop: `python -m benchmarks.truth --help`.

Example: python -m benchmarks.truth sample
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}  # before NumPy: processes are parallel, threads are not

import pandas as pd  # noqa: E402
import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402

from failwb.faults.registry import FAULTS  # noqa: E402
from failwb.record.provenance import code_digest  # noqa: E402
from failwb.record.tables import canonical, read_json, sha, write_json  # noqa: E402
from failwb.workbench import STAGES  # noqa: E402

from .beside import beside, lower, shown  # noqa: E402
from .case import all_grounds, one  # noqa: E402
from .grid import Case, cases, compared, sized  # noqa: E402
from .page import floors_broken, reached, text  # noqa: E402
from .tables import brief, confused, curve, summary  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".failwb/cache/truth"
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The whole loop against known answers: faults are planted, the loop runs, what it says is scored.",
)
console = Console(stderr=True)


def version() -> str:
    "Return the digest of the code that the answers depend on: results of other code are not used again."
    own = sorted(
        p.read_text(encoding="utf-8") for p in Path(__file__).parent.glob("*.py") if p.stem in ("case", "loop", "score")
    )
    return sha(
        canonical(
            [code_digest(m) for m in STAGES.values() if "publish" not in m]
            + own
            + [(ROOT / "params.yaml").read_text(encoding="utf-8")]
        )
    )[:12]


def stored(case: Case, code: str) -> Path:
    "Return where the result of `case` lies."
    return CACHE / code / f"{case.key}.json"


def completed(wanted: Iterable[Case], jobs: int, scheduler: str | None) -> Iterator[dict[str, Any]]:
    "Yield the results of `wanted`, those at hand first; the others are computed by Dask workers and kept, one by one."
    from distributed import Client, LocalCluster, as_completed

    code, missing = version(), []
    for case in wanted:
        if stored(case, code).is_file():
            yield read_json(stored(case, code))
        else:
            missing.append(case)
    if not missing:
        return
    own = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": 0}
    with nullcontext(scheduler) if scheduler else LocalCluster(**own) as cluster, Client(cluster) as client:
        todo = {client.submit(one, case, key=f"case-{case.key}", pure=False): case for case in missing}
        for future in as_completed(todo):
            if (error := future.exception()) is not None:  # told and counted at the end; the other cases go on
                yield {"case": asdict(todo[future]), "crashed": f"{type(error).__name__}: {error}"}
            else:
                write_json(future.result(), stored(todo[future], code))
                yield read_json(stored(todo[future], code))
            future.release()


def results(wanted: list[Case], jobs: int, scheduler: str | None) -> list[dict[str, Any]]:
    "Return all results in the order of their seeds, without the cases that a ground refused."
    bar = track(
        completed(wanted, jobs, scheduler), "Cases", total=len(wanted), console=console, disable=not console.is_terminal
    )
    found = sorted(bar, key=lambda r: r["case"]["seed"])
    if crashed := [r for r in found if "crashed" in r]:
        told = "\n".join(f"  {r['case']}: {r['crashed']}" for r in crashed)
        sys.exit(f"{len(crashed)} of {len(found)} cases crashed, the others are kept:\n{told}")
    return [r for r in found if "refused" not in r]


def families(held_back: bool) -> list[str]:
    "Return the faults that can be told from wrong answers, with or without those that are kept for reporting."
    silent = {"weak_slice", "slow_route", "outage"}  # a duplicate for the sample; symptoms other than a wrong answer
    return [name for name, fault in FAULTS.items() if name not in silent and (held_back or not fault.held_back)]


Jobs = Annotated[int, typer.Option(help="Cases at the same time, each in a process of its own.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler instead, such as tcp://10.0.0.1:8786.")
]


@app.command()
def sample(jobs: Jobs = 2, scheduler: Scheduler = None, rounds: int = 1, n: int = 16_000, floors: bool = True) -> None:
    """Run the fixed sample of the development grid, print the table, and fail where a score is below its floor.

    Example: python -m benchmarks.truth sample --jobs 4
    """
    names = [g for g in all_grounds() if g in ("loans", "machines", "claims")]
    wanted = [c for k, c in enumerate(cases("development", names, families(False), rounds, None, n)) if k % 5 == 2]
    report(results(wanted, jobs, scheduler), floors)


@app.command()
def full(
    role: str = "report",
    rounds: int = 4,
    nulls: int = 300,
    n: int = 16_000,
    jobs: Jobs = 2,
    scheduler: Scheduler = None,
    at_hand: Annotated[bool, typer.Option(help="Run nothing: take the cases that are finished.")] = False,
    to: Path = Path("benchmarks/results/truth.json"),
) -> None:
    """Run the whole grid of a role (report or development), resumably, and write figures and results to a file.

    Example: python -m benchmarks.truth full --role development --rounds 1 --nulls 60
    """
    kinds, names = families(role == "report"), sorted(all_grounds())
    code = version() if at_hand else ""
    grid, sizes = (
        [c for c in wanted if not at_hand or stored(c, code).is_file()]
        for wanted in (cases(role, names, kinds, rounds, nulls, n), [*sized(role, names, kinds)])
    )
    found, other = results(grid, jobs, scheduler), results(sizes, jobs, scheduler)
    figures = summary(found, other)
    kept(
        to,
        {
            "schema": 1,
            "role": role,
            "figures": figures,
            "asked": reached(figures),
            "confusion": confused(found),
            "curve": curve(found + other),
            "cases": [brief(r) for r in found + other],
        },
    )
    report(found, False, other)


@app.command()
def others(
    role: str = "report",
    n: int = 16_000,
    jobs: Jobs = 2,
    scheduler: Scheduler = None,
    to: Path = Path("benchmarks/results/truth_peers.json"),
) -> None:
    """Let other tools (`make peers`) look at the same rows, and write their scores beside the loop's.

    Example: python -m benchmarks.truth others --jobs 2
    """
    found = results([*compared(role, sorted(all_grounds()), families(role == "report"), n)], jobs, scheduler)
    table, compared_to = beside(found), lower(found)
    kept(to, {"schema": 1, "role": role, "cases": len(found), "scores": table, "lower": compared_to})
    print(pd.DataFrame({tool: {k: shown(v) for k, v in row.items()} for tool, row in table.items()}).T.to_string())
    print(
        f"Below a peer beyond noise (Holm over {len(compared_to)} cells):",
        [c for c in compared_to if c["lower"]] or "nowhere",
    )
    print(json.dumps(table))


def kept(to: Path, content: dict[str, Any]) -> None:
    "Write `content` as JSON, a case to a line."
    (ROOT / to).parent.mkdir(parents=True, exist_ok=True)
    write_json(content, ROOT / to)


def report(found: list[dict[str, Any]], floors: bool, more: Sequence[dict[str, Any]] = ()) -> None:
    "Print the table, and the figures as one line of JSON."
    figures = summary(found, more)
    print(text(figures))
    print(json.dumps(figures))
    if floors and (broken := floors_broken(figures)):
        console.print("Below its floor:\n" + "\n".join(broken))
        sys.exit(1)


if __name__ == "__main__":
    app()
