"""The command line: help with examples, suggestions, messages without tracebacks, JSON for programs."""

import json
import re
import shutil
import sys
import time

import pytest
from house import ROOT, commands, copy_workbench, failwb, failwb_here, run, said
from typer.testing import CliRunner

from failwb.cli import app
from failwb.workbench import STAGES

LIVE = ["approve", "run", "seal", "round close", "promote", "collect", "import", "sample", "init", "dataset", "lock"]
LIVE += ["contract record", "checkpoint add", "checkpoint list", "rollout", "import-catalog", "plan amend"]
LOOK = ["trace", "summary", "check", "compare", "glossary", "doctor", "regress", "change"]
LOOK += ["contract check", "contract diff", "contract infer", "plan list", "plan show"]


def test_the_commands_are_those_that_the_design_names():
    assert sorted(commands()) == sorted([*STAGES, *LIVE, *LOOK])


@pytest.mark.parametrize("name", commands())
def test_help_shows_an_example(name):
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    assert re.search(rf"Example: .*failwb {name}\b", result.stdout), result.stdout


def test_help_is_quick():
    "Nothing heavy is imported to print it."
    start = time.monotonic()
    assert failwb("--help").returncode == 0
    assert time.monotonic() - start < 10
    program = (
        "import sys, failwb.cli; print(sorted({'pandas', 'sklearn', 'shap', 'papermill', 'sphinx'} & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", program, cwd=ROOT).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "typed, meant",
    [
        (["dignose"], "diagnose"),
        (["sumary"], "summary"),
        (["round", "clsoe"], "close"),
        (["init", "x", "--tabel", "t.csv"], "--table"),
        (["glossary", "label-nois"], "label-noise"),
        (["dataset", "adlut", "t.parquet"], "adult"),
    ],
)
def test_a_typo_gets_a_suggestion(typed, meant):
    result = failwb(*typed)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert meant in said(result), said(result)


def no_contract(root):
    (root / "contract.yaml").write_text("name: loans\n")


def table(root, text: str):
    (root / "t.csv").write_text(text)


@pytest.mark.parametrize(
    "prepare, typed, says",
    [
        (lambda root: None, ["summary"], "not inside a workbench"),
        (lambda root: None, ["validate"], "not inside a workbench"),
        (lambda root: None, ["trace", "abcd"], "not inside a workbench"),
        (lambda root: None, ["compare", "here", "there"], "not a folder"),
        (lambda root: None, ["init", "wb", "--table", "none.csv", "--label", "y", "--train"], "none.csv"),
        (
            lambda root: table(root, "a,y\n1,0\n2,1\n"),
            ["init", "wb", "--table", "t.csv", "--label", "z", "--train"],
            "column",
        ),
        (
            lambda root: table(root, "a,y\n1,0\n2,1\n"),
            ["init", "wb", "--table", "t.csv", "--label", "y", "--train"],
            "Needed",
        ),
        (lambda root: table(root, ""), ["init", "wb", "--table", "t.csv", "--label", "y", "--train"], "t.csv"),
    ],
)
def test_a_mistake_is_a_message(tmp_path, prepare, typed, says):
    prepare(tmp_path)
    result = failwb_here(*typed, cwd=tmp_path)
    assert result.returncode == 2, said(result)
    assert says in said(result) and "Traceback" not in result.stdout + result.stderr


def test_a_broken_contract_is_named_line_by_line(tmp_path):
    root = copy_workbench(tmp_path / "bench")
    no_contract(root)
    result = failwb("validate", cwd=root)
    assert result.returncode == 2 and "contract.yaml cannot be used" in said(result) and "columns" in said(result)


def test_an_id_that_nothing_has_is_a_message(out):
    result = failwb("trace", "zzzz")
    assert result.returncode == 2 and "zzzz" in said(result) and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "typed",
    [["summary"], ["check"], ["glossary"], ["glossary", "label-noise"], ["compare", "out/gate", "out/gate"]],
    ids=" ".join,
)
def test_json_is_for_programs(out, typed):
    result = failwb_here(*typed, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)


def test_the_summary_is_markdown_with_the_funnel(out):
    result = failwb("summary")
    funnel = json.loads((out / "catalog/funnel.json").read_text())
    assert (
        result.returncode == 0
        and re.search(r"^#+ ", result.stdout, re.M)
        and re.search(r"^\|.*\|$", result.stdout, re.M)
    )
    shown = {"Predictions": "events", "Failures": "failed_events", "Plans": "plans", "Adopted": "adopted"}
    shown |= {"Patterns claimed": "claimed", "Patterns confirmed": "confirmed"}
    for step, key in shown.items():
        assert f"| {step} | {funnel[key]:,} |" in result.stdout


@pytest.mark.parametrize(
    "change, code, differ",
    [
        (lambda folder: None, 0, []),
        (lambda folder: (folder / "a.json").write_text("[2]"), 1, ["a.json"]),
        (lambda folder: (folder / "deep/b.txt").unlink(), 1, ["deep/b.txt"]),
        (lambda folder: (folder / "new").write_text(""), 1, ["new"]),
    ],
    ids=["equal", "changed", "missing", "added"],
)
def test_compare_finds_every_difference(tmp_path, change, code, differ):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "deep").mkdir(parents=True)
    (ours / "a.json").write_text("[1]")
    (ours / "deep/b.txt").write_text("b")
    shutil.copytree(ours, theirs)
    change(theirs)
    result = failwb_here("compare", ours, theirs, "--json")
    assert result.returncode == code
    found = json.loads(result.stdout)
    assert found["different"] == len(differ) and found["files"] == differ and found["compared"] >= 2


def test_comparing_nothing_is_no_success(tmp_path):
    (tmp_path / "empty").mkdir()
    assert failwb_here("compare", tmp_path / "empty", tmp_path / "empty").returncode != 0
