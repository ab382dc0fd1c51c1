"""Imports go up one list only, and stages meet through tables."""

import subprocess
import sys

import pytest
from house import ROOT, modules

from failwb.record.provenance import import_closure, imports_of
from failwb.workbench import STAGES

LAYERS = [
    "record",
    "vault",
    "workbench",
    "signals",
    "models",
    "faults",
    "capture",
    "catalog",
    "discover",
    "finders",
    "remedy",
    "watch",
    "publish",
    "lab",
    "cli",
]
MAY_PLANT = {
    "failwb.capture.sample"
}  # the only module that plants faults; finders and diagnosis never see the registry


def layer(module: str) -> str:
    return module.split(".")[1]


def wrong_imports(module: str, imported: set[str]) -> list[str]:
    "The modules of `imported` that stand below `module` in the list."
    return sorted(o for o in imported if LAYERS.index(layer(o)) > LAYERS.index(layer(module)))


@pytest.mark.parametrize(
    "module, imported, wrong",
    [
        ("failwb.record.tables", {"failwb.record.errors"}, []),
        ("failwb.record.tables", {"failwb.vault.ledger"}, ["failwb.vault.ledger"]),
        ("failwb.remedy.gate", {"failwb.signals.intervals", "failwb.publish.site"}, ["failwb.publish.site"]),
        ("failwb.cli", {"failwb.lab.init"}, []),
    ],
)
def test_the_rule_finds_a_wrong_import(module, imported, wrong):
    assert wrong_imports(module, imported) == wrong


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_upwards(module):
    assert layer(module) in LAYERS, f"{module} is in no layer; the list stands in this file and in CONTRIBUTING.md"
    assert wrong_imports(module, imports_of(module)) == []


@pytest.mark.parametrize("module", modules())
def test_no_module_reaches_itself(module):
    circle = [o for o in imports_of(module) if o != module and module in import_closure(o)]
    assert circle == [], f"{module} and {circle} import each other"


@pytest.mark.parametrize("verb, module", STAGES.items())
def test_a_stage_reaches_no_other_stage(verb, module):
    assert sorted(set(import_closure(module)) & set(STAGES.values()) - {module}) == []


@pytest.mark.parametrize("verb, module", STAGES.items())
def test_a_stage_knows_neither_faults_nor_command_line(verb, module):
    kept_out = {"faults", "lab", "cli"}
    assert [o for o in import_closure(module) if layer(o) in kept_out or o in MAY_PLANT] == []


@pytest.mark.parametrize("verb, module", STAGES.items())
def test_no_stage_reads_what_was_planted(verb, module):
    assert [o for o in import_closure(module) if "planted.json" in modules()[o].read_text(encoding="utf-8")] == []


def test_only_the_sample_plants_faults():
    importers = {m for m in modules() if layer(m) != "faults" and any(layer(o) == "faults" for o in imports_of(m))}
    assert importers <= MAY_PLANT


def test_the_closure_holds_everything_that_is_really_imported():
    "Provenance reads sources; here Python itself says what each stage loaded, in a process of its own."
    program = """
import os, sys
import numpy, pandas, pyarrow.parquet, scipy.stats, sklearn.ensemble, sklearn.pipeline  # shared by the forks below
for name in sys.argv[1:]:
    if not (child := os.fork()):
        __import__(name)
        print(name, *sorted(m for m in sys.modules if m.startswith("failwb.")), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, *STAGES.values()], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    loaded = {line.split()[0]: set(line.split()[1:]) & set(modules()) for line in result.stdout.splitlines()}
    assert sorted(loaded) == sorted(STAGES.values()), result.stderr
    for module, names in loaded.items():
        assert sorted(names - set(import_closure(module))) == [], f"the closure of {module} lacks modules"
