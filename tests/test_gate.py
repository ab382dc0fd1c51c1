"""The gate's statistics keep their promises: the benchmark in small, and the batches that make it fast."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from house import failwb, said, signer

from failwb.record.tables import read_json, read_table, settle
from failwb.record.taxonomy import SEVERITIES
from failwb.remedy.gate import verdicts_of
from failwb.remedy.sequential import monitor
from failwb.remedy.statistics import noninferior, sign_flip
from failwb.remedy.trial import compare, example_workbench, open_trial, run_trial
from failwb.vault.ledger import entries_in
from failwb.workbench import Workbench

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("benchmark_gate", ROOT / "benchmarks/gate.py")
bench = importlib.util.module_from_spec(spec)
sys.modules["benchmark_gate"] = bench  # dataclasses look their module up
spec.loader.exec_module(bench)


def one_of(batch: dict, i: int) -> dict:
    "Return the figures of experiment `i` of a batch."
    return {name: value if np.ndim(value) == 0 else value[i] for name, value in batch.items()}


@pytest.mark.parametrize("metric", bench.METRICS)
@pytest.mark.parametrize("events", bench.EVENTS)
def test_a_batch_equals_its_experiments_one_by_one(metric, events):
    base, candidate, units = bench.draw(bench.world(metric, "small", events, 500), 60, 40, [1])
    tests, rails = sign_flip(base - candidate, units, 3, 499), noninferior(base, candidate, units, 0.01, 0.95)
    for i in range(40):
        assert one_of(tests, i) == sign_flip(base[i] - candidate[i], units, 3, 499)
        assert one_of(rails, i) == noninferior(base[i], candidate[i], units, 0.01, 0.95)


def test_the_benchmark_judges_as_a_trial_does(tmp_path):
    [plan] = example_workbench(tmp_path, {})
    setting = open_trial(tmp_path / f"out/propose/plans/{plan}.json", tmp_path)
    comparison = compare(setting)
    trial = run_trial(setting, comparison)
    losses = [np.stack([frame["error"].to_numpy()] * 2) for frame in (comparison.baseline, comparison.candidate)]
    units, hit = setting.rows["subject"].to_numpy(), setting.hit
    gain = losses[0][:, hit] - losses[1][:, hit]
    test = sign_flip(gain, units[hit], setting.plan["seeds"][0], setting.plan["permutations"])
    rail = noninferior(losses[0][:, ~hit], losses[1][:, ~hit], units[~hit], 0.01, 0.95)
    batched = list(bench.trials(test, rail, losses[0][:, hit], losses[1][:, hit]))[1]
    names = ["rows", "units", "effect", "p", "low", "high", "baseline_error", "candidate_error"]
    assert settle([batched[name] for name in names]) == [trial[name] for name in names]
    assert batched["guardrails"][0] == next(rail for rail in trial["guardrails"] if rail["scope"] == "rest")
    [whole], [part] = (verdicts_of({plan: setting.plan}, {plan: one}) for one in (trial, batched))
    assert whole == part and whole["verdict"] == "adopt"


@pytest.mark.parametrize(
    "metric, effect, rows, events",
    [
        ("error", "none", 60, 1),
        ("error", "none", 150, 5),
        ("error", "large", 150, 1),
        ("error", "harmful", 400, 5),
        ("cost", "traded", 1000, 1),
        ("log_loss", "traded", 150, 1),
        ("brier", "none", 150, 5),
        ("absolute_error", "none", 60, 1),
    ],
)
def test_promises_of_a_cell(metric, effect, rows, events):
    source = bench.world(metric, effect, events, 4000)
    found = bench.cell(metric, effect, rows, events, 400, source, bench.rest(4000, events, 400))
    broken = [promise for promise in bench.of_cell(found, 400) if not promise.kept]
    assert not broken, broken


@pytest.mark.parametrize(
    "change, name",
    [
        ({"effect": "none", "seen": 0.10}, "p at most alpha"),
        ({"effect": "harmful", "adopt": 0.10}, "no false adoption"),
        ({"effect": "large", "planned": 0.9, "seen": 0.7}, "power as planned"),
        ({"covered": 0.88}, "interval"),
        ({"powered": False, "adopt": 0.01}, "fewer rows"),
    ],
)
def test_a_broken_promise_is_named(change, name):
    found = {
        "metric": "error",
        "effect": "small",
        "rows": 150,
        "events": 1,
        "powered": True,
        "needed": 120,
        "planned": 0.3,
        "seen": 0.3,
        "covered": 0.95,
        "adopt": 0.0,
        "harmful": 0.0,
    }
    assert all(promise.kept for promise in bench.of_cell(found, 2000))
    broken = [promise for promise in bench.of_cell(found | change, 2000) if not promise.kept]
    assert len(broken) == 1 and name in broken[0].name and "150 rows" in broken[0].where


@pytest.mark.parametrize("rows, events", [(60, 1), (250, 1), (250, 5), (1000, 1)])
def test_a_guardrail_at_its_margin_is_not_shown_to_hold(rows, events):
    assert bench.guarded(rows, events, 0.0, 0.01, 1000)["holds"] <= bench.most(0.05, 1000)


def test_rounds_and_alternatives_share_one_alpha():
    found = [bench.family(1, 10, 60, 1, 400), bench.family(20, 1, 60, 5, 400)]
    assert all(one["first"] <= bench.most(0.025, 400) and one["ever"] <= bench.most(0.05, 400) for one in found)


def test_the_naive_rule_ships_what_the_gate_does_not():
    shipped = bench.shipments(60, 1, 0, 400)
    assert shipped["naive useless"] + shipped["naive harmful"] > 0.8
    assert shipped["gate useless"] + shipped["gate harmful"] <= bench.most(0.025, 400)


def test_a_ladder_is_watched_at_every_row():
    assert bench.ladder(1, 0, 200)["alarm"] <= bench.most(0.05, 200)
    assert bench.detection(0.1, 1, 0, 100)["half"] < bench.detection(0.05, 1, 0, 100)["half"] < 1000


def test_rows_of_one_subject_are_no_fresh_evidence():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 15)
    crossed = [monitor(rng.binomial(1, 0.12, 40)[units] * 1.0, units, 0.12, 0.05).crossed for _ in range(100)]
    assert sum(c is not None for c in crossed) <= 12  # as rows of 600 subjects, four times as many would alarm


def test_the_run_ends_with_its_figures():
    command = [sys.executable, ROOT / "benchmarks/gate.py", "--experiments", "20", "--metrics", "error"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    named = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (1 if named["promises_broken"] else 0), done.stderr
    assert named["cells"] == 40 and named["experiments_per_cell"] == 20 and named["error_type_one"] < 0.25


READ = ("out/experiment", "out/propose", "out/discover", "out/diagnose", "out/split", "out/validate", "out/gate")


def must(root: Path, names: list[str]) -> None:
    "Let `gate.must_sign` name these people at every severity."
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["gate"]["must_sign"] = dict.fromkeys(SEVERITIES, names)
    path.write_text(yaml.safe_dump(params))


def test_approvals_are_signed_and_age_and_hold_for_one_content(bench):
    "The commands of the sample: a request is approved by people who may, until it changes or their word is too old."
    root = bench(*READ)
    change = sorted((root / "out/gate/changes").glob("*.json"))[0]
    told = root / "out/validate/summary.json"

    def asked(as_of: str = "2026-06-01T00:00:00+00:00") -> dict:
        "The request as the gate writes it while the newest prediction is of `as_of`."
        told.write_text(json.dumps(json.loads(told.read_text()) | {"as_of": as_of}))
        assert failwb("gate", cwd=root).returncode == 0
        return json.loads(change.read_text())

    before = asked()
    assert (before["status"], before["approvals"]["valid"]) == ("proposed", 0)
    must(root, [])
    people = ["ada", "bob"][: before["approvals"]["needed"]]
    lines = [signer(root, name) for name in people]
    for name in people:
        given = failwb("approve", change.stem[:12], "--key", root / name, "--as", name, cwd=root)
        assert given.returncode == 0 and "It counts once" in said(given)
    assert asked()["status"] == "proposed"  # signed, by nobody whom the team has allowed
    (root / "ledger/approvals/allowed_signers").write_text("".join(lines))
    agreed = asked()
    assert agreed["status"] == "approved" and agreed["signed"] and "of them count." in agreed["approvals"]["note"]
    assert agreed["approvals"]["content"] == before["approvals"]["content"]
    days = agreed["approvals"]["days"]
    now = pd.Timestamp.now(tz="UTC")
    assert asked(str(now + pd.Timedelta(days=days - 1)))["status"] == "approved"
    old = asked(str(now + pd.Timedelta(days=days + 1)))
    assert old["status"] == "proposed" and f"it is older than {days} days" in old["approvals"]["note"]
    trial = root / f"out/experiment/{change.stem}/trial.json"
    trial.write_text(json.dumps(json.loads(trial.read_text()) | {"units": 100}))  # another figure: another request
    other = asked()
    assert other["status"] == "proposed" and "earlier content" in other["approvals"]["note"]


def test_nobody_approves_alone_what_they_sealed_and_severity_says_whose_word_it_takes(bench):
    root = bench(*READ, "out/catalog")
    contract, [seal] = Workbench(root).contract, entries_in(root / "ledger/seals")
    plan = min(read_json(p)["plan"] for p in (root / "out/gate/changes").glob("*.json"))

    def asked() -> dict:
        assert failwb("gate", cwd=root).returncode == 0
        return read_json(root / f"out/gate/changes/{plan}.json")

    def agree(name: str) -> None:
        assert failwb("approve", plan[:12], "--key", root / name, "--as", name, cwd=root).returncode == 0

    before, graded = asked(), read_table(root / "out/catalog/patterns.parquet").set_index("pattern")["severity"]
    assert before["severity"] == graded[before["pattern"]] and before["approvals"]["must_sign"] == [contract.owner]
    people = [f"{seal['author']}@bank.example", "bob", contract.owner]
    lines = [signer(root, name) for name in people]
    (root / "ledger/approvals/allowed_signers").write_text("".join(lines))
    agree(people[0])
    must(root, [])
    alone = asked()
    assert alone["status"] == "proposed" and alone["approvals"]["valid"] == 1
    assert f"somebody other than {seal['author']}, who sealed the plan" in alone["approvals"]["note"]
    agree("bob")
    assert asked()["status"] == "approved"
    must(root, ["owner"])
    unmet = asked()
    assert (unmet["status"], unmet["approvals"]["valid"]) == ("proposed", 2)
    assert unmet["approvals"]["missing"] == [
        f"an approval of {contract.owner}, as severity {unmet['severity']} asks for"
    ]
    page = (root / f"out/gate/changes/{plan}.md").read_text()
    assert "**Status: proposed.**" in page and f"one of them by {contract.owner}" in page
    agree(contract.owner)
    assert asked()["status"] == "approved"
