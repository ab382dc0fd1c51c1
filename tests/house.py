"""Where things are in this repository, and how tests run its commands."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import time
from configparser import ConfigParser
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from unittest.mock import patch

import nbformat
import typer

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
GENERATED = {"__init__.py", "_modidx.py"}  # written by nbdev without a notebook of their own
WORKBENCH = ("params.yaml", "contract.yaml", "data.dvc", "ledger", "plugins")  # decisions: what every workbench has
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def notebooks() -> list[Path]:
    "All notebooks of the source tree."
    return sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def room(path: Path) -> str:
    "The folder under nbs/ that a notebook stands in; empty for those directly in nbs/."
    inside = path.relative_to(ROOT / "nbs").parts
    return inside[0] if len(inside) > 1 else ""


@cache
def read_notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[str]:
    "The sources of a notebook's code cells."
    return [c.source for c in read_notebook(path).cells if c.cell_type == "code"]


def default_exps(path: Path) -> list[str]:
    "The modules that a notebook says it exports to."
    lines = [line.split() for source in code(path) for line in source.splitlines()]
    return [words[2] for words in lines if words[:2] == ["#|", "default_exp"]]


def modules() -> dict[str, Path]:
    "Name and file of every module of the package (without package markers)."
    files = sorted(p for p in (ROOT / "failwb").rglob("*.py") if p.name not in GENERATED)
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in files}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def settings() -> dict[str, str]:
    config = ConfigParser(delimiters="=")
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def tracked() -> list[Path]:
    "What git would hold: committed and new files, relative to the root; ignored ones are left out."
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [Path(name) for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file()]


def run(*command: str | Path, cwd: Path, timeout: float = 600, **env: str) -> subprocess.CompletedProcess:
    "Run a program with this environment's commands first on the path."
    given = (
        os.environ | ONE_THREAD | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "true"} | env
    )
    return subprocess.run(
        [str(o) for o in command], cwd=cwd, env=given, capture_output=True, text=True, timeout=timeout
    )


def failwb(*arguments: str | Path, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    "Run `failwb ...` as a user would."
    return run(BIN / "failwb", *arguments, cwd=cwd, **options)


def failwb_here(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run `failwb ...` in this process, which saves the seconds that another needs to begin.

    An exception of which `main` makes no message passes through, so there is no traceback to look for.
    """
    from failwb.cli import main

    words, code = ["failwb", *map(str, arguments)], 0
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with patch.dict(os.environ), patch.object(sys, "argv", words), chdir(cwd):
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as e:
                code = e.code or 0
    time.tzset()  # `main` has set the zone
    return subprocess.CompletedProcess(words, code, *(o.buffer.getvalue().decode() for o in (out, err)))


def said(result: subprocess.CompletedProcess) -> str:
    "Everything that a command printed, on one line: messages are wrapped for the terminal."
    return " ".join((result.stdout + result.stderr).split())


def signer(root: Path, name: str) -> str:
    "Make an SSH key for `name` in `root`; return its line for the file of allowed signers."
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name]
    subprocess.run(made, check=True, capture_output=True)
    return f'{name} namespaces="failwb" ' + (root / f"{name}.pub").read_text()


def copy_workbench(to: Path, *parts: str) -> Path:
    "Copy the decisions of the sample workbench to `to`, and the named `parts` (data, out/split, ...) with them."
    to.mkdir(parents=True)
    for name in (*WORKBENCH, *parts):
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.is_file():
            shutil.copy(source, target)
    for path in [p for p in to.rglob("*") if p.is_file()]:
        path.chmod(0o644)  # DVC may have linked its read-only cache
    return to


def out_json(name: str):
    "A JSON file under out/."
    return json.loads((ROOT / "out" / name).read_text(encoding="utf-8"))


def failwb_app():
    "The command line's application, for looking at it."
    from failwb.cli import app

    return app


def commands(group=None, before: str = "") -> dict[str, object]:
    "All commands by their full name: `seal`, `round close`, ..."
    found = {}
    for name, command in (group or typer.main.get_command(failwb_app())).commands.items():
        found |= commands(command, f"{before}{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


def log_of(root: Path, path: Path) -> tuple[Path, Path]:
    "Write a workbench's evidence as the log and the labels that a team would have kept."
    import pandas as pd

    from failwb.record.tables import PREFIX, read_table

    events, labels = read_table(root / "out/validate/events.parquet"), read_table(root / "out/validate/labels.parquet")
    kept = ["event_id", "time", "subject", "prediction", "score", "checkpoint", "latency_ms", "status"]
    own = pd.concat(
        [events[kept], events.filter(like=PREFIX).rename(columns=lambda c: "feat_" + c[len(PREFIX) :])], axis=1
    )
    own.to_parquet(path / "log.parquet")
    labels[["event_id", "label", "time"]].to_csv(path / "labels.csv", index=False)
    return path / "log.parquet", path / "labels.csv"


def overlap(ours: dict, theirs: dict, rows) -> float:
    "How far two patterns are the same of `rows` (intersection over union)."
    from failwb.record.predicate import match
    from failwb.record.tables import features

    a, b = (match(p["predicate"], features(rows)) for p in (ours, theirs))
    return (a & b).sum() / (a | b).sum()
