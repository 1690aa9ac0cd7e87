"""Programs that make the kernel keep what no limit counts, or open its doors.

Each prints how much it got. `bound` is how much of that it may get inside; `free` is an amount that
it gets where nothing stands against it, and None where that is not known for every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

_COMMON = """
import ctypes, errno, fcntl, os, socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
X86 = os.uname().machine == "x86_64"
MOST = 2000
def call(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *arguments)
def many(attempt, most=MOST):
    got = 0
    try:
        while got < most and (answer := attempt(got)) is not False and answer != -1:
            got += 1
    except (OSError, RuntimeError, MemoryError):
        pass
    return got
def pipes():
    made = []
    many(lambda _: made.append(os.pipe()))
    return made
"""


@dataclass(frozen=True)
class Attack:
    """One of them; `source` ends with the amount in `got`."""

    name: str
    source: str
    bound: int
    free: int | None

    @property
    def program(self) -> str:
        """What runs inside."""
        return f"{_COMMON}\n{self.source}\nprint(got, flush=True)\nos._exit(0)"


ATTACKS = [
    Attack(
        "extended attributes",
        """
open("f", "w"); os.symlink("f", "l"); f = os.open("f", os.O_RDWR); big = b"x" * 1000
def keep(n):
    ways = [lambda: os.setxattr("f", f"user.{n}", big),
            lambda: os.setxattr("l", f"user.{n}", big, follow_symlinks=False),
            lambda: os.setxattr(f, f"user.{n}", big),
            lambda: os.setxattr(".", f"user.{n}", big)]
    return any(many(lambda _: way(), 1) for way in ways)
got = many(keep) + many(lambda _: call(463, -100, b"f", 0, b"user.b", b"x" * 16, 16))
""",
        bound=0,
        free=None,
    ),
    Attack(
        "files",
        'got = many(lambda n: os.close(os.open(f"{n:0200}", os.O_CREAT)))',
        bound=1023,
        free=2000,
    ),
    Attack("folders", 'got = many(lambda n: os.mkdir(f"{n:0200}"))', bound=1023, free=2000),
    Attack(
        "symbolic links",
        'got = many(lambda n: os.symlink("x" * 4000, f"{n:0200}"))',
        bound=1023,
        free=2000,
    ),
    Attack(
        "hard links",
        'open("f", "w")\ngot = many(lambda n: os.link("f", f"{n:0200}"))',
        bound=1023,
        free=2000,
    ),
    Attack(
        "threads",
        """
attributes = ctypes.create_string_buffer(64); thread = ctypes.c_ulong()
libc.pthread_attr_init(attributes); libc.pthread_attr_setstacksize(attributes, 16384)
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
got = many(lambda _: libc.pthread_create(ctypes.byref(thread), attributes, pause, None) == 0)
""",
        bound=63,
        free=None,  # RLIMIT_NPROC holds for ordinary users outside too
    ),
    Attack("tables of open files", "got = many(lambda _: call(436, 500, 600, 2), 1)", 0, 1),
    Attack(
        "families of sockets",
        """
kinds = (1, 2, 3, 4, 5, 6, 10)
got = sum(many(lambda _: socket.socket(f, k).close(), 1) for f in range(-2, 300) for k in kinds)
""",
        bound=0,
        free=2,
    ),
    Attack(
        "families of pairs",
        "got = sum(many(lambda _: socket.socketpair(f), 1) for f in range(-2, 300) if f != 1)",
        bound=0,
        free=None,  # TIPC alone has others
    ),
    Attack(
        "files on their way through sockets",
        """
a, b = socket.socketpair()
got = many(lambda _: (socket.send_fds(a, [b"x"], [0]), 1), 50)
""",
        bound=0,
        free=50,
    ),
    Attack(
        "bytes in sockets",
        """
got = 0; pairs = []
many(lambda _: pairs.append(socket.socketpair()))
for end in [end for pair in pairs for end in pair]:
    end.setblocking(False)
    many(lambda _: end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30), 1)
    got += many(lambda _: end.send(bytes(1 << 15))) << 15
""",
        bound=32 << 20,
        free=None,  # net.core.wmem_max bounds it
    ),
    Attack(
        "bytes of pipes",
        """
got = 0
for _, end in pipes():
    many(lambda _: fcntl.fcntl(end, 1031, 1 << 20), 1)
    got += fcntl.fcntl(end, 1032)
""",
        bound=32 << 16,
        free=33 << 16,
    ),
    Attack(
        "pages that pipes hold",
        """
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
end = pipes()[0][1]; huge = 2 << 20
def leave(_):
    place = libc.mmap(None, huge, 3, 0x22, -1, 0); vector = Vector(place, 1)
    ctypes.memset(place, 1, 1)
    try: return call(278 if X86 else 75, end, ctypes.byref(vector), ctypes.c_ulong(1), 2)
    finally: libc.munmap(place, huge)
got = many(leave, 10)
""",
        bound=0,
        free=10,
    ),
    Attack(
        "memory left of shared maps",
        """
def leave(_):
    place = libc.mmap(None, 1 << 20, 3, 0x21, -1, 0)
    return place != (1 << 64) - 1 and libc.munmap(place + 4096, (1 << 20) - 4096)
got = many(leave, 10)
""",
        bound=0,
        free=10,
    ),
    Attack(
        "memory left of huge pages",
        """
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
place = libc.mmap(None, 4 << 20, 3, 0x22, -1, 0)
got = many(lambda _: libc.madvise(place, 4 << 20, 14), 1)
got += many(lambda _: libc.madvise(place, 4 << 20, 25), 1)
""",
        bound=0,
        free=None,  # a kernel may know no huge pages
    ),
    Attack(
        "policies of shared memory",
        """
f = os.open("f", os.O_RDWR | os.O_CREAT); os.ftruncate(f, 1 << 20)
place = libc.mmap(None, 1 << 20, 3, 1, f, 0); nodes = (ctypes.c_ulong * 1)(1)
got = many(lambda n: call(237 if X86 else 235, ctypes.c_void_p(place + 8192 * n),
    ctypes.c_ulong(4096), 2, nodes, ctypes.c_ulong(64), 0), 100)
""",
        bound=0,
        free=None,  # a kernel may know no NUMA
    ),
    Attack(
        "rules of Landlock",
        """
class Rules(ctypes.Structure): _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64)]
got = many(lambda _: call(444, ctypes.byref(Rules(1, 0)), ctypes.c_size_t(8), 0), 10)
""",
        bound=0,
        free=None,  # a kernel may know no Landlock
    ),
    Attack(
        "events of files",
        """
ways = [lambda _: libc.inotify_init(), lambda _: libc.inotify_init1(0),
        lambda _: libc.fanotify_init(0x200, 0)]
got = sum(many(way, 10) for way in ways)
""",
        bound=0,
        free=20,
    ),
    Attack(
        "filters of system calls",
        """
class Program(ctypes.Structure): _fields_ = [("size", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
steps = (ctypes.c_uint64 * 99)(*[0x7FFF000000000006] * 99)
program = Program(99, ctypes.addressof(steps)); libc.prctl(38, 1, 0, 0, 0)
got = many(lambda _: libc.prctl(22, 2, ctypes.byref(program)), 4)
got += many(lambda _: call(317 if X86 else 277, 1, 0, ctypes.byref(program)), 3)
""",
        bound=0,
        free=6,
    ),
    Attack(
        "timers",
        """
timer = ctypes.c_void_p()
got = many(lambda _: call(222 if X86 else 107, 0, None, ctypes.byref(timer)))
""",
        bound=64,
        free=None,  # RLIMIT_SIGPENDING is one of the limits that need no walls
    ),
    Attack(
        "events to come",
        "got = many(lambda n: call(206 if X86 else 0, 1, ctypes.byref(ctypes.c_ulong(0))), 10)",
        bound=0,
        free=None,
    ),
    Attack(
        "locks of files",  # each one looks at all others, so CPU time bounds them
        """
files = [open(f"{n}", "w") for n in range(50)]; end = time.process_time() + 0.8
def lock(n):
    for file in files: fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * n)
    return time.process_time() < end
got = 50 * many(lock, 1 << 40)
""",
        bound=200_000,
        free=1000,
    ),
]
PAGE_TABLES = f"""{_COMMON}
for place in range(1 << 40, 1 << 46, 1 << 30):
    if libc.mmap(place, 4096, 1, 0x8022, -1, 0) in (None, (1 << 64) - 1): break
print("all", flush=True)
time.sleep(1)
"""
"""Single pages, each so far from the others that it needs tables of its own."""
