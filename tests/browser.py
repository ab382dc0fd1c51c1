"""A real browser, driven over its debugging port: what a page shows, and what it asks the network for."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

PROGRAM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
]


class Browser:
    "One tab of a headless Chromium."

    def __init__(self, home: Path):
        import websocket  # jupyter_server depends on it

        options = [f"--user-data-dir={home}", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([PROGRAM, *FLAGS, *options, "about:blank"], stdout=quiet, stderr=quiet)
        port = self._wait_for(home / "DevToolsActivePort").split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            tab = next(t for t in json.load(answer) if t["type"] == "page")
        self.socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)
        self.last, self.events = 0, []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    @staticmethod
    def _wait_for(path: Path, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if path.is_file() and (text := path.read_text()).strip():
                return text
            time.sleep(0.1)
        raise TimeoutError(f"{PROGRAM} did not start within {seconds:.0f} s")

    def ask(self, method: str, **params) -> dict:
        "Send one command and return its result; what happens meanwhile is kept in `events`."
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression: str):
        "Return the value of a JavaScript expression."
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 30):
        "Return the first true value of a JavaScript expression."
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.1)
        raise TimeoutError(f"never true: {expression}")

    def open(self, url: str) -> None:
        "Load a page and wait until it is complete."
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.wait(f"document.readyState == 'complete' && location.href.startsWith({url.split('?')[0]!r})")

    def prefer(self, scheme: str) -> None:
        "Be a reader who prefers light or dark."
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width: int, height: int = 900) -> None:
        "Give the window another size, in CSS pixels."
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def requests(self) -> list[str]:
        "Addresses that the page asked for since it was opened."
        self.evaluate("1")  # collects what is still on its way
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        "Errors of scripts and failed loads since the page was opened."
        self.evaluate("1")
        thrown = [str(e["params"]) for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        logged = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        return thrown + [f"{e['text']} {e.get('url', '')}" for e in logged if e["level"] == "error"]

    def picture(self, path: Path) -> None:
        "Write a screenshot."
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)
