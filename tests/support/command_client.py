"""As `python`, but modules and code of these tests run in a fork of the command server."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

MODULES = ("wrpo", "data_construction", "eval", "tiny_world", "real_world", "benchmarks", "tests")
LAUNCHERS = ("accelerate", "torch", "lm_eval", "vllm")
"""What tests start and what their commands start: it has heavy imports or starts others."""


def main() -> None:
    """Hands over arguments, folder, environment and open files; ends as the command ends."""
    python = os.environ["WRPO_TEST_PYTHON"]
    arguments = [argument for argument in sys.argv[1:] if argument not in ("-u", "-B")]
    of_pytest = os.environ.pop("WRPO_TEST_SERVER", None)
    name = of_pytest or ("processes" if is_of_ray(arguments) else "commands")
    server = Path(os.environ.get("WRPO_TEST_COMMANDS", "")) / name
    if not is_served(arguments) or not server.is_socket():
        os.execv(python, [python, *sys.argv[1:]])
    numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    open_files = [number for number in numbers if is_open(number)]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(server))
    request = {
        "arguments": arguments,
        "numbers": open_files,
        "folder": str(Path.cwd()),
        "executable": python if of_pytest else str(Path(__file__).with_name("fast_python")),
        "session": os.getpgid(0) == os.getpid(),
        "environment": {**os.environ},
    }
    socket.send_fds(connection, [json.dumps(request).encode()], open_files)
    for number in open_files:
        os.close(number)
    replies = connection.makefile()
    pid = int(replies.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(replies.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def is_served(arguments: list[str]) -> bool:
    first, second = [*arguments, "", ""][:2]
    if first == "-m":
        return second.split(".")[0] in MODULES + LAUNCHERS
    return first == "-c" or is_of_ray(arguments)


def is_of_ray(arguments: list[str]) -> bool:
    """Processes of a cluster must not have loaded Ray before they know what they are; vLLM does."""
    return any("/site-packages/ray/" in argument for argument in arguments[:1])


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


main()
