"""What was promoted answers behind a real MLServer, in an environment of its own, as the experiment had it answer."""

from pathlib import Path

import httpx
import pandas as pd
import pytest
from house import ROOT, copy_workbench, out_json
from peer import PEER, settle_in, start

from failwb.models.answer import answer
from failwb.models.checkpoint import load_checkpoint
from failwb.models.skops import TRUSTED
from failwb.record.plugins import load
from failwb.record.tables import read_json, settle, write_json
from failwb.record.task import task_of
from failwb.remedy.promote import promote, replay_service
from failwb.remedy.trial import Setting, open_trial
from failwb.workbench import Workbench

REMEDIES = ["slice_reweight", "prune_relabel", "unit_fix"]  # the sample's: other weights, other labels, a wrapper


@pytest.fixture(scope="module")
def promoted(tmp_path_factory, out) -> tuple[Path, dict[str, dict]]:
    "A copy of the sample in which every adopted candidate was promoted, and what `promote` said of each remedy."
    if not (PEER / "mlserver").is_file():
        pytest.skip(f"MLServer is not installed in {PEER.parent}. Hint: `make peers`, or `make test`.")
    parts = ("data", "out/propose/plans", "out/experiment", "out/gate", "out/split")
    root = copy_workbench(tmp_path_factory.mktemp("promoted") / "bench", *parts)
    adopted = {v["remedy"]: v["plan"] for v in out_json("gate/verdicts.json") if v["verdict"] == "adopt"}
    ships = {"unapproved": "To serve it"}
    return root, {remedy: promote(Workbench(root), plan, **ships) for remedy, plan in sorted(adopted.items())}


def served_from(folder: Path, **changes) -> dict:
    "The settings by which MLServer serves the checkpoint in `folder`: its file, its hash and the types that may load."
    about = read_json(folder / "checkpoint.json")
    extra = {"sha256": about["sha256"], "trusted": sorted(TRUSTED), **changes}
    parameters = {"uri": str(folder / "model.skops"), "version": about["version"], "extra": extra}
    outputs = [{"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]}]
    return {"implementation": "skops_runtime.SkopsModel", "parameters": parameters, "outputs": outputs}


@pytest.fixture(scope="module")
def served(promoted, tmp_path_factory):
    "The folder and the address of a server of all that was promoted, and of the model that it replaces."
    root, said = promoted
    folder, versions = tmp_path_factory.mktemp("mlserver"), {n: about["version"] for n, about in said.items()}
    models = {name: served_from(root / f"data/checkpoints/{v}") for name, v in {**versions, "before": "v2"}.items()}
    address = settle_in(folder, models)
    server = start(folder, address, ROOT / "tests", ROOT)  # ROOT: a candidate may hold a wrapper of failwb
    yield folder, address
    server.kill()
    server.wait()


def asker(url: str, setting: Setting):
    "Ask the endpoint at `url` as failwb asks a model of its own."
    contract, task = setting.case.contract, task_of(setting.case.contract, setting.case.base.threshold)
    remote, options = load("model", "remote"), {"features": contract.features}
    model = remote.load(url, sha256=remote.identity(url, options), options=options)

    def ask(requests: list[dict]) -> list[dict]:
        X = pd.DataFrame(requests).astype(dict.fromkeys(contract.numeric, float))
        return answer(model, task, X).to_dict("records")

    return ask


@pytest.mark.parametrize("remedy", REMEDIES)
def test_what_was_promoted_answers_as_in_the_experiment(promoted, served, remedy):
    root, plan = promoted[0], promoted[1][remedy]["plan"]
    setting = open_trial(root / f"ledger/plans/{plan}.json", root)
    candidate, contract = load_checkpoint(root / f"out/experiment/{plan}/candidate"), setting.case.contract
    answers = replay_service(asker(f"{served[1]}/{remedy}", setting), setting.rows, candidate, contract, batch=500)
    assert len(answers) == len(setting.rows) > 1000
    assert answers.loc[~answers["same"]].head().to_dict("records") == []
    yes = answers["score"].to_numpy() >= setting.case.base.threshold
    wrong = yes != (setting.rows["label"] == setting.case.base.positive).to_numpy()
    trial = read_json(root / f"out/experiment/{plan}/trial.json")
    assert settle(float(wrong[setting.hit].mean())) == trial["trade_offs"]["by_seed"][0]
    replaced, hit = asker(f"{served[1]}/before", setting), setting.rows[setting.hit]
    before = replay_service(replaced, hit, candidate, contract, batch=500)
    assert before["same"].mean() < 0.5  # what it replaces answers otherwise, so the comparison can fail


@pytest.mark.parametrize("changes, says", [({"sha256": "0" * 64}, "expected 000"), ({"trusted": []}, "not allowed: ")])
def test_the_server_refuses_another_file_and_types_that_are_not_allowed(promoted, served, changes, says):
    folder, address = served
    settings = served_from(promoted[0] / "data/checkpoints" / promoted[1]["unit_fix"]["version"], **changes)
    (folder / "other").mkdir(exist_ok=True)
    write_json({"name": "other", **settings}, folder / "other/model-settings.json")
    refused = httpx.post(address.replace("/models", "/repository/models/other/load"), timeout=30)
    assert refused.status_code >= 400 and says in refused.text, refused.text
