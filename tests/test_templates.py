"""Papermill templates: one tagged cell, known parameters, and by hand the same figures as in the pipeline."""

import json

import nbformat
import papermill
import pytest
from house import ROOT, code, notebooks, room

from failwb.record.errors import TemplateError, UnknownName, UnknownParameter
from failwb.record.plugins import known
from failwb.record.tables import read_json
from failwb.remedy.experiment import check_template, template

TEMPLATES = {p.stem: p for p in notebooks() if room(p) == "templates"}
GIVEN = ["plan", "root", "out"]


def tagged(path) -> list:
    return [c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])]


def without_tag(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)


def with_two_tags(notebook):
    for cell in [c for c in notebook.cells if c.cell_type == "code"][:2]:
        cell.metadata["tags"] = ["parameters"]


def test_nbdev_leaves_templates_alone():
    assert (ROOT / "nbs/templates/.notest").is_file(), "nbdev_test would run the templates without a plan"
    assert not [
        line
        for path in TEMPLATES.values()
        for source in code(path)
        for line in source.splitlines()
        if line.startswith("#|")
    ]


def test_every_family_of_remedies_has_its_template():
    families = {remedy.family for remedy in known("remedy").values()} - {"none", "advice"}
    assert families == set(TEMPLATES)


@pytest.mark.parametrize("family", TEMPLATES)
def test_one_cell_declares_the_parameters(family):
    assert len(tagged(TEMPLATES[family])) == 1
    assert sorted(papermill.inspect_notebook(str(TEMPLATES[family]))) == sorted(GIVEN)
    check_template(TEMPLATES[family], GIVEN)


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize(
    "damage, given, error, says",
    [
        (without_tag, GIVEN, TemplateError, "0 cells with the tag `parameters`"),
        (with_two_tags, GIVEN, TemplateError, "2 cells with the tag `parameters`"),
        (None, [*GIVEN, "plam"], UnknownParameter, "declares no parameter 'plam'"),
        (None, ["plan = 1; import os #"], UnknownParameter, "declares no parameter"),
    ],
)
def test_a_template_that_cannot_be_run_is_refused(tmp_path, family, damage, given, error, says):
    notebook = nbformat.read(TEMPLATES[family], 4)
    if damage:
        damage(notebook)
    nbformat.write(notebook, tmp_path / f"{family}.ipynb")
    with pytest.raises(error, match=says):
        check_template(tmp_path / f"{family}.ipynb", given)


def test_an_unknown_family_is_refused():
    with pytest.raises(UnknownName, match="wrap"):
        template("warp")


@pytest.mark.slow
@pytest.mark.parametrize("family", TEMPLATES)
def test_plain_papermill_gives_the_figures_of_the_pipeline(bench, tmp_path, out, family):
    "The reference: the sample's sealed plan, run by papermill itself, in another folder, without the stage."
    trials = {p.parent.name: read_json(p) for p in sorted((out / "experiment").glob("*/trial.json"))}
    plans = {i: read_json(ROOT / f"ledger/plans/{i}.json") for i in trials}
    chosen = [i for i, plan in plans.items() if plan["family"] == family and trials[i]["status"] == "done"]
    if not chosen:
        pytest.skip(f"the sample's round holds no plan of the family {family}")
    root, made = bench("data", "out/split"), tmp_path / "trial"
    made.mkdir()
    given = {"plan": str(root / f"ledger/plans/{chosen[0]}.json"), "root": str(root), "out": str(made)}
    papermill.execute_notebook(
        str(TEMPLATES[family]), str(made / "notebook.ipynb"), parameters=given, progress_bar=False
    )
    again, first = json.loads((made / "trial.json").read_text()), trials[chosen[0]]
    later = {"key", "provenance"}  # the stage adds the key and the digest of the code
    assert {k: v for k, v in again.items() if k not in later} == {k: v for k, v in first.items() if k not in later}
