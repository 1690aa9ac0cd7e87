"""A real `vllm serve` of a tiny model on localhost."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.commands import Command


@contextmanager
def vllm_serve(
    model: Path, *, max_model_len: int, logprobs_mode: str = "raw_logprobs"
) -> Iterator[str]:
    """Serves a model on a free port; yields the base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options: list[object] = ["--model", model, "--dtype", "float32", "--enforce-eager"]
    options += ["--max-model-len", max_model_len, "--kv-cache-memory-bytes", 64 * 2**20]
    # Chunked prefill and seeds do not go together on CPUs.
    options += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", 8192]
    options += ["--logprobs-mode", logprobs_mode, "--host", "127.0.0.1", "--port", port]
    process = Command("vllm.entrypoints.openai.api_server", *options)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: Command) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the server did not start: {process.stderr[-3000:]}")
