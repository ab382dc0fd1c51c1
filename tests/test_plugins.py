"""Plug-ins: built-ins and an outside package pass the same conformance suite, and what breaks it is named."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from house import ROOT, run, said

from failwb.record.plugins import PluginError, check_plugin, known, load
from failwb.remedy.cases import inside, predict_loss
from failwb.remedy.trial import example_workbench, open_trial


@pytest.mark.parametrize("name", known("remedy"))
def test_a_built_in_remedy_conforms(name):
    remedy = load("remedy", name)
    check_plugin("remedy", remedy)
    assert remedy.name == name


@pytest.mark.parametrize("name", known("model"))
def test_a_built_in_form_of_model_conforms(name):
    plugin = load("model", name)
    check_plugin("model", plugin)
    assert plugin.name == name


@pytest.mark.parametrize(
    "change, says",
    [
        ({"cost": 1.5}, "`cost` must lie in"),
        ({"risk": "none"}, "`risk` is one of"),
        ({"family": "magic"}, "`family` is one of"),
        ({"build": None}, ""),
    ],
)
def test_what_breaks_the_contract_is_named(change, says):
    remedy = type(load("remedy", "do_nothing"))
    broken = type("Broken", (remedy,), change)
    if change == {"build": None}:
        broken = type("Broken", (), {k: v for k, v in vars(remedy).items() if k != "build" and not k.startswith("__")})
        says = "it lacks `build`"
    with pytest.raises(PluginError, match=says):
        check_plugin("remedy", broken)


def ask(program: str, *folders: Path):
    "Run `program` in a Python that sees the packages in `folders`; it prints JSON."
    path = os.pathsep.join(map(str, folders))
    result = run(sys.executable, "-c", program, cwd=ROOT, PYTHONPATH=path)
    return json.loads(result.stdout) if result.returncode == 0 else said(result)


def test_an_outside_remedy_is_found_and_conforms(installed):
    program = """
import json
from failwb.record.plugins import check_plugin, known
found = known("remedy")
check_plugin("remedy", found["fewer_trees"])
print(json.dumps(sorted(found)))"""
    assert ask(program, installed) == sorted([*known("remedy"), "fewer_trees"])


def test_an_outside_remedy_mends_a_real_case(installed, tmp_path):
    "It finds parameters, and its candidate is a model that can be scored and saved like any other."
    example_workbench(tmp_path / "shop", {})
    program = f"""
import json
from pathlib import Path
from failwb.models.checkpoint import save_checkpoint
from failwb.record.plugins import load
from failwb.remedy.trial import open_trial
root = Path({str(tmp_path / "shop")!r})
case = open_trial(next((root / "out/propose/plans").glob("*.json")), root).case
remedy = load("remedy", "fewer_trees")
params = remedy.parameters(case)
model = remedy.build(case, params, seed=0)
saved = save_checkpoint(root / "candidate/v2", model, features=case.base.features, positive="yes", negative="no")
print(json.dumps([params, len(saved.sha256)]))"""
    assert ask(program, installed) == [{"max_iter": 30}, 64]


def test_an_outside_form_of_model_is_found_keeps_its_promises_and_loads(installed, tmp_path):
    (tmp_path / "m.constant").write_text("0.25")
    program = f"""
import json
import pandas as pd
from failwb.models.checkpoint import load_checkpoint, save_checkpoint
from failwb.models.load import check_model_plugin, load_model
from failwb.record.contract import Contract
from failwb.record.plugins import load
X = pd.DataFrame({{"a": [1.0, 2.0]}})
source = {str(tmp_path / "m.constant")!r}
check_model_plugin(load("model", "constant"), source, X, "binary")
contract = Contract(name="c", version="1", owner="a", review_by="2030-01-01", target="y", positive="yes", negative="no",
                    columns={{"a": {{"type": "number"}}}})
loaded = load_model(source, contract, X)
folder = {str(tmp_path / "v1")!r}
save_checkpoint(folder, loaded.model, features=["a"], positive="yes", negative="no", form=loaded.form)
print(json.dumps(load_checkpoint(folder).model.predict_proba(X).tolist()))"""
    assert ask(program, installed) == [[0.75, 0.25]] * 2


def test_two_remedies_of_one_name_are_refused(installed, tmp_path):
    text = shutil.copytree(installed, tmp_path / "twice")
    for folder in [*text.glob("*.dist-info")]:
        entry = folder / "entry_points.txt"
        entry.write_text(entry.read_text().replace("fewer_trees", "unit_fix"))
    assert "Two plug-ins call themselves remedy 'unit_fix'" in ask(
        'from failwb.record.plugins import known; known("remedy")', text
    )


@pytest.mark.parametrize("name", [n for n, r in known("remedy").items() if r.family == "none"])
def test_doing_nothing_changes_nothing(tmp_path, name):
    [plan] = example_workbench(tmp_path / "shop", {})
    setting = open_trial(tmp_path / f"shop/out/propose/plans/{plan}.json", tmp_path / "shop")
    model = load("remedy", name).build(setting.case, {}, seed=0)
    served, same = (predict_loss(m, setting.rows, setting.case) for m in (setting.case.base.model, model))
    assert np.array_equal(served["error"], same["error"]) and inside(setting.case, setting.rows).any()
