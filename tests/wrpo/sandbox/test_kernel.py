"""What the kernel keeps for a program, and which of its calls a program can reach."""

import errno
import os
import platform
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.wrpo.sandbox.kernel_attacks import ATTACKS, PAGE_TABLES, Attack
from tests.wrpo.sandbox.test_sandbox import SMALL, isolating
from wrpo.errors import SandboxError
from wrpo.sandbox import Limits, Sandbox, launch, system_calls
from wrpo.sandbox.seccomp import filter_program

ALLOWED, DENIED, UNKNOWN = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
LIMITS = Limits(cpu_s=10, wall_s=60.0)
FREE = [attack for attack in ATTACKS if attack.free is not None]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(LIMITS)


@isolating
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_no_more_than_its_bound(sandbox: Sandbox, attack: Attack) -> None:
    outcome = sandbox.run(attack.program)
    assert outcome.status == "ok", outcome
    assert int(outcome.stdout) <= attack.bound


@pytest.mark.parametrize("attack", FREE, ids=lambda attack: attack.name)
def test_an_attack_gets_more_where_nothing_stands_against_it(attack: Attack) -> None:
    outcome = Sandbox(LIMITS, isolated=False).run(attack.program)
    assert outcome.status == "ok", outcome
    assert int(outcome.stdout) >= (attack.free or 0)


@isolating
def test_page_tables_end_a_program(sandbox: Sandbox) -> None:
    outcome = sandbox.run(PAGE_TABLES)
    assert (outcome.status, outcome.stdout) == ("memory", "")


@isolating
@pytest.mark.parametrize("name", system_calls.DENIED.get(platform.machine(), {}))
def test_a_closed_call_is_refused(sandbox: Sandbox, name: str) -> None:
    number = system_calls.DENIED[platform.machine()][name]
    source = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.syscall({number}, 0, 0, 0, 0, 0, 0), ctypes.get_errno())"
    )
    assert sandbox.run(source).stdout == f"-1 {errno.EPERM}\n"


def answer(machine: str, number: int, *arguments: int) -> int:
    """What a machine's filter answers to a call."""
    data = struct.pack("iIQ6Q", number, system_calls.AUDIT[machine], 0, *(arguments + (0,) * 6)[:6])
    steps = list(struct.iter_unpack("HBBI", filter_program(machine)))
    place = value = 0
    while True:
        code, then, otherwise, operand = steps[place]
        place += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            [value] = struct.unpack_from("I", data, operand)
        elif code == 0x54:
            value &= operand
        else:
            place += then if {0x15: value == operand, 0x35: value >= operand}[code] else otherwise


@pytest.mark.parametrize("machine", system_calls.DENIED)
def test_the_filter_of_each_machine_closes_what_it_says(machine: str) -> None:
    for name, number in system_calls.DENIED[machine].items():
        assert answer(machine, number) == DENIED, name
    for number in (*range(system_calls.LAST + 1, 1000), system_calls.CLONE3):
        assert answer(machine, number) == UNKNOWN, number
    for family in range(-1, 300):
        found = answer(machine, system_calls.SOCKETPAIR[machine], family % (1 << 32))
        assert found == (ALLOWED if family == 1 else DENIED), family
    clone = system_calls.CLONE[machine]
    assert answer(machine, clone, 0x3D0F00) == ALLOWED  # a thread of libc
    for flags in (17, 0x3D0F00 ^ 0x400, 0x3D0F00 ^ 0x10000, 0x10000):
        assert answer(machine, clone, flags) == DENIED, flags
    assert answer(machine, system_calls.FCNTL[machine], 1, 1031) == DENIED
    assert answer(machine, system_calls.FCNTL[machine], 1, 1030) == ALLOWED
    for flags, found in ((0x21, DENIED), (0x23, DENIED), (0x22, ALLOWED), (1, ALLOWED)):
        assert answer(machine, system_calls.MMAP[machine], 0, 4096, 3, flags) == found, flags
    for advice, found in ((14, DENIED), (25, DENIED), (4, ALLOWED), (15, ALLOWED)):
        assert answer(machine, system_calls.MADVISE[machine], 0, 4096, advice) == found, advice
    assert answer(machine, system_calls.PRCTL[machine], 22, 2) == DENIED
    assert answer(machine, system_calls.PRCTL[machine], 15) == ALLOWED
    assert answer(machine, system_calls.CLOSE_RANGE, 3, 9, 2) == DENIED
    assert answer(machine, system_calls.CLOSE_RANGE, 3, 9, 4) == ALLOWED


def test_the_machines_close_the_same_calls() -> None:
    """aarch64 has no calls for what newer ones do better."""
    one, other = (set(system_calls.DENIED[machine]) for machine in ("x86_64", "aarch64"))
    assert one - other == {"fork", "vfork", "inotify_init"}
    assert not other - one


def test_a_machine_gives_each_call_one_number() -> None:
    for calls in system_calls.DENIED.values():
        assert len(set(calls.values())) == len(calls)


@isolating
@as_root
def test_root_that_lends_no_user_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(launch, "spare_ids", lambda: None)
    with pytest.raises(SandboxError, match="start more than 64 threads"):
        Sandbox(replace(SMALL, threads=64))


@isolating
@as_root
def test_a_user_that_cannot_be_lent_is_refused_with_the_way_out(monkeypatch) -> None:
    monkeypatch.setattr(launch, "spare_ids", lambda: (-1, -1))
    with pytest.raises(SandboxError, match="run as an ordinary user"):
        Sandbox(SMALL)


@isolating
@as_root
def test_ordinary_users_have_the_same_walls() -> None:
    python = shutil.which("python3", path="/usr/bin")
    code = (
        "import sys\nsys.version_info >= (3, 11) or sys.exit(9)\nsys.path.insert(0, sys.argv[1])\n"
        "from wrpo.sandbox import Sandbox\nprint(Sandbox().run('print(6 * 7)').stdout)"
    )
    if python is None:
        pytest.skip("no Python that every user may run")
    run = subprocess.run(
        [python, "-B", "-c", code, str(Path(__file__).parents[3])],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
    if run.returncode == 9 or "No module named 'wrpo'" in run.stderr:
        pytest.skip("no Python or no sources that every user may read")
    assert run.stdout.split() == ["42"], run.stderr
