"""A stand-in for a server with the OpenAI API: a script says what each request gets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends back, and how long it takes over that."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float


def response(text: str = "yes", **fields: Any) -> Reply:
    """A finished completion."""
    choice = {"text": text, "finish_reason": "stop", "token_ids": [5, 3], **fields}
    return Reply({"choices": [choice], "usage": {"completion_tokens": 2}})


def chat_response(text: Any = "yes", **fields: Any) -> Reply:
    """A finished chat completion."""
    choice = {"message": {"content": text}, "finish_reason": "stop", **fields}
    return Reply({"choices": [choice], "usage": {"completion_tokens": 2}})


def problem(status: int, message: str = "no", **headers: str) -> Reply:
    """An error in the shape that servers share."""
    return Reply({"error": {"message": message}}, status, headers)


Script = Callable[[int, Seen], Reply]
"""From the number of a request and the request to the reply."""


class CompletionServer:
    """Serves on a free port; `script` makes the reply from (number of the request, request)."""

    def __init__(self, script: Script) -> None:
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._script = script
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Frees the port."""
        self._http.shutdown()
        self._http.server_close()

    def _take(self, seen: Seen) -> Reply:
        with self._lock:
            number = len(self.seen)
            self.seen.append(seen)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        reply = self._script(number, seen)
        time.sleep(reply.seconds)
        with self._lock:
            self._at_once -= 1
        return reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            request_queue_size = 64

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                reply = take(Seen(self.path, body, dict(self.headers), time.monotonic()))
                payload = reply.body.encode() if isinstance(reply.body, str) else None
                payload = payload or json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(payload)))
                with suppress(OSError):  # the client may have gone
                    self.end_headers()
                    self.wfile.write(payload)

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
