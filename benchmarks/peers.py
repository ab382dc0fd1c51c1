"""Other tools on the same rows: which of them are here, what each can say, and one run of one of them, measured.

A peer is an adapter in adapters/ and a list of exact versions in peers/; `make peers` makes its environment.
What a peer cannot do is a key that its answer lacks: an empty cell, never a zero.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".peers"
CELLS = {  # name -> keys that its answer may have
    "sliceline": {"patterns"},
    "divexplorer": {"patterns"},
    "pysubgroup": {"patterns"},
    "errortree": {"patterns"},
    "giskard": {"patterns", "category"},
    "cleanlab": {"patterns", "category", "label_quality"},
    "evidently": {"category", "drift"},
    "nannyml": {"category", "drift"},
    "retrain": {"remedy"},
}
OWN = {"errortree", "retrain"}  # scikit-learn alone: they run in the workbench's environment
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1"
)
SILENT = {"DO_NOT_TRACK": "1", "GSK_DISABLE_ANALYTICS": "True", "NML_DISABLE_USAGE_LOGGING": "1", "HF_HUB_OFFLINE": "1"}
NO_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "can't start new thread", "failed to map segment")
PATIENCE = 4  # seconds of the clock for each allowed CPU second, for what waits and never works


def python(name: str) -> Path:
    "Return the interpreter that runs the peer `name`."
    return Path(sys.executable) if name in OWN else PLACE / name / "bin/python"


def ready(name: str) -> bool:
    "Return whether the peer can run here."
    return name in OWN or (PLACE / name / ".ready").is_file()


def available() -> dict[str, str]:
    "Return for each peer its version, or, where it is not `ready`, the reason."
    return {name: _version(name) if ready(name) else "not installed. Hint: make peers" for name in CELLS}


def _version(name: str) -> str:
    if name in OWN:
        return f"scikit-learn {version('scikit-learn')}"
    lines = (HERE / f"peers/{name}.txt").read_text(encoding="utf-8").lower().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))


def cells(name: str) -> set[str]:
    "Return the keys that the answer of the peer `name` may have: what it can be scored on."
    return set(CELLS[name])


def run(name: str, folder: Path, limit_seconds: float = 120, limit_gib: float = 8) -> dict:
    "Return the answer of `name` to the rows in `folder`, with its `seconds` (CPU, imports included) and `peak_mib`."
    if not ready(name):
        return {"failed": available()[name]}
    said, log = folder / f"{name}.json", folder / f"{name}.log"
    said.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home, open(log, "wb") as out:
        child = _started(name, [folder], limit_seconds, limit_gib, home, stdout=out, stderr=out)
        late, used = _wait(child, PATIENCE * limit_seconds + 60)
    return _told(said, log, child.returncode, late, {"seconds": used.ru_utime + used.ru_stime})


def run_many(name: str, folders: Sequence[Path], limit_seconds: float = 120, limit_gib: float = 8) -> Iterator[dict]:
    "Yield the answer of `name` to each of `folders`, in turn, from one process that imports once; the limits hold for each folder."
    if not ready(name):
        yield from ({"failed": available()[name]} for _ in folders)
        return
    if len(folders) == 1:
        yield run(name, folders[0], limit_seconds, limit_gib)
        return
    for folder in folders:
        (folder / f"{name}.json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as complaint:
        child = _started(name, folders, limit_seconds, limit_gib, home, stdout=subprocess.PIPE, stderr=complaint)
        try:
            for folder in folders:
                line, late = _line(child, PATIENCE * limit_seconds + 60)
                code = json.loads(line)[1] if line else -signal.SIGKILL
                if not line and not late:
                    complaint.seek(0)
                    raise RuntimeError(
                        f"The adapter of {name} ended before {folder.name}: {complaint.read().decode()[-800:]}"
                    )
                yield _told(folder / f"{name}.json", folder / f"{name}.log", code, late, {})
                if late:
                    remaining = list(folders)[list(folders).index(folder) + 1 :]
                    yield from run_many(name, remaining, limit_seconds, limit_gib) if remaining else ()
                    return
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()


def _started(
    name: str, folders: Sequence[Path], seconds: float, gib: float, home: str, **streams: Any
) -> subprocess.Popen:
    limits = ["--seconds", str(seconds), "--gib", str(gib)]
    command = [str(python(name)), "-m", f"adapters.{name}", *(str(f.resolve()) for f in folders), *limits]
    alone = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    alone |= ONE_THREAD | SILENT | {"HOME": home, "GSK_HOME": home}
    return subprocess.Popen(command, cwd=HERE, env=alone, start_new_session=True, **streams)


def _line(child: subprocess.Popen, limit: float) -> tuple[str, bool]:
    "Return the next line of `child`, empty at its end, and whether it was given up, and killed, after `limit` seconds."
    waiting = threading.Timer(limit, os.killpg, (child.pid, signal.SIGKILL))
    waiting.start()
    line = child.stdout.readline().decode()
    late = not line and not waiting.is_alive()
    waiting.cancel()
    return line, late


def _told(said: Path, log: Path, code: int, late: bool, seconds: dict) -> dict:
    "Return what an adapter wrote, or that and why it failed."
    written = json.loads(said.read_text(encoding="utf-8")) if code == 0 and said.is_file() else {}
    if written and "failed" not in written:
        return written | seconds
    answer = written | {"failed": _reason(code, late, log, written.get("failed"))} | seconds
    said.write_text(json.dumps(answer), encoding="utf-8")
    return answer


def _wait(child: subprocess.Popen, limit: float) -> tuple[bool, resource.struct_rusage]:
    end, late = time.monotonic() + limit, False
    while True:
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return late, used
        if time.monotonic() > end and not late:
            late = True
            os.killpg(child.pid, signal.SIGKILL)
        time.sleep(0.02)


def _reason(code: int, late: bool, log: Path, message: str | None) -> str:
    if late or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "time"
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if any(word in text for word in NO_MEMORY):
        return "memory"
    return message or f"exit code {code}: {text.splitlines()[-1][:300] if text else 'it said nothing'}"


if __name__ == "__main__":
    for one, said in available().items():
        print(f"{one:12} {said:40} {', '.join(sorted(cells(one)))}")
    if len(sys.argv) > 1:
        place = Path(sys.argv[1])
        for one in sys.argv[2:] or [n for n in CELLS if ready(n)]:
            told = run(one, place)
            shown = {k: v for k, v in told.items() if not isinstance(v, list | dict)}
            print(one, json.dumps(shown | {"patterns": [p.get("predicate") for p in told.get("patterns", [])[:3]]}))
