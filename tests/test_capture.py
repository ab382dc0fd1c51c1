"""What the README tells a service to do, a real one does: predictions and late labels become evidence, exactly once."""

import threading
import time

import httpx
import numpy as np
import pandas as pd
import pytest
import uvicorn
from fastapi import FastAPI
from house import failwb, said

from failwb.capture.agent import open_agent
from failwb.capture.asgi import CaptureMiddleware, label_route
from failwb.capture.segments import read_events, read_labels
from failwb.lab.init import init
from failwb.models.checkpoint import load_checkpoint, score
from failwb.record.tables import read_json


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    "A workbench for a small table of one's own, with a trained checkpoint."
    home = tmp_path_factory.mktemp("service")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"spent": rng.gamma(2, 50, 800).round(2), "branch": rng.choice(["a", "b"], 800)})
    table.assign(left=np.where(table["spent"] < 60, "yes", "no")).to_csv(home / "crowd.csv", index=False)
    init(home / "wb", home / "crowd.csv", "left", owner="ada")
    return home / "wb"


def service(workbench) -> tuple[FastAPI, object]:
    "A service for the workbench's checkpoint, with the lines of the README."
    checkpoint, agent, app = load_checkpoint(workbench / "data/checkpoints/v1"), open_agent(workbench), FastAPI()

    @app.post("/predict")
    def predict(body: dict) -> dict:
        p = score(checkpoint.model, pd.DataFrame(body["instances"]))
        names = np.where(p >= checkpoint.threshold, checkpoint.positive, checkpoint.negative)
        return {"predictions": [{"prediction": str(n), "score": float(s)} for n, s in zip(names, p, strict=True)]}

    app.add_middleware(CaptureMiddleware, agent=agent, model="crowd", checkpoint=checkpoint.sha256, path="/predict")
    app.router.routes.append(label_route(agent, "/labels"))
    return app, agent


@pytest.fixture(scope="module")
def served(workbench):
    "Evidence before and after three answered requests, a broken one, and labels, one of them early and one twice."
    before = len(read_events(workbench / "data/segments")), len(read_labels(workbench / "data/segments"))
    app, agent = service(workbench)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    labels = {"labels": [{"event_id": "s1", "label": "yes", "time": "2026-01-01T00:00:00Z"}]}
    httpx.post(f"{url}/labels", json={"labels": [{"event_id": "s3", "label": "no"}]}).raise_for_status()
    for n in (1, 2, 3):
        instance = {"spent": 10.0 * n, "branch": "a"}
        body = {"instances": [instance], "ids": [f"s{n}"], "subjects": ["ada@example.org"]}
        httpx.post(f"{url}/predict", json=body).raise_for_status()
    assert httpx.post(f"{url}/predict", json={"instances": [{"spent": 1.0}]}).status_code == 500
    for _ in range(2):
        httpx.post(f"{url}/labels", json=labels).raise_for_status()
    server.should_exit = True
    thread.join()
    agent.close()
    assert agent.counts["dropped"] == agent.counts["dead_lettered"] == 0
    result = failwb("collect", "--json", cwd=workbench)
    assert result.returncode == 0, said(result)
    return workbench, before


def test_predictions_and_labels_become_evidence(served):
    root, (events, labels) = served
    now = read_events(root / "data/segments")
    assert len(now) == events + 4
    new = now.set_index("event_id").loc[["s1", "s2", "s3"]]
    assert new["x.spent"].tolist() == [10.0, 20.0, 30.0]
    assert set(new["prediction"]) == {"yes"} and new["subject"].nunique() == 1
    assert now["status"].max() == 500
    assert len(read_labels(root / "data/segments")) == labels + 2


def stored(root) -> dict[str, bytes]:
    "All files of the segments, by name."
    return {path.name: path.read_bytes() for path in sorted((root / "data/segments").iterdir())}


def test_the_person_is_not_in_the_evidence(served):
    root, _ = served
    spool = (root / ".failwb/live/spool.db").read_bytes()
    assert b"ada@example.org" not in b"".join(stored(root).values()) + spool


def test_collecting_again_adds_nothing(served):
    root, _ = served
    before = stored(root)
    assert failwb("collect", cwd=root).returncode == 0
    assert stored(root) == before


def test_the_pipeline_takes_them_in(served):
    root, _ = served
    assert failwb("validate", cwd=root).returncode == 0
    events = read_json(root / "out/validate/summary.json")["events"]
    assert events == len(read_events(root / "data/segments"))
