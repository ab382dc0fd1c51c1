"""The conditions under which results must stay the same, and how to run a workbench under one of them.

As a program (`make reproducible-everywhere`): reproduces a clone of this repository under each condition, and compares
its results with out/.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from house import BIN, ONE_THREAD, ROOT

from failwb.lab.compare import compare_bytes, compare_meaning

NOBODY = 65534  # the user `nobody`


@dataclass(frozen=True)
class Condition:
    "One way in which a machine can be another."

    name: str
    env: dict[str, str] = field(default_factory=dict)
    home: bool = False  # a home full of settings that must not matter
    nobody: bool = False  # run as another user, who has no home
    meaning: bool = False  # another CPU: the same ids, counts and verdicts; numbers within a millionth


def simd() -> str:
    "The instruction sets that NumPy found beyond its baseline, in its own names."
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))


LATIN = {"LC_ALL": "POSIX", "LANG": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NOISE = {
    "FORCE_COLOR": "1",
    "COLUMNS": "40",
    "SOURCE_DATE_EPOCH": "0",
    "PYTHONWARNINGS": "always",
    "TERM": "xterm-256color",
}
CONDITIONS = (
    Condition("a second clone"),
    Condition("one thread", {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
    Condition("two threads", {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
    Condition("another hash seed", {"PYTHONHASHSEED": "77"}),
    Condition("another time zone", {"TZ": "Asia/Kathmandu"}),
    Condition("another language", LATIN),
    Condition("settings in a home", NOISE, home=True),
    Condition("another user", nobody=True),
    Condition("NumPy on an older CPU", {"NPY_DISABLE_CPU_FEATURES": simd()}, meaning=True),
    Condition("OpenBLAS on an older CPU", {"OPENBLAS_CORETYPE": "Haswell"}, meaning=True),
)
EVERYTHING = Condition(  # all that must give the same bytes, at once: what CI runs
    "everything at once",
    {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu"}
    | LATIN
    | NOISE,
    home=True,
)
OLDER_CPU = Condition(
    "an older CPU", {"NPY_DISABLE_CPU_FEATURES": simd(), "OPENBLAS_CORETYPE": "Haswell"}, meaning=True
)


def furnish(home: Path) -> None:
    "Fill a home with settings that would show in results if a run read them."
    settings = {
        ".config/matplotlib/matplotlibrc": "font.size: 23\naxes.facecolor: red\n",
        ".ipython/profile_default/startup/00.py": "import pandas as p\np.set_option('precision', 1)\nprint(1)\n",
        ".jupyter/jupyter_config.json": '{"NbConvertApp": {"log_level": 10}}',
        ".local/share/jupyter/kernels/python3/kernel.json": '{"argv": ["/nonexistent/python"], "display_name": "mine"}',
        ".config/dvc/config": "[core]\n    autostage = true\n",
    }
    for name, text in settings.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


def as_nobody(uid: int = NOBODY) -> list[str] | None:
    """The words before a command that is to run as another user; None where this user cannot become another.

    Where this Python lies in a closed home, the other user may read everything; never write it.
    """
    if os.geteuid() or not shutil.which("setpriv"):
        return None
    closed = [f for f in Path(sys.executable).resolve().parents if not f.stat().st_mode & 0o001]
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] if closed else []
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *may_read]


def hand_over(root: Path) -> None:
    "Give a folder to the other user, and let them come in."
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for folder in root.parents:
        if folder.stat().st_uid == 0 and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o011)


def environment(condition: Condition, home: Path, **more: str) -> dict[str, str]:
    "The environment of a run under `condition`; nothing of our own pins it."
    kept = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_L2_SIZE", *ONE_THREAD)}
    if condition.nobody:
        kept = {k: v for k, v in kept.items() if k not in ("USER", "LOGNAME")} | {"SHELL": "/bin/sh"}
    if condition.home or condition.nobody:
        kept |= {"HOME": str(home)}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "true"} | condition.env | more


def reproduce(root: Path, condition: Condition, **env: str) -> subprocess.CompletedProcess:
    "Force the whole pipeline in the workbench `root` under `condition`, by DVC alone."
    home = root.parent / "home"
    if condition.home:
        furnish(home)
    before = (as_nobody() or []) if condition.nobody else []
    if condition.nobody:
        env |= {"DVC_SITE_CACHE_DIR": str(root.parent / "site cache"), "HOME": "/nonexistent"}
        (root.parent / "site cache").mkdir()
        hand_over(root.parent)
    return subprocess.run(
        [*before, str(BIN / "python"), "-m", "dvc", "repro", "-f"],
        cwd=root,
        env=environment(condition, home, **env),
        capture_output=True,
        text=True,
        errors="replace",
    )


def compare(condition: Condition) -> Callable[[Path, Path], dict]:
    "How results under `condition` are compared."
    return compare_meaning if condition.meaning else compare_bytes


def clone(to: Path) -> Path:
    "Clone the last commit of this repository and bring its evidence."
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(to)], check=True)
    pull = [str(BIN / "python"), "-m", "dvc", "pull", "-q", "data"]
    subprocess.run(pull, cwd=to, check=True, env=os.environ | {"PYTHONPATH": str(to)})
    return to


def main() -> None:
    "Reproduce this repository under each condition; print a line each; exit 1 if anything differs."
    chosen = [c for c in CONDITIONS if not sys.argv[1:] or c.name in sys.argv[1:]]
    print(f"{'condition':28} {'compared':>9} {'different':>10} {'seconds':>8}")
    bad = 0
    for condition in chosen:
        if condition.nobody and as_nobody() is None:
            print(f"{condition.name:28} left out: only root can become another user, and setpriv is needed")
            continue
        place, start = Path(tempfile.mkdtemp(prefix="conditions-")), time.monotonic()
        try:
            root = clone(place / "second clone")
            result = reproduce(root, condition, PYTHONPATH=str(root))
            if result.returncode:
                bad += 1
                print(
                    f"{condition.name:28} the pipeline stopped\n{result.stdout[-1500:]}{result.stderr[-1500:]}",
                    flush=True,
                )
                continue
            found = compare(condition)(ROOT / "out", root / "out")
            bad += bool(found["different"])
            how = "meaning" if condition.meaning else "bytes"
            figures = f"{found['compared']:9} {found['different']:10} {time.monotonic() - start:8.0f}  {how}"
            print(f"{condition.name:28} {figures}", *found["files"][:5], flush=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
