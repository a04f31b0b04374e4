"""Chromium without a screen, driven by its DevTools protocol over a WebSocket."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One page of a browser. What the page does meanwhile is kept in ``events``."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._n_calls = socket, 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._n_calls += 1
        self._socket.send(json.dumps({"id": self._n_calls, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv(timeout=30))).get("id") != self._n_calls:
            self.events.append(message)
        assert "error" not in message, message["error"]
        return message["result"]

    def evaluate(self, code: str) -> Any:
        """Give the value of an expression of JavaScript, waiting for a promise."""
        result = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, code: str, seconds: float = 15) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(code):
            assert time.monotonic() < end, (
                f"{code} is not true; the page says {self.evaluate('document.body.innerText')!r}"
            )
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36}.get(key, ord(key[0].upper()))
        both = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **both, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **both)

    def choose(self, path: Path) -> None:
        """Choose a file, as in the window that asks for one."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self, whole: bool = True) -> bytes:
        """Take a picture of the page, PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def requested(self) -> list[str]:
        """Addresses that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the browser says is wrong: violated policies, exceptions, errors."""
        found = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        thrown = [e["params"] for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        return [*found, *(params["exceptionDetails"]["text"] for params in thrown)]


@contextmanager
def browsing(url: str, *options: str, width: int = 1000, height: int = 900) -> Iterator[Page]:
    """Open a page in a browser of its own."""
    from websockets.sync.client import connect

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = shutil.which("chromium")
        assert program
        command = [
            program,
            *OPTIONS,
            *options,
            f"--window-size={width},{height}",
            f"--user-data-dir={folder}",
            "about:blank",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                port = _port_of(Path(folder) / "DevToolsActivePort")
                targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list"))
                [target] = [target for target in targets if target["type"] == "page"]
                with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
                    page = Page(socket)
                    page.call("Page.navigate", url=url)
                    page.wait_for("document.readyState === 'complete'")
                    yield page
                    with suppress(Exception):
                        page.call("Browser.close")
            finally:
                browser.kill()


def _port_of(path: Path) -> int:
    """Wait until a browser has said at which port it listens."""
    end = time.monotonic() + 30
    while not (path.exists() and path.read_text().count("\n")):
        assert time.monotonic() < end, "chromium does not start"
        time.sleep(0.05)
    return int(path.read_text().split()[0])
