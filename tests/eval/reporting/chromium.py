"""A small client of Chromium's DevTools protocol over two pipes, to test the report page."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BINARY = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
_QUIET = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
)


class Page:
    """One open page.

    Attributes:
        events: every event of the browser so far, as (method, parameters).
    """

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write, self._last = read, write, 0
        self._session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its response."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            response = self._next()
            if response.get("id") == self._last:
                assert "error" not in response, response
                result: dict[str, Any] = response["result"]
                return result

    def open(self, path: Path, *, width: int, height: int, scheme: str) -> None:
        """Loads a file at this size, with `prefers-color-scheme` light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._next()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, *, text: str = "") -> None:
        """One key, down and up, to whatever has the focus."""
        code = {"Enter": 13, "ArrowDown": 40, "ArrowUp": 38, "Escape": 27, "Tab": 9}.get(key, 0)
        common = {"key": key, "windowsVirtualKeyCode": code}
        text = "\r" if key == "Enter" else text
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **common, **down)
        self.call("Input.dispatchKeyEvent", **common, type="keyUp")

    def requests(self) -> list[str]:
        """The addresses that the page asked for since it was opened."""
        wanted = "Network.requestWillBeSent"
        return [event["request"]["url"] for method, event in self.events if method == wanted]

    def complaints(self) -> list[str]:
        """Errors and warnings on the console, and uncaught exceptions."""
        found = []
        for method, event in self.events:
            if method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
                found.append(event["entry"]["text"])
            elif method == "Runtime.exceptionThrown":
                found.append(str(event["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning"):
                found.append(str(event["args"]))
        return found

    def _next(self) -> dict[str, Any]:
        raw = bytearray()
        while (byte := self._read.read(1)) not in (b"\0", b""):
            raw += byte
        assert raw, "the browser has gone"
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message


@contextmanager
def page(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, which ends with the context."""
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    command = (
        f"exec {shlex.quote(str(BINARY))} {_QUIET} --user-data-dir={shlex.quote(str(profile))}"
    )
    process = subprocess.Popen(
        ["bash", "-c", f"{command} 3<&{to_browser} 4>&{from_browser}"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        with os.fdopen(to_us, "rb") as read, os.fdopen(from_us, "wb") as write:
            yield Page(read, write)
    finally:
        process.kill()
        process.wait()
