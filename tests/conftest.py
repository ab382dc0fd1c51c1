"""Fixtures that several files share."""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})  # before NumPy: as the stages run

import shutil
import time
from pathlib import Path

import crowd
import pytest
from house import ROOT, copy_workbench, failwb, said, tracked

from failwb.workbench import STAGES


@pytest.fixture(scope="session")
def out() -> Path:
    "The results of the repository's own workbench; `make test` makes them before it comes here."
    missing = [verb for verb in STAGES if not (ROOT / "out" / verb / "summary.json").is_file()]
    if missing:
        pytest.fail(
            f"out/ lacks {', '.join(missing)}. Hint: `dvc pull data && dvc repro`, or `make test`.", pytrace=False
        )
    return ROOT / "out"


@pytest.fixture(scope="session")
def tree_copy(tmp_path_factory) -> Path:
    "A copy of what git would hold, as it stands in the working tree."
    copy = tmp_path_factory.mktemp("tree copy")  # a space on purpose
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture
def bench(tmp_path, out):
    "Make a copy of the sample workbench with the named parts, for a test to break: `bench('data', 'out/split')`."
    return lambda *parts: copy_workbench(tmp_path / "bench", *parts)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> crowd.Small:
    "A small workbench of one's own table, fresh and after a turn; about a minute, once for all tests that copy it."
    home = tmp_path_factory.mktemp("small")
    fresh = crowd.make(home)
    done = crowd.copy(fresh, home / "done with it")
    start = time.monotonic()
    result = failwb("run", cwd=done)
    assert result.returncode == 0, said(result)
    return crowd.Small(home / "crowd.csv", fresh, done, time.monotonic() - start)


LONG_FUNCTIONS = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def long_functions(pytestconfig) -> dict[str, int]:
    "Collects functions of more than 20 lines, for the report at the end."
    return pytestconfig.stash.setdefault(LONG_FUNCTIONS, {})


def pytest_terminal_summary(terminalreporter, config):
    "Name the functions that are longer than the style asks for; a report, not a failure."
    if found := config.stash.get(LONG_FUNCTIONS, {}):
        longest = sorted(found.items(), key=lambda o: (-o[1], o[0]))
        terminalreporter.section(f"{len(found)} functions of more than 20 lines")
        for name, lines in longest[:10]:
            terminalreporter.line(f"{lines:4} {name}")
