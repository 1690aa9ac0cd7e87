"""As `python`, but `-m` of a module of this toolkit runs in a fork of the command server."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

OURS = ("wrpo", "data_construction", "eval", "tiny_world", "benchmarks")


def main() -> None:
    """Hands over arguments, folder, environment and streams; ends as the command ends."""
    server = Path(os.environ.get("WRPO_TEST_COMMANDS", "")) / "socket"
    is_ours = sys.argv[1:2] == ["-m"] and sys.argv[2].split(".")[0] in OURS
    if not is_ours or not server.is_socket():
        python = os.environ["WRPO_TEST_PYTHON"]
        os.execv(python, [python, *sys.argv[1:]])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(server))
    request = {"arguments": sys.argv[2:], "folder": str(Path.cwd()), "environment": {**os.environ}}
    socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
    replies = connection.makefile()
    pid = int(replies.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(replies.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
