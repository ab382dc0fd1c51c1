"""A small table of one's own with a bad group in it, and the workbench that tests make of it."""

import fcntl
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from house import failwb, said

ROWS = 3600  # enough for a pattern, a plan and a trial


def crowd(rows: int) -> pd.DataFrame:
    "Customers who leave when they spend little, but for those of one branch, who leave as a coin falls."
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"spent": rng.gamma(2, 50, rows), "visits": rng.integers(0, 30, rows)})
    table["branch"] = rng.choice(["a", "b", "c", "d"], rows)
    leaves = np.where(table["branch"] == "d", rng.random(rows) < 0.5, table["spent"] < 60)
    return table.assign(left=np.where(leaves ^ (rng.random(rows) < 0.05), "yes", "no"))


@dataclass(frozen=True)
class Small:
    "One small workbench, before its first turn and after it. Tests copy it and never change it."

    table: Path
    fresh: Path
    done: Path


def copy(workbench: Path, to: Path) -> Path:
    "Copy a workbench with its DVC project and its repository; its cache of trials stays behind."
    shutil.copytree(
        workbench, to, symlinks=True, ignore=lambda folder, _: {"cache"} if folder.endswith(".failwb") else set()
    )
    return to


def make(folder: Path) -> Path:
    "Make the fresh workbench with `failwb init`; return its folder."
    crowd(ROWS).to_csv(folder / "crowd.csv", index=False)
    typed = ("init", "a workbench", "--table", "crowd.csv", "--label", "left", "--train", "--owner", "ada")
    result = failwb(*typed, cwd=folder)
    assert result.returncode == 0, said(result)
    treat_hard_regions(folder / "a workbench")
    return folder / "a workbench"


def small(home: Path) -> Small:
    "Make both workbenches in `home`, or take those that another process of the same tests has made there."
    found = Small(home / "crowd.csv", home / "a workbench", home / "done with it")
    home.mkdir(exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits for the first
        if not found.done.exists():
            half = copy(make(home), home / "at work on it")
            result = failwb("run", cwd=half)
            assert result.returncode == 0, said(result)
            half.rename(found.done)
    return found


def treat_hard_regions(root: Path) -> None:
    "Let regions count as patterns where the model itself is unsure; one that learnt from the same table has no other."
    path = root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count("hard_regions: 0 ") == 1
    path.write_text(text.replace("hard_regions: 0 ", "hard_regions: 1 "), encoding="utf-8")


def results(root: Path) -> dict[str, bytes]:
    """Everything that a turn makes, by path, without the moments at which decisions were taken.

    A seal says when it was given and a closed round when it was closed; out/ repeats both in three files (the history
    page and the review's `as_of`). They differ between any two runs, as they must, so these texts and nothing else are
    replaced.
    """
    moments = [e["time"] for e in map(json.loads, _texts(root / "ledger")) if "time" in e and "author" in e]
    words = [(t.encode(), b"(then)") for t in moments]
    words += [(t[:16].replace("T", " ").encode(), b"(that minute)") for t in moments]
    found = {}
    for path in [
        root / "data.dvc",
        *sorted(p for d in ("out", "ledger") for p in (root / d).rglob("*") if p.is_file()),
    ]:
        content = path.read_bytes()
        for old, new in words:
            content = content.replace(old, new)
        found[path.relative_to(root).as_posix()] = content
    return found


def _texts(folder: Path) -> list[str]:
    return [p.read_text(encoding="utf-8") for p in sorted(folder.glob("*/*.json"))]


def different(ours: Path, theirs: Path) -> list[str]:
    "The paths whose results differ between two workbenches, or that only one of them has."
    a, b = results(ours), results(theirs)
    return sorted(n for n in a.keys() | b.keys() if a.get(n) != b.get(n))
