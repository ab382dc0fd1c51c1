"""How tests start a real MLServer, which has an environment of its own (`make peers`)."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from house import ROOT

PEER = ROOT / ".peers/mlserver/bin"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def alone(*path: Path) -> dict[str, str]:
    "The environment variables of the server: it imports nothing of ours, but what lies in `path`."
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return kept | ({"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {})


def settle_in(folder: Path, models: dict[str, dict]) -> str:
    "Write the settings of a server and its `models` to `folder`; return the address under which the models will be."
    ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports}))
    for name, about in models.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "model-settings.json").write_text(json.dumps({"name": name, **about}))
    return f"http://127.0.0.1:{ports['http_port']}/v2/models"


def start(folder: Path, address: str, *path: Path) -> subprocess.Popen:
    "Start the server in `folder` and wait until all of its models are ready."
    with open(folder / "log.txt", "w") as log:
        command = [PEER / "mlserver", "start", "."]
        server = subprocess.Popen(command, cwd=folder, env=alone(*path), stdout=log, stderr=log)
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            if httpx.get(address.replace("/v2/models", "/v2/health/ready"), timeout=1).status_code == 200:
                return server
        except httpx.TransportError:
            pass  # not up yet
        time.sleep(0.5)
    server.kill()
    pytest.fail(f"MLServer did not start: {(folder / 'log.txt').read_text()[-800:]}", pytrace=False)
