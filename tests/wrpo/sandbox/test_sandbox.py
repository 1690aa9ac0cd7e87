"""What the sandbox promises, tried by programs that want out."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.wrpo.sandbox.hostile_programs import DOOR, PLACES, programs
from wrpo.errors import SandboxError
from wrpo.sandbox import Limits, Outcome, Sandbox
from wrpo.sandbox.launch import end_orphans, isolated
from wrpo.sandbox.seccomp import filter_program

SMALL = Limits(cpu_s=1, wall_s=1.2, memory_mib=192, scratch_mib=8, output_kib=64)
MARGIN_S = 10.0
SECRET, CANARY = "secret-of-the-environment", "content-of-the-canary"


def bubblewrap_runs() -> bool:
    command = ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true"]
    return shutil.which("bwrap") is not None and subprocess.run(command).returncode == 0


isolating = pytest.mark.skipif(not bubblewrap_runs(), reason="bwrap is missing or not permitted")


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(SMALL)


def limits_of_this_process(**fields: float) -> Limits:
    """Limits that tell the programs of this test process from those of others."""
    return replace(SMALL, memory_mib=192 + os.getpid() % 61, **fields)


def running(limits: Limits) -> list[str]:
    """The pids of bwrap, its process 1 and the program, under these limits.

    A namespace lives no longer than its process 1, whatever else there is in it.
    """
    mark = f"--as={limits.memory_mib << 20}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(entry.name)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@isolating
@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("print('fine')", "ok"),
        ("raise SystemExit(3)", "failed"),
        ("def (", "failed"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("x = bytearray(1 << 40)", "memory"),
        ("while True: print('x' * 4096)", "output"),
        ("import os; os.kill(os.getpid(), 11)", "killed"),
    ],
)
def test_every_end_has_its_status(sandbox: Sandbox, source: str, status: str) -> None:
    assert sandbox.run(source).status == status


@isolating
def test_programs_read_stdin_and_may_use_threads_and_scratch_files(sandbox: Sandbox) -> None:
    source = """
import threading
lines = []
thread = threading.Thread(target=lambda: lines.append(input()))
thread.start(); thread.join()
with open("note", "w") as file: file.write(lines[0][::-1])
with open("/dev/null", "w") as file: file.write("nothing")
assert len(open("/dev/urandom", "rb").read(8)) == 8
print(open("/tmp/note").read())
"""
    outcome = sandbox.run(source, stdin="grün\n")
    assert (outcome.status, outcome.stdout) == ("ok", "nürg\n")


@isolating
def test_nothing_of_one_program_reaches_the_next_and_hashes_are_fixed(sandbox: Sandbox) -> None:
    source = "import os\nprint(os.listdir('/tmp'), hash('x'))\nopen('left', 'w').close()"
    first, second = sandbox.run(source), sandbox.run(source)
    assert first.stdout == second.stdout
    assert first.stdout.startswith("[]")


@isolating
def test_more_input_than_a_program_reads_is_no_error(sandbox: Sandbox) -> None:
    assert sandbox.run("print(1)", stdin="x" * (1 << 20)).status == "ok"


@isolating
@pytest.mark.slow
def test_no_hostile_program_escapes_stalls_or_stays(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    canary = folder / "canary"
    canary.write_text(CANARY)
    monkeypatch.setenv("WRPO_SECRET", SECRET)
    limits = limits_of_this_process()
    absent = [Path(place) for place in PLACES if not Path(place).exists() and "{" not in place]
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        names = {"FILE": canary, "FOLDER": folder, "PARENT": os.getpid()}
        names["PORT"] = server.getsockname()[1]
        sandbox = Sandbox(limits)
        _forget_connections(server)
        outcomes = run_all(sandbox, {f"{{{name}}}": str(value) for name, value in names.items()})
        assert not _forget_connections(server)
    for name, outcome in outcomes.items():
        said = outcome.stdout + outcome.stderr
        assert not [mark for mark in (SECRET, CANARY, DOOR) if mark in said], name
        assert outcome.seconds < limits.wall_s + MARGIN_S, name
        # One more read of each of the two streams may be under way.
        assert len(said) <= (limits.output_kib << 10) + 2 * 65536, name
    assert [path.name for path in folder.iterdir()] == ["canary"]
    assert canary.read_text() == CANARY
    assert not [path for path in absent if path.exists()]
    assert wait_until(lambda: not running(limits))
    assert sandbox.run("print(6 * 7)").stdout == "42\n"


def run_all(sandbox: Sandbox, names: dict[str, str]) -> dict[str, Outcome]:
    def run(program: tuple[str, str]) -> tuple[str, Outcome]:
        name, source = program
        for key, value in names.items():
            source = source.replace(key, value)
        return name, sandbox.run(source)

    with ThreadPoolExecutor(6) as pool:  # most of them sleep until they are ended
        return dict(pool.map(run, programs()))


def _forget_connections(server: socket.socket) -> int:
    """How many connections were waiting."""
    server.setblocking(False)
    for count in range(1000):
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
    return 1000


@isolating
@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.03, 0.1, 0.3])
def test_a_program_dies_with_the_process_that_runs_it(delay: float, tmp_path: Path) -> None:
    limits = limits_of_this_process(wall_s=99.0)
    code = (
        "from wrpo.sandbox import Limits, Sandbox\n"
        f"sandbox = Sandbox({limits})\n"
        "import faulthandler\n"
        "faulthandler.dump_traceback_later(8)\n"
        "print('ready', flush=True)\n"
        "sandbox.run('import time; time.sleep(99)')"
    )
    said = tmp_path / "said"
    with said.open("wb") as errors:
        command = [sys.executable, "-c", code]
        runner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    with runner:
        try:
            assert runner.stdout and runner.stdout.readline() == b"ready\n"
            # Longer than bwrap may take to start, after which the caller says what was wrong.
            seen = wait_until(lambda: bool(running(limits)), seconds=40.0)
            assert seen, (runner.poll(), said.read_text())
            time.sleep(delay)
        finally:
            runner.kill()
    if not wait_until(lambda: not running(limits), seconds=3.0):
        end_orphans()  # of a kill in the milliseconds of the test below
    assert wait_until(lambda: not running(limits))


@isolating
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for whom bwrap waits until it has users")
def test_a_child_that_bwrap_has_left_behind_is_ended_by_the_next_sandbox() -> None:
    limits = limits_of_this_process(wall_s=99.0)
    with isolated(limits, filter_program(), b"import time; time.sleep(99)") as started:
        assert wait_until(lambda: len(running(limits)) == 2)
        started.process.kill()  # bwrap itself, and not by way of its child
        started.process.wait()
        assert len(running(limits)) <= 1  # 0 where a sandbox of another test was faster
    Sandbox(limits)
    assert wait_until(lambda: not running(limits))


def test_a_machine_without_bubblewrap_is_refused_with_the_way_out(monkeypatch, tmp_path) -> None:
    (tmp_path / "prlimit").symlink_to(shutil.which("prlimit") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="none-i-accept-the-risk"):
        Sandbox()


def test_a_bubblewrap_that_may_not_make_namespaces_is_refused(monkeypatch, tmp_path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'no permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="no permissions to create new namespace"):
        Sandbox()


@isolating
def test_walls_that_do_not_hold_are_refused(monkeypatch, tmp_path) -> None:
    """A bwrap that shares /tmp, and hides nothing of its parents."""
    fake = tmp_path / "bwrap"
    fake.write_text(
        f"#!{sys.executable}\nimport os, sys\nargs = sys.argv[1:]\n"
        "place = args.index('/sys')\n"
        "args[place] = '/tmp'\n"
        "place = args.index('--unshare-all')\n"
        "args[place : place + 1] = ['--unshare-pid', '--unshare-uts']\n"
        f"os.execv({shutil.which('bwrap')!r}, ['bwrap', *args])\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="read a file outside, write .* outside, make more than"):
        Sandbox()


@pytest.mark.slow
def test_without_isolation_the_limits_still_hold() -> None:
    sandbox = Sandbox(SMALL, isolated=False)
    assert sandbox.run("import os\nprint(sorted(os.environ))").stdout.count("SECRET") == 0
    assert sandbox.run("while True: pass").status == "timeout"
    assert sandbox.run("x = bytearray(1 << 40)").status == "memory"
    assert sandbox.run("while True: print('x' * 4096)").status == "output"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["read {FILE}", "connect 127.0.0.1", "write {FOLDER}/new", "call memfd", "once os.fork()"],
)
def test_the_hostile_programs_do_harm_where_there_are_no_walls(name: str, tmp_path) -> None:
    """What the test of the hostile programs looks for is there when nothing stops them."""
    (tmp_path / "canary").write_text(CANARY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        names = {"{FILE}": f"{tmp_path}/canary", "{FOLDER}": str(tmp_path), "{PORT}": port}
        source = dict(programs())[name]
        for key, value in names.items():
            source = source.replace(key, value)
        outcome = Sandbox(SMALL, isolated=False).run(source)
        connected = _forget_connections(server) > 0
    harm = {
        "read {FILE}": CANARY in outcome.stdout,
        "connect 127.0.0.1": connected,
        "write {FOLDER}/new": (tmp_path / "new").exists(),
        "call memfd": DOOR in outcome.stdout,
        "once os.fork()": outcome.status == "timeout",
    }
    assert harm[name]


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(SandboxError, match="not of riscv64"):
        filter_program("riscv64")


@isolating
@pytest.mark.parametrize("memory_mib", [*range(192, 260, 12), 500, 1000, 2048])
def test_any_limit_of_memory_leaves_the_trial_room_to_fill_page_tables(memory_mib: int) -> None:
    Sandbox(replace(SMALL, memory_mib=memory_mib, wall_s=5.0))
