"""Criteria per stage: what `failwb check` says about results that are sound, broken, not there or wrongly asked for."""

import json
import re

import pytest
import yaml
from house import ROOT, failwb, out_json, said
from typer.testing import CliRunner

from failwb.cli import app
from failwb.lab.init import WORKFLOW, default_params
from failwb.publish.criteria import FIGURES, judge, read_criteria
from failwb.record.tables import read_json, write_json
from failwb.workbench import STAGES

SECTION = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["criteria"]
WRITTEN = [(stage, figure) for stage, own in SECTION.items() for figure in own]


@pytest.fixture
def results(bench):
    "A copy of the sample workbench with the summaries of all stages, for a test to break."
    return bench(*[f"out/{verb}/summary.json" for verb in STAGES])


def check(root, *options: str):
    return CliRunner().invoke(app, ["check", "-C", str(root), *options], env={"COLUMNS": "200", "NO_COLOR": "1"})


def said_by(result) -> str:
    return " ".join(result.output.split())


def change(root, stage: str, **values):
    path = root / f"out/{stage}/summary.json"
    write_json(read_json(path) | values, path)


def states(root) -> dict[str, str]:
    found = json.loads(check(root, "--json").stdout)["criteria"]
    return {f"{c['stage']}.{c['figure']}": c["state"] for c in found}


# -- the sample


@pytest.mark.parametrize("stage, figure", WRITTEN)
def test_a_criterion_of_the_sample_is_measured(out, stage, figure):
    one = judge(read_criteria({stage: {figure: SECTION[stage][figure]}}), {stage: out_json(f"{stage}/summary.json")})
    assert one[0].state in ("holds", "warns"), one


@pytest.mark.parametrize("stage, figure", WRITTEN)
def test_a_criterion_has_a_comment(stage, figure):
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").split("\ncriteria:")[1].splitlines()
    assert any(re.match(rf"    {figure}: {{.*}}\s+# \S", line) for line in lines)


def test_every_named_figure_is_used_by_the_sample():
    assert [(s, f) for s, own in FIGURES.items() for f in own if (s, f) not in WRITTEN] == []


def test_review_and_check_say_the_same(out):
    told = json.loads(failwb("check", "--json").stdout)
    assert told["healthy"] and told["criteria"] == out_json("review/review.json")["health"]


def test_the_site_shows_each_criterion(out):
    page = (out / "document/health.html").read_text(encoding="utf-8")
    assert page.count('class="fw-bullet"') == len(WRITTEN) and page.count("◌ later") == sum(
        stage in ("document", "review") for stage, _ in WRITTEN
    )


# -- broken, at equality, not there


@pytest.mark.parametrize(
    "stage, values, figure, state, says",
    [
        ("validate", {"events": 10_000, "passed": 9_900, "quarantined": 100}, "quarantined_share", "holds", "✓"),
        ("validate", {"events": 10_000, "passed": 9_899, "quarantined": 101}, "quarantined_share", "fails", "1.01%"),
        ("validate", {"passed": 40_000}, "accounted_share", "fails", "nothing after this stage is sound"),
        ("validate", {"events": 0, "passed": 0, "quarantined": 0}, "events", "fails", "failwb collect"),
        ("detect", {"labelled": 8, "unlabelled": 2}, "labelled_share", "holds", "✓"),
        ("detect", {"labelled": 7, "unlabelled": 3}, "labelled_share", "warns", "why labels are missing"),
        ("detect", {"label_delay_days": None}, "label_delay_days", "nothing to measure", "nothing to measure"),
        ("diagnose", {"patterns": 0, "known": 0}, "known_share", "nothing to measure", "nothing to measure"),
        ("experiment", {"unsealed": 1}, "unsealed", "fails", "failwb run"),
        ("document", {"broken_links": 2}, "broken_links", "fails", "first_broken_link"),
        ("review", {"approval_days": 15}, "approval_days", "warns", "15 days"),
    ],
)
def test_a_figure_is_held_against_its_threshold(results, stage, values, figure, state, says):
    change(results, stage, **values)
    result = check(results)
    assert states(results)[f"{stage}.{figure}"] == state and says in said_by(result)
    assert result.exit_code == (1 if state == "fails" else 0), result.output
    if state == "fails":
        assert f"{stage}.{figure}" in result.stderr


@pytest.mark.parametrize("stage, code", [("detect", 0), ("validate", 1)])
def test_a_stage_that_has_not_run_is_named(results, stage, code):
    "A criterion that only warns does not fail because it could not be judged; one that must hold does."
    (results / f"out/{stage}/summary.json").unlink()
    result = check(results)
    assert result.exit_code == code and "not run" in said_by(result)
    assert (f"dvc repro {stage}" in said_by(result)) == (code == 1)
    assert {s for place, s in states(results).items() if place.startswith(stage)} == {"not run"}


def test_nothing_has_run(bench):
    result = check(bench(), "--markdown")
    assert result.exit_code == 1 and "No criterion could be judged." in result.stdout


def test_markdown_is_for_a_pull_request(results):
    change(results, "experiment", unsealed=3)
    result = check(results, "--markdown")
    assert result.exit_code == 1 and result.stdout.startswith("### Health")
    assert "- **experiment**: plans that nobody sealed: 3, should be at most 0." in result.stdout
    assert result.stdout.count("\n| ") == len(WRITTEN) + 2 and "<details>" in result.stdout


# -- mistakes in params.yaml


def edit(root, old: str, new: str):
    path = root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("labelled_share: {at_least", "lable_share: {at_least", "Did you mean 'labelled_share'"),
        ("  detect:  # does", "  detekt:  # does", "Did you mean 'detect'"),
        ("unsealed: {at_most: 0, level: fail}", "unsealed: {at_most: none, level: fail}", "must be a number"),
        ("unsealed: {at_most: 0, level: fail}", "unsealed: 0", "must be a mapping"),
        ("unsealed: {at_most: 0, level: fail}", "unsealed: {at_most: 0, level: off}", "delete the line"),
        ("unsealed: {at_most: 0, level: fail}", "unsealed: {atmost: 0, level: fail}", "Did you mean 'at_most'"),
        ("\ncriteria:", "\ncriterion:", "no section criteria"),
    ],
)
def test_a_mistake_is_a_message(results, old, new, says):
    edit(results, old, new)
    result = failwb("check", cwd=results)
    assert result.returncode == 2 and says in said(result) and "Traceback" not in result.stderr, said(result)


def test_any_number_of_a_summary_can_be_a_figure(results):
    edit(results, "    labelled_share:", "    log_loss: {at_most: 0.4, level: fail}\n    labelled_share:")
    result = check(results)
    says = "log loss: 0.472, should be at most 0.4. Compare with the last run"
    assert result.exit_code == 1 and says in said_by(result)


# -- where else it stands


def test_only_the_site_and_the_review_run_again_when_a_criterion_changes():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [verb for verb, stage in stages.items() if "criteria" in stage.get("params", [])] == ["document", "review"]
    assert {f"out/{verb}/summary.json" for verb in STAGES if verb != "review"} <= set(stages["review"]["deps"])


def test_a_new_workbench_has_criteria_and_its_ci_holds_them():
    assert read_criteria(yaml.safe_load(default_params())["criteria"])
    ours = (ROOT / ".github/workflows/experiments.yml").read_text()
    for workflow in (WORKFLOW, ours):
        text = workflow[workflow.index("dvc repro" if workflow is WORKFLOW else "make repro") :]
        assert "failwb check --markdown >> " in text and "| tee" not in text  # a pipe would hide the exit code
        yaml.safe_load(workflow)
