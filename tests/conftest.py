"""Fixtures that several files share."""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})  # before NumPy: as the stages run

import shutil
import sys
from pathlib import Path

import crowd
import pytest
from house import ROOT, copy_workbench, run, tracked

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
    own = tmp_path_factory.getbasetemp()  # of this process; those that share the tests have theirs beside it
    return crowd.small((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "small")


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    "The example package, installed by pip into a folder of its own; nothing is fetched."
    source, target = tmp_path_factory.mktemp("example") / "source", tmp_path_factory.mktemp("installed")
    shutil.copytree(
        ROOT / "tests/example_plugin", source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    result = run(sys.executable, "-m", "pip", "install", *options, "--target", target, source, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return target


FIRST = ["test_realdata", "test_interrupted", "test_engine", "test_hard_inputs", "test_faults"]  # minutes each


def pytest_collection_modifyitems(items):
    "Begin with the longest files: processes that share the files (`-n 2 --dist loadfile`) then end together."
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


def pytest_terminal_summary(terminalreporter):
    "Name the functions that are longer than the style asks for; a report, not a failure."
    told = (o for report in terminalreporter.getreports("passed") for o in report.user_properties)
    if found := {name: lines for kind, (name, lines) in told if kind == "long function"}:
        terminalreporter.section(f"{len(found)} functions of more than 20 lines")
        for name, lines in sorted(found.items(), key=lambda o: (-o[1], o[0]))[:10]:
            terminalreporter.line(f"{lines:4} {name}")
