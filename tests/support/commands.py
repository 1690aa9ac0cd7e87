"""Starts the toolkit's commands: forks of one loaded process, or new processes."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.command_server import COMMANDS, FAST_PYTHON, PROCESSES

REPOSITORY = Path(__file__).parents[2]
FOLDER = "WRPO_TEST_COMMANDS"
"""Environment variable with the folder of the command server's sockets."""
TIMEOUT = 1200.0


def environment() -> dict[str, str]:
    """What commands of the tests run with."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


FORKED_PYTHON = f"env WRPO_TEST_SERVER={PROCESSES} {FAST_PYTHON}"
"""In the place of `python` for pytest's own processes."""


class Command:
    """A running `python -m MODULE ARGUMENTS` or `python -c CODE ARGUMENTS`, a fork of the server.

    Attributes:
        pid: of the process itself, for signals.
    """

    def __init__(
        self, *arguments: object, folder: Path = REPOSITORY, env: dict[str, str] | None = None
    ) -> None:
        what = arguments if arguments[0] == "-c" else ("-m", *arguments)
        self.args = ["python", *map(str, what)]
        self._folder = tempfile.TemporaryDirectory(prefix="command-")
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(start_server()))
        request = {
            "arguments": self.args[1:],
            "numbers": [0, 1, 2],
            "folder": str(folder),
            "environment": environment() if env is None else env,
            "executable": str(FAST_PYTHON),
            "session": True,
        }
        with (
            Path(os.devnull).open("rb") as stdin,
            self._outputs[0].open("wb") as stdout,
            self._outputs[1].open("wb") as stderr,
        ):
            streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
            socket.send_fds(self._connection, [json.dumps(request).encode()], streams)
        self._replies = self._connection.makefile()
        self.pid = int(self._replies.readline())
        self.returncode: int | None = None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._outputs[0].read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        """What it has logged so far."""
        return self._outputs[1].read_text(encoding="utf-8", errors="replace")

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        ended = self.returncode is None and select.select([self._connection], [], [], 0)[0]
        return self.wait() if ended else self.returncode

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """To the process alone, as `kill` does."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """The exit code; minus the signal's number where a signal ended it.

        Raises:
            subprocess.TimeoutExpired: it still runs; it is killed.
        """
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._replies.readline())
            except TimeoutError:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.args, timeout) from None
        return self.returncode


def run_module(
    module: str, *arguments: object, folder: Path = REPOSITORY, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m MODULE ARGUMENTS` in the repository, or a copy of its packages."""
    command = Command(module, *arguments, folder=folder, env=env)
    code = command.wait()
    return subprocess.CompletedProcess(command.args, code, command.stdout, command.stderr)


def start_server() -> Path:
    """The socket of the command server of this test run, which the first caller starts."""
    path = Path(os.environ[FOLDER]) / COMMANDS
    with path.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _start(path)
    return path


def server_pid() -> int:
    """The command server, of which commands and what they spawn are descendants."""
    return int((start_server().parent / "pid").read_text())


def _start(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.command_server", str(path.parent)],
        cwd=REPOSITORY,
        env={
            **environment(),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "TORCH_COMPILE_DISABLE": "1",
        },
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    path.with_name("pid").write_text(str(process.pid))
    deadline = time.monotonic() + 180
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the command server did not start (exit code {process.poll()})")
        time.sleep(0.05)


def stop_server() -> None:
    """Ends the command server of this test run, if one was started."""
    pid = Path(os.environ.pop(FOLDER)) / "pid"
    if pid.exists():
        os.killpg(int(pid.read_text()), signal.SIGKILL)
