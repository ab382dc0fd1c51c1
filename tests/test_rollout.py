"""An adopted remedy is carried through on a real service: promoted, served, verified; or taken back."""

import datetime as dt
import json
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import skops.io
from crowd import copy
from house import failwb, said
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from typer.testing import CliRunner

from failwb.capture.agent import SPOOL, open_agent
from failwb.capture.asgi import CaptureMiddleware, label_route
from failwb.capture.collect import collect
from failwb.capture.sample import serving
from failwb.capture.segments import read_events
from failwb.capture.spool import Spool
from failwb.cli import app
from failwb.lab.init import init
from failwb.models.answer import answer
from failwb.models.checkpoint import Checkpoint, current_checkpoint, inputs, load_checkpoint
from failwb.models.train import fit, make_pipeline
from failwb.record.errors import FailwbError
from failwb.record.tables import read_json, read_table
from failwb.record.task import task_of
from failwb.remedy.promote import promote
from failwb.remedy.regress import mends
from failwb.remedy.rollout import listed, rollout
from failwb.remedy.rounds import close_round, seal
from failwb.workbench import STAGES, Workbench, load_stage, run_stage

BEFORE, AFTER = "2026-01-05", "2026-03-09"
NEEDED, JUDGED = ["validate", "detect", "split"], ["catalog", "map", "review"]


def people(rows: int, seed: int, start: str, days: int, cents: bool = True) -> pd.DataFrame:
    "Customers who leave when they spend little; branch d reports what they spend in cents."
    rng = np.random.default_rng(seed)
    when = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(np.sort(rng.random(rows)) * days, unit="D")
    table = pd.DataFrame({"when": when, "spent": np.round(20 + rng.gamma(2, 40, rows), 2)})
    table["visits"], table["branch"] = rng.integers(0, 30, rows), rng.choice(["a", "b", "c", "d"], rows)
    table["left"] = np.where((table["spent"] < 85) ^ (rng.random(rows) < 0.05), "yes", "no")
    if cents:
        table.loc[table["branch"] == "d", "spent"] *= 100
    return table


def stages(wb: Workbench, names: list[str]) -> None:
    for name in names:
        run_stage(wb, load_stage(name))


@pytest.fixture(scope="module")
def adopted(tmp_path_factory) -> tuple[Path, str]:
    "A workbench with one adopted plan, which divides by a hundred; nothing is promoted."
    home = tmp_path_factory.mktemp("rollout")
    taught = people(1200, 1, BEFORE, 56, cents=False).drop(columns="when")
    taught.to_csv(home / "taught.csv", index=False)
    leaves = (taught["left"] == "yes").to_numpy(int)
    model = fit(make_pipeline(["spent", "visits"], ["branch"], 0), taught.drop(columns="left"), leaves)
    skops.io.dump(model, home / "m.skops")
    people(3400, 2, BEFORE, 56).to_csv(home / "served.csv", index=False)
    about = {"time": "when", "owner": "ada", "train_rows": home / "taught.csv"}
    init(home / "bench", home / "served.csv", "left", model=str(home / "m.skops"), **about)
    wb = Workbench(home / "bench")
    stages(wb, list(STAGES)[: list(STAGES).index("propose") + 1])
    seal(wb)
    stages(wb, ["experiment", "gate"])
    verdicts = close_round(wb)["verdicts"]
    stages(wb, ["catalog", "map", "document", "review"])
    assert [(v["remedy"], v["verdict"]) for v in verdicts] == [("unit_fix", "adopt")]
    return wb.root, verdicts[0]["plan"]


# -- a real service


def service(checkpoint: Checkpoint, wb: Workbench) -> Starlette:
    "What a team runs: one checkpoint behind a route."
    task = task_of(wb.contract, checkpoint.threshold)

    async def predict(request: Request) -> JSONResponse:
        asked = pd.DataFrame((await request.json())["instances"])
        found = answer(checkpoint.model, task, inputs(checkpoint, asked))
        return JSONResponse({"predictions": found[["prediction", "score"]].to_dict("records")})

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


def serve(wb: Workbench, version: str, rows: pd.DataFrame, under: str | None = None) -> None:
    "Serve `version` over HTTP behind our capture, send it `rows` and their labels; `under` another hash."
    checkpoint, agent = load_checkpoint(wb.path(f"data/checkpoints/{version}")), open_agent(wb.root)
    now = [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]
    served = service(checkpoint, wb)
    about = {"model": "served", "checkpoint": under or checkpoint.sha256, "clock": lambda: now[0]}
    served.add_middleware(CaptureMiddleware, agent=agent, **about)
    served.router.routes.append(label_route(agent, "/labels"))
    with serving(served) as url, httpx.Client(base_url=url, timeout=30) as client:
        for start in range(0, len(rows), 25):
            part = rows[start : start + 25]
            now[0] = part["when"].iloc[-1].floor("s").to_pydatetime()
            ids = [f"{version}-{i}" for i in part.index]
            body = part[["spent", "visits", "branch"]].to_dict("records")
            sent = {"instances": body, "ids": ids, "subjects": [f"s{i}" for i in part.index]}
            client.post("/predict", json=sent).raise_for_status()
            known = {"time": (now[0] + dt.timedelta(hours=1)).isoformat()}
            told = [{"event_id": e, "label": y} | known for e, y in zip(ids, part["left"], strict=True)]
            client.post("/labels", json={"labels": told}).raise_for_status()
    agent.close()
    assert agent.counts["dropped"] == agent.counts["dead_lettered"] == 0
    collect(Spool(wb.path(SPOOL)), wb.path("data"), wb.contract, wb.ledger)


def asked(wb: Workbench, plan: str, code: int = 0) -> dict:
    "What `failwb rollout PLAN` says, on evidence that the pipeline has seen."
    stages(wb, NEEDED)
    result = CliRunner().invoke(app, ["rollout", plan[:8], "--json", "-C", str(wb.root)])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def steps(found: dict) -> list[tuple[str, str]]:
    return [(e["event"], e["rung"]) for e in found["new"]]


@pytest.fixture
def promoted(adopted, tmp_path) -> tuple[Workbench, str]:
    wb = Workbench(copy(adopted[0], tmp_path / "bench"))
    assert promote(wb, adopted[1], unapproved="To try the rollout")["version"] == "v2"
    return wb, adopted[1]


def shadowed(wb: Workbench, rows: pd.DataFrame) -> None:
    "The old checkpoint answers, the new one answers copies."
    serve(wb, "v1", rows)
    serve(wb, "v2", rows)


@pytest.mark.slow
def test_a_remedy_that_keeps_its_promise_is_verified(promoted):
    wb, plan = promoted
    rows = people(2600, 3, AFTER, 60)
    assert asked(wb, plan)["rung"] == "not live"
    shadowed(wb, rows[:1200])
    with pytest.raises(FailwbError, match="not judged yet"):
        rollout(wb, plan)
    found = asked(wb, plan)
    assert steps(found) == [("started", "replay"), ("advanced", "shadow"), ("advanced", "canary")]
    assert (found["serve"], found["beside"], found["state"]) == ("v1", "v2", "running")
    assert asked(wb, plan)["new"] == []  # asked again, it has nothing to add
    serve(wb, "v2", rows[1200:])
    found = asked(wb, plan)
    assert steps(found) == [("advanced", "full")]
    assert (found["serve"], found["beside"], found["share"], found["state"]) == ("v2", None, 1.0, "kept")
    assert found["error"] < 0.12 and found["before"] > 0.3 and found["fall_low"] >= 0.06
    stages(wb, [verb for verb in STAGES if verb not in NEEDED])
    pattern = read_table(wb.path("out/catalog/patterns.parquet")).set_index("pattern").loc[read_pattern(wb, plan)]
    assert pattern["grade"] == "verified"
    review = wb.read("out/review/review.md")
    assert "| **kept**; promoted without approvals" in review
    assert wb.read("out/review/summary.json")["shipped_kept"] == 1
    page = wb.path(f"out/document/patterns/{read_pattern(wb, plan)[:12]}.html").read_text(encoding="utf-8")
    assert "Verified." in page and "fresh labelled predictions" in page
    assert [m.plan for m in mends(wb, every=False) if m.held] == [plan]


@pytest.mark.slow
def test_a_remedy_that_fresh_traffic_refutes_is_taken_back(promoted):
    wb, plan = promoted
    rows = people(1500, 4, AFTER, 60)
    hit = (rows["branch"] == "d") & (rows.index % 3 > 0)
    turned = rows.assign(left=rows["left"].where(~hit, rows["left"].map({"yes": "no", "no": "yes"})))
    shadowed(wb, turned[:600])
    found = asked(wb, plan, code=1)
    assert steps(found) == [("started", "replay"), ("advanced", "shadow"), ("rolled back", "shadow")]
    assert (found["rung"], found["serve"], found["beside"]) == ("rolled back", "v1", None)
    assert "was promised" in found["said"] and "data/checkpoints/v1" in found["do"][0]
    newest = read_events(wb.path("data/segments"))
    stages(wb, JUDGED)
    assert "Serve v1 again: v2 was rolled back and still answers" in wb.read("out/review/review.md")
    assert current_checkpoint(wb.path("data/checkpoints"), newest).version == "v2"
    serve(wb, found["serve"], turned[600:700])  # the operator does what the command said
    stages(wb, NEEDED + JUDGED)
    assert current_checkpoint(wb.path("data/checkpoints"), read_events(wb.path("data/segments"))).version == "v1"
    review = wb.read("out/review/review.md")
    assert "still answers" not in review and "| **rolled back**; promoted without approvals" in review
    assert "verified" not in set(read_table(wb.path("out/catalog/patterns.parquet"))["grade"])
    assert asked(wb, plan, code=1)["new"] == []  # what was taken back stays back
    assert not any(m.held for m in mends(wb, every=False))  # and is no promise any more


def test_another_model_under_the_hash_is_found_at_once(promoted):
    wb, plan = promoted
    sha256 = read_json(wb.path("data/checkpoints/v2/checkpoint.json"))["sha256"]
    serve(wb, "v1", people(100, 5, AFTER, 3), under=sha256)
    stages(wb, NEEDED)
    found = rollout(wb, plan)
    assert steps(found)[-1][0] == "rolled back" and ("advanced", "canary") not in steps(found)
    assert "are not those of checkpoint v2" in found["said"]


def test_a_person_goes_back_and_the_list_says_so(promoted):
    wb, plan = promoted
    stages(wb, NEEDED)
    result = CliRunner().invoke(app, ["rollout", plan[:8], "--back", "p99 is above 250 ms", "-C", str(wb.root)])
    assert result.exit_code == 1 and "p99 is above 250 ms" in result.stdout
    assert [(one["rung"], one["serve"]) for one in listed(wb)] == [("rolled back", "v1")]


def test_what_was_not_promoted_has_no_rollout(adopted):
    root, plan = adopted
    result = failwb("rollout", plan[:8], cwd=root)
    assert result.returncode == 2 and "was not promoted. Hint: `failwb promote" in said(result)


@pytest.mark.parametrize("form", ["github-issue", "github-pull", "gitlab-issue", "gitlab-merge"])
def test_a_change_request_is_a_ready_ticket(adopted, form):
    root, plan = adopted
    result = CliRunner().invoke(app, ["change", plan[:8], "--as", form, "--json", "-C", str(root)])
    found = json.loads(result.stdout)
    text = found.get("body") or found["description"]
    assert text.count("- [ ] ") == 4 and plan in text and len(text) < 65536  # GitHub takes no longer body


def read_pattern(wb: Workbench, plan: str) -> str:
    return read_json(wb.path(f"ledger/plans/{plan}.json"))["pattern"]
