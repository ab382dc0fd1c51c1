"""An adopted candidate is promoted byte for byte, serves what the experiment gave, and moves no decision."""

import datetime as dt
import json
import shutil
from pathlib import Path

import httpx
import pandas as pd
import pytest
from house import ROOT, copy_workbench, failwb, out_json, run, said, signer

from failwb.capture.agent import open_agent
from failwb.capture.asgi import CaptureMiddleware, label_route
from failwb.capture.sample import loan_service, serving
from failwb.capture.segments import read_events
from failwb.catalog.shipped import reviews_of
from failwb.models.checkpoint import current_checkpoint, load_checkpoint
from failwb.publish.markup import plain
from failwb.publish.reference import told
from failwb.publish.shipped import shipped_sentence, shipped_table
from failwb.record.errors import FailwbError
from failwb.record.tables import file_sha, read_json, read_table, settle, write_json
from failwb.record.task import task_of
from failwb.remedy.approve import approve
from failwb.remedy.promote import NotApproved, promote, replay_service
from failwb.remedy.trial import TRAINING, open_trial
from failwb.workbench import Workbench

WHY = "A test of what a promotion writes."
EVIDENCE = ("data", "out/propose/plans", "out/experiment", "out/gate")


def adopted(family: str) -> str:
    "The sample's first adopted plan of a family of remedies."
    plans = [v["plan"] for v in out_json("gate/verdicts.json") if v["verdict"] == "adopt"]
    return next(plan for plan in plans if read_json(ROOT / f"ledger/plans/{plan}.json")["family"] == family)


def contents(root: Path) -> dict[str, bytes]:
    "Evidence and decisions, file by file."
    files = [p for folder in ("data", "ledger") for p in (root / folder).rglob("*") if p.is_file()]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


# -- what is refused


def say_verdict(name: str):
    def change(root, plan):
        for path in (root / "ledger/rounds").glob("*.json"):
            entry = read_json(path)
            for verdict in entry["body"]["verdicts"]:
                verdict["verdict"] = name
            write_json(entry, path)

    return change


def drop(pattern: str):
    return lambda root, plan: [p.unlink() for p in root.glob(pattern.format(plan=plan))]


def edit(name: str, change):
    def edited(root, plan):
        path = root / f"out/experiment/{plan}" / name
        body = read_json(path)
        change(body)
        write_json(body, path)

    return edited


def flip_a_byte(root, plan):
    path = root / f"out/experiment/{plan}/candidate/model.skops"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def no_candidate(root, plan):
    shutil.rmtree(root / f"out/experiment/{plan}")


REFUSED = {
    "unknown": (lambda root, plan: None, "zzzz", None, "No plan is called 'zzzz'. Known: "),
    "rejected": (say_verdict("reject"), None, None, ") is reject; only an adopted"),
    "underpowered": (say_verdict("underpowered"), None, None, "is underpowered"),
    "round open": (drop("ledger/rounds/*.json"), None, None, "Hint: `dvc repro`, then `failwb round close`"),
    "no seal": (drop("ledger/seals/*.json"), None, None, "no seal names it"),
    "not in the ledger": (drop("ledger/plans/{plan}.json"), None, None, "Nobody has sealed this plan"),
    "no candidate": (no_candidate, None, None, "is not in out/experiment. Hint: `dvc repro experiment`"),
    "a byte": (flip_a_byte, None, None, "is not the one that was judged: model.skops differs"),
    "a threshold": (
        edit("candidate/checkpoint.json", lambda b: b.update(threshold=0.9)), None, None, "checkpoint.json differs"
    ),
    "no table": (drop("out/experiment/{plan}/candidate/" + TRAINING), None, None, f"{TRAINING} differs"),
    "no record": (
        edit("trial.json", lambda b: b["provenance"].pop("candidate")), None, None, "does not name the files"
    ),
    "taken": (lambda root, plan: None, None, "v1", "Checkpoint v1 exists with other content"),
    "no name": (lambda root, plan: None, None, "../v9", "cannot name a version"),
}  # fmt: skip


@pytest.mark.parametrize("prepare, name, version, says", REFUSED.values(), ids=REFUSED)
def test_what_is_not_promoted(bench, prepare, name, version, says):
    root, plan = bench(*EVIDENCE), adopted("refit")
    prepare(root, plan)
    before = contents(root)
    with pytest.raises(FailwbError) as refused:
        promote(Workbench(root), name or plan, version)
    assert says in str(refused.value) and "Hint:" in str(refused.value)
    assert contents(root) == before


def test_a_refusal_is_a_message(bench):
    result = failwb("promote", "zzzz", cwd=bench(*EVIDENCE))
    assert result.returncode == 2 and "No plan is called" in said(result) and "Traceback" not in result.stderr


def test_a_candidate_that_nobody_approved_is_not_promoted(bench):
    "Refused, with what to do; expired is not approved; approved now it passes, and the same again is a no-op."
    root, plan = bench(*EVIDENCE), adopted("wrap")
    wb = Workbench(root)
    before = contents(root)
    refused = failwb("promote", plan[:8], cwd=root)
    assert refused.returncode == 2 and "It lacks 1 more signed approval(s)" in said(refused)
    assert "May sign: nobody" in said(refused) and f"`failwb approve {plan[:12]}" in said(refused)
    assert contents(root) == before
    owner, folder = wb.contract.owner, root / "ledger/approvals"
    (folder / "allowed_signers").write_text(signer(root, owner))
    long_ago = pd.Timestamp.now(tz="UTC").to_pydatetime() - dt.timedelta(days=91)
    approve(wb, plan, root / owner, owner, long_ago)
    with pytest.raises(NotApproved, match="it is older than 90 days") as old:
        promote(wb, plan)
    assert "1 more signed approval(s)" in str(old.value) and f"May sign: {owner}" in str(old.value)
    approve(wb, plan, root / owner, owner)
    assert "unapproved" not in promote(wb, plan)  # no run of the gate lies between
    for path in folder.glob("*.json"):
        path.unlink()
    now = contents(root)
    assert promote(wb, plan)["new"] is False and contents(root) == now


def test_a_promotion_without_approvals_keeps_reason_and_person(shipped):
    root, result = shipped
    [entry] = [read_json(p) for p in (root / "ledger/promotions").glob("*.json")]
    assert entry["author"] == "ada" and entry["body"]["unapproved"] == result["unapproved"]
    assert (result["unapproved"]["by"], result["unapproved"]["reason"]) == ("ada", WHY)
    assert result["unapproved"]["missing"][0] == "1 more signed approval(s)"
    assert f"promoted without approvals: {plain(WHY)}" in told(entry)
    task, rows = task_of(Workbench(root).contract), read_table(root / "out/split/open.parquet")
    [review] = reviews_of(Workbench(root).ledger.entries("rollouts"), rows, root / "data/checkpoints", task, None)
    for words in (shipped_sentence(review), shipped_table([review])):
        assert f"promoted without approvals by ada: {plain(WHY)}" in words


# -- what is written


@pytest.mark.parametrize("family", ["refit", "wrap"])
def test_a_promotion_is_the_candidate_with_all_that_belongs_to_it(bench, family):
    root, plan = bench(*EVIDENCE), adopted(family)
    before, candidate = contents(root), root / f"out/experiment/{plan}/candidate"
    result = promote(Workbench(root), plan[:8], unapproved=WHY)
    new = contents(root)
    assert {name: new[name] for name in before} == before  # nothing that stood there was touched
    files = ["data/checkpoints/v3/checkpoint.json", "data/checkpoints/v3/model.skops"]
    files += [f"ledger/promotions/{plan}.json", f"ledger/rollouts/{plan}-00.json"]
    files += ["data/reference/v3.parquet"] if family == "refit" else []
    assert sorted(set(new) - set(before)) == sorted(files)
    assert new["data/checkpoints/v3/model.skops"] == (candidate / "model.skops").read_bytes()
    loaded, served = load_checkpoint(root / "data/checkpoints/v3"), load_checkpoint(root / "data/checkpoints/v2")
    assert (loaded.parent, loaded.origin) == ("v2", "promoted")
    assert loaded.reference == ("v3.parquet" if family == "refit" else "v2.parquet")
    assert (loaded.features, loaded.notes, loaded.environment) == (served.features, served.notes, served.environment)
    assert read_json(root / "data/checkpoints/v3/checkpoint.json")["plan"] == plan
    entry = read_json(root / f"ledger/promotions/{plan}.json")["body"]
    assert entry == {k: result[k] for k in ("plan", "pattern", "version", "sha256", "replaces", "unapproved")}
    assert promote(Workbench(root), plan)["new"] is False and contents(root) == new


def test_the_training_table_of_a_refit_is_what_it_was_taught(bench, out):
    root, plan = bench(*EVIDENCE), adopted("refit")
    promote(Workbench(root), plan, "winter", unapproved=WHY)
    table, before = read_table(root / "data/reference/winter.parquet"), read_table(root / "data/reference/v2.parquet")
    assert list(table.columns) == list(before.columns) and table["row"].is_unique
    events = set(table["row"]) - set(before["row"])
    rows = read_table(out / "split/open.parquet").set_index("event_id").loc[sorted(events)]
    window = read_json(ROOT / f"ledger/plans/{plan}.json")["window"]
    assert set(rows["split"]) == {"develop"} and len(rows) > 1000
    assert rows["label_time"].max() < pd.Timestamp(window["train_before"])


def test_a_second_candidate_of_the_same_base_says_what_it_lacks(bench):
    wb = Workbench(bench(*EVIDENCE))
    assert promote(wb, adopted("refit"), unapproved=WHY)["builds_not_on"] == []
    assert promote(wb, adopted("wrap"), unapproved=WHY)["builds_not_on"] == ["v3"]


# -- what does not move


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, out) -> tuple[Path, dict]:
    "A copy of the sample under DVC, with all results and trials, in which the command promoted one candidate."
    root = copy_workbench(tmp_path_factory.mktemp("shipped") / "bench", "data", "out")
    for trial in root.glob("out/experiment/*/trial.json"):
        shutil.copytree(trial.parent, root / ".failwb/cache/experiment" / read_json(trial)["key"])
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["failwb", "lock"], ["dvc", "commit", "-f", "-q"]):
        assert (result := run(*command, cwd=root)).returncode == 0, said(result)
    result = failwb("promote", adopted("wrap"), "--unapproved", WHY, "--as", "ada", "--json", cwd=root)
    assert result.returncode == 0, said(result)
    return root, json.loads(result.stdout)


def test_dvc_tracks_what_was_promoted(shipped):
    root, _ = shipped
    assert (root / "data.dvc").read_bytes() != (ROOT / "data.dvc").read_bytes()
    assert run("dvc", "status", "data.dvc", cwd=root).stdout.strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_promotion_unseals_nothing_and_no_trial_runs_again(shipped, out):
    root, _ = shipped
    trials = {p.name: p.stat().st_mtime_ns for p in (root / ".failwb/cache/experiment").iterdir()}
    result = run("dvc", "repro", "gate", cwd=root)
    assert result.returncode == 0, said(result)
    ran = {line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")}
    assert {"enrich", "discover", "diagnose", "propose", "experiment"} <= ran
    assert not ran & {"validate", "detect", "split"}
    assert {p.name: p.stat().st_mtime_ns for p in (root / ".failwb/cache/experiment").iterdir()} == trials
    for verb in ("discover", "diagnose", "propose", "experiment", "gate"):
        files = {p.relative_to(out) for p in (out / verb).rglob("*") if p.is_file()}
        changed = [str(p) for p in files if file_sha(out / p) != file_sha(root / "out" / p)]
        assert changed == [], f"a promotion changed results of {verb}"
    assert read_json(root / "out/experiment/summary.json")["unsealed"] == 0


# -- what it answers when it is served


def asker(url: str, ids: list[str]):
    "Ask a service at `url` as a client does, under fresh ids."

    def ask(requests: list[dict]) -> list[dict]:
        named = [f"fresh-{len(ids) + n:06d}" for n in range(len(requests))]
        ids.extend(named)
        body = {"instances": requests, "ids": named, "subjects": named}
        return client.post("/predict", json=body).raise_for_status().json()["predictions"]

    client = httpx.Client(base_url=url, timeout=30)
    return ask


@pytest.fixture(scope="module")
def fresh(shipped, tmp_path_factory):
    "The held-out rows of the plan, asked of a watched service of the new checkpoint over HTTP; then collected."
    told = shipped[1]
    root = shutil.copytree(shipped[0], tmp_path_factory.mktemp("fresh") / "bench")
    checkpoint, agent = load_checkpoint(root / f"data/checkpoints/{told['version']}"), open_agent(root)
    setting, ids = open_trial(root / f"ledger/plans/{told['plan']}.json", root), []
    candidate = load_checkpoint(root / f"out/experiment/{told['plan']}/candidate")
    app = loan_service(checkpoint)
    app.add_middleware(CaptureMiddleware, agent=agent, model="loans", checkpoint=checkpoint.sha256, path="/predict")
    app.router.routes.append(label_route(agent, "/labels"))
    with serving(app) as url:
        answers = replay_service(asker(url, ids), setting.rows, candidate, setting.case.contract, batch=40)
    agent.close()
    assert agent.counts["dropped"] == agent.counts["dead_lettered"] == 0
    result = failwb("collect", "--json", cwd=root)
    assert result.returncode == 0, said(result)
    return root, setting, answers, json.loads(result.stdout), ids


def test_the_served_artifact_gives_the_answers_of_the_experiment(fresh):
    root, setting, answers, _, _ = fresh
    assert len(answers) == len(setting.rows) > 5000
    assert answers.loc[~answers["same"]].head().to_dict("records") == []
    yes = answers["score"].to_numpy() >= setting.case.base.threshold
    wrong = yes != (setting.rows["label"] == setting.case.base.positive).to_numpy()
    trial = read_json(root / f"out/experiment/{setting.id}/trial.json")
    assert settle(float(wrong[setting.hit].mean())) == trial["trade_offs"]["by_seed"][0]


def test_fresh_events_carry_the_hash_of_the_artifact_and_become_evidence(fresh, shipped):
    root, _, _, collected, ids = fresh
    events = read_events(root / "data/segments").set_index("event_id")
    assert collected["events"] == len(ids) and set(events.loc[ids, "checkpoint"]) == {shipped[1]["sha256"]}
    assert current_checkpoint(root / "data/checkpoints", events.reset_index()).version == shipped[1]["version"]
    result = failwb("validate", "--json", cwd=root)
    before = out_json("validate/summary.json")
    assert result.returncode == 0, said(result)
    assert json.loads(result.stdout)["passed"] == before["passed"] + len(ids)
