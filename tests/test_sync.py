"""Notebooks, modules, params.yaml, dvc.yaml, settings.ini and commands say the same."""

import hashlib
import re
from collections import Counter
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import typer
import yaml
from house import ROOT, code, default_exps, modules, notebooks, read_notebook, room, run, settings, tracked

from failwb.record.provenance import import_closure
from failwb.workbench import STAGES, load_stage, pipeline_yaml

NO_MODULE = {"guides", "templates"}  # rooms whose notebooks export nothing
SOURCES = [p for p in notebooks() if room(p) not in NO_MODULE and p.name != "index.ipynb"]
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|tmp|work|private)/\w")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# -- notebooks and modules


@pytest.fixture(scope="module")
def exported(tree_copy) -> dict[str, dict[str, str]]:
    "Hashes of notebooks and modules: as they are, after nbdev_clean, and after nbdev_export."

    def hashes():
        files = [
            p for folder in ("nbs", "failwb") for p in (tree_copy / folder).rglob("*") if p.suffix in (".py", ".ipynb")
        ]
        return {p.relative_to(tree_copy).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}

    states = {"before": hashes()}
    for step in ("nbdev_clean", "nbdev_export"):
        result = run(step, cwd=tree_copy)
        assert result.returncode == 0, result.stderr
        states[step] = hashes()
    return states


@pytest.mark.parametrize("earlier, step", [("before", "nbdev_clean"), ("nbdev_clean", "nbdev_export")])
def test_nothing_is_left_to_do(exported, earlier, step):
    changed = sorted(set(exported[earlier].items()) ^ set(exported[step].items()))
    assert sorted({file for file, _ in changed}) == [], f"{step} changes these files; commit what it writes"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_one_notebook_is_one_module(path):
    exps = default_exps(path)
    assert len(exps) == 1, f"{name(path)} must say `#| default_exp` exactly once"
    stem = re.sub(r"^\d+_", "", path.stem)
    assert exps[0] == ".".join(filter(None, [room(path), stem])), f"{name(path)} and its module are named differently"


def test_no_two_notebooks_export_to_one_module():
    assert [m for m, n in Counter(e for p in SOURCES for e in default_exps(p)).items() if n > 1] == []


def test_every_module_has_its_notebook():
    wanted = {f"failwb.{e}" for p in SOURCES for e in default_exps(p)}
    assert sorted(set(modules()) ^ wanted) == [], "a module without a notebook, or a notebook that was never exported"


@pytest.mark.parametrize("path", notebooks(), ids=name)
def test_a_notebook_opens_with_a_title_and_one_line(path):
    first = read_notebook(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S.*\n+> \S.*", first.source), "the first cell must be `# Title`, then `> One line.`"


@pytest.mark.parametrize("path", notebooks(), ids=name)
def test_cell_ids_are_there_and_unique(path):
    ids = [c.get("id") for c in read_notebook(path).cells]
    assert None not in ids and len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", notebooks(), ids=name)
def test_outputs_are_small_and_name_no_machine(path):
    outputs = [str(o) for c in read_notebook(path).cells if c.cell_type == "code" for o in c.outputs]
    assert sum(map(len, outputs)) < 500_000, "outputs bloat git: show less"
    assert [o[:200] for o in outputs if MACHINE_PATH.search(o)] == [], (
        "an output holds a path of the machine that it ran on"
    )
    assert room(path) != "templates" or not outputs, "a template is committed without outputs"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_stand_alone(path):
    exported_cells = [source for source in code(path) if source.startswith("#| export")]
    mixed = [
        s for s in exported_cells if re.search(r"^(import|from) ", s, re.M) and re.search(r"^(def|class) ", s, re.M)
    ]
    assert mixed == [], "imports have a cell of their own (nbdev)"


# -- one verb, six places


@pytest.mark.parametrize("verb, module", STAGES.items())
def test_a_verb_has_one_name_in_six_places(verb, module):
    import failwb.cli

    _, package, last = module.split(".")
    assert last == verb
    assert [p.name for p in (ROOT / "nbs" / package).glob(f"*_{verb}.ipynb")] != []
    assert load_stage(verb).verb == verb and load_stage(verb).run.__name__ == verb
    assert verb in typer.main.get_command(failwb.cli.app).commands
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][verb]
    assert stage["cmd"] == f"failwb {verb}" and stage["outs"] == [f"out/{verb}"]


def test_params_hold_exactly_what_the_verbs_ask_for():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    asked = {verb: sorted(load_stage(verb).parameters) for verb in STAGES}
    given = {section: sorted(values or {}) for section, values in params.items() if section != "criteria"}
    assert given == {verb: names for verb, names in asked.items() if names or verb in given}


def test_dvc_yaml_is_what_the_stages_declare():
    assert (ROOT / "dvc.yaml").read_text(encoding="utf-8") == pipeline_yaml(), "run `failwb lock` and commit dvc.yaml"


@pytest.mark.parametrize("verb, module", STAGES.items())
def test_a_stage_depends_on_its_code_and_its_evidence(verb, module):
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][verb]
    files = {m.replace(".", "/") + ".py" for m in import_closure(module)}
    assert sorted(files - set(stage["deps"])) == []
    assert "data" not in stage["deps"], "depend on a subfolder of data/, else every promotion re-runs the stage"
    assert [d for d in stage["deps"] if d.endswith(".ipynb") and "/templates/" not in d and "guides" not in d] == [], (
        "an edit to prose must not re-run"
    )
    assert load_stage(verb).desc and stage["desc"] == load_stage(verb).desc


def test_only_the_experiment_depends_on_the_confirm_rows():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    readers = [
        verb for verb, stage in stages.items() if {"out/split", "out/split/confirm.parquet"} & set(stage["deps"])
    ]
    assert readers == ["experiment"]


# -- packaging


def test_settings_drive_the_version():
    import failwb

    assert failwb.__version__ == version("failwb") == settings()["version"]


@pytest.mark.parametrize("kind, listed", [("remedy", "remedies"), ("finder", "finders"), ("model", "models")])
def test_settings_drive_the_plug_ins(kind, listed):
    wanted = sorted(
        tuple(part.strip() for part in line.split("=")) for line in settings()[listed].splitlines() if line.strip()
    )
    installed = sorted((e.name, e.value) for e in entry_points(group=f"failwb.{kind}") if e.value.startswith("failwb."))
    assert installed == wanted


def test_the_lock_covers_the_requirements_and_names_no_address():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[^\s/@:]+", line)] == []
    locked = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    asked = {
        re.sub(r"[-_.]+", "-", re.split(r"[<>=!]", word)[0]).lower()
        for word in f"{settings()['requirements']} {settings()['dev_requirements']}".split()
    }
    assert sorted(asked - locked) == []


# -- evidence


def test_the_evidence_comes_from_a_small_remote_inside_the_repository():
    config = (ROOT / ".dvc/config").read_text()
    urls = re.findall(r"url\s*=\s*(\S+)", config)
    assert urls and all("://" not in url and (ROOT / ".dvc" / url).resolve().is_relative_to(ROOT) for url in urls)
    remote = [p for p in tracked() if p.parts[:2] == ("samples", "remote")]
    assert remote and sum((ROOT / p).stat().st_size for p in remote) <= 5_000_000


def test_no_large_file_outside_the_remote():
    assert [
        p.as_posix() for p in tracked() if (ROOT / p).stat().st_size > 500_000 and p.parts[:2] != ("samples", "remote")
    ] == []
