"""Some 250 programs that try to get out, to stall, or to harm the machine.

Each is (name, source). {FILE} is a canary file, {FOLDER} its folder, {PORT} a listening port of
localhost and {PARENT} the pid of the process that runs the sandbox. A program that gets at the
canary's content or the secret of the environment prints it, and a program that gets at the network
connects to the port; the test looks for these marks, not for exceptions. One
that gets through a door of the kernel prints DOOR.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

Program = tuple[str, str]
DOOR = "kernel-door-open"
OPEN = "print('kernel' + '-door-open')"

FORKS = ["os.fork()", "os.forkpty()", "os.posix_spawn('/bin/sh', ['sh'], {})"]
STREAMS = ["sys.stdout", "sys.stderr", "sys.__stdout__.buffer"]
CHUNKS = ["x", "x\\n", "x" * 4096]
PLACES = [
    "{FILE}", "{FOLDER}/new", "/new", "/usr/new", "/etc/passwd", "/root/new", "/home/new",
    "/var/tmp/new", "/dev/new", "/dev/shm/new", "/sandbox/program.py", "/sandbox/new",
    "/usr/bin/python3", "/proc/sys/kernel/core_pattern", "/proc/self/oom_score_adj",
    "/sys/fs/cgroup/new", "/tmp/../new", "/run/new",
]  # fmt: skip
SECRETS = [
    "{FILE}", "/proc/1/environ", "/proc/self/environ", "/proc/{PARENT}/environ", "/proc/1/cmdline",
    "/proc/{PARENT}/cwd/{FILE}", "/proc/1/root/{FILE}", "/proc/self/root/../{FILE}", "/etc/shadow",
    "/etc/passwd", "/etc/hostname", "/root/.bashrc", "/root/.ssh/id_rsa", "/tmp/../{FILE}",
    "/dev/fd/3", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/tty", "/dev/pts/0",
]  # fmt: skip
DEVICES = ["tty", "console", "mem", "kmem", "port", "kmsg", "kvm", "fuse", "ptmx", "vda", "loop0"]
SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGALRM", "SIGPIPE", "SIGSEGV", "SIGUSR1"]
LIMITS = ["CPU", "AS", "FSIZE", "NPROC", "NOFILE", "CORE", "MEMLOCK", "STACK"]
SYSTEM_CALLS = {  # kernel doors by x86-64 number, tried through libc's syscall()
    "clone": "56, 17, 0, 0, 0, 0", "fork": "57", "clone3": "435, 0, 0",
    "ptrace": "101, 16, 1, 0, 0", "unshare_user": "272, 0x10000000",
    "unshare_net": "272, 0x40000000",
    "setns": "308, 0, 0", "mount": "165, 0, 0, 0, 0, 0", "chroot": "161, b'/tmp'",
    "memfd": "319, b'x', 0", "shmget": "29, 0, 1 << 30, 0o1777", "bpf": "321, 0, 0, 0",
    "io_uring": "425, 8, 0", "keyctl": "250, 0, -3, 0, 0",
    "process_vm_readv": "310, 1, 0, 0, 0, 0, 0",
    "perf": "298, 0, 0, -1, -1, 0", "userfaultfd": "323, 0", "x32_getpid": "0x40000027",
}  # fmt: skip


def programs() -> list[Program]:
    """All of them, in a fixed order."""
    families = [
        _processes(), _memory(), _output(), _writes(), _reads(), _network(), _signals(), _time(),
        _limits(), _kernel(), _links(), _endings(),
    ]  # fmt: skip
    return [program for family in families for program in family]


def _processes() -> Iterator[Program]:
    for call in FORKS:
        yield f"bomb {call}", f"import os\nwhile True:\n  try: {call}\n  except OSError: pass"
        yield f"once {call}", f"import os, time\n{call}\ntime.sleep(60)"
        yield (
            f"daemon {call}",
            f"import os, time\n{call}\nos.setsid()\n{call}\nwhile True: time.sleep(1)",
        )
    for command in ["sleep 99 &", ":(){ :|:& };:", "nohup sleep 99", "setsid sleep 99"]:
        yield f"shell {command}", f"import os\nos.system({command!r})"
        yield f"exec {command}", f"import os\nos.execl('/bin/sh', 'sh', '-c', {command!r})"
    yield "exec sleep", "import os\nos.execl('/bin/sleep', 'sleep', '99')"
    yield "subprocess", "import subprocess\nwhile True: subprocess.Popen(['sleep', '99'])"
    yield "pool", "import multiprocessing\nmultiprocessing.Pool(99).map(print, range(10**9))"
    for size in (0, 32768, 1 << 20):
        yield (
            f"threads {size}",
            (
                f"import threading, time\nthreading.stack_size({size})\n"
                "while True: threading.Thread(target=time.sleep, args=(99,)).start()"
            ),
        )


def _memory() -> Iterator[Program]:
    grow = [
        "bytearray(1 << 20)",
        "'x' * (1 << 22)",
        "[0] * (1 << 18)",
        "dict.fromkeys(range(9999))",
    ]
    for block in grow:
        yield f"hoard {block}", f"kept = []\nwhile True: kept.append({block})"
        yield (
            f"stubborn {block}",
            f"kept = []\nwhile True:\n  try: kept.append({block})\n  except MemoryError: pass",
        )
    for size in (30, 36, 46, 62):
        yield f"at once {size}", f"x = bytearray(1 << {size})"
        yield (
            f"map {size}",
            (f"import mmap\nx = mmap.mmap(-1, 1 << {size})\nx.write(b'x' * (1 << 28))"),
        )
    yield "power", "x = 9 ** 9 ** 9"
    yield "shift", "x = 1 << (1 << 40)"
    yield "recursion", "def f(): f()\nimport sys\nsys.setrecursionlimit(10**9)\nf()"
    yield "repr", "x = []\nfor _ in range(10**6): x = [x]\nprint(repr(x))"
    yield "nested source", "x = " + "(" * 5000 + ")" * 5000
    yield "pattern", "import re\nre.match('(a*)*b', 'a' * 99)"
    yield "sum of digits", "x = str(7 ** 10**8)"


def _output() -> Iterator[Program]:
    for stream, chunk in product(STREAMS, CHUNKS):
        text = f"b'{chunk}'" if "buffer" in stream else f"'{chunk}'"
        yield f"{stream} {chunk[:3]}", f"import sys\nwhile True: {stream}.write({text})"
    yield "both", "import os\nwhile True: os.write(1, b'x' * 999); os.write(2, b'y' * 999)"
    yield "one line", "print('x' * (1 << 27))"
    yield "trickle", "import time\nwhile True: print('x', flush=True); time.sleep(0.01)"
    yield "closed", "import os, time\nos.close(1); os.close(2); time.sleep(99)"
    yield "not text", "import os\nos.write(1, bytes(range(256)) * 9)"


def _writes() -> Iterator[Program]:
    for place in PLACES:
        yield f"write {place}", f"open('{place}', 'w').write('escaped')"
        yield f"make {place}", f"import os\nos.makedirs('{place}.d')"
    for act in ["os.remove", "os.rmdir", "shutil.rmtree"]:
        yield f"{act} canary", f"import os, shutil\n{act}('{{FILE}}')"
        yield f"{act} root", f"import os, shutil\n{act}('/')"
    yield "huge file", "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20))"
    yield "sparse file", "f = open('/tmp/x', 'wb')\nf.truncate(1 << 50)"
    yield (
        "many files",
        ("n = 0\nwhile True:\n  n += 1\n  open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))"),
    )
    yield "many empty", "n = 0\nwhile True:\n  n += 1\n  open(f'/tmp/{n}', 'w').close()"
    yield "open files", "kept = []\nwhile True: kept.append(open('/dev/null'))"
    yield "deep folders", "import os\nwhile True: os.mkdir('d'); os.chdir('d')"


def _reads() -> Iterator[Program]:
    for place in SECRETS:
        yield f"read {place}", f"print(open('{place}', 'rb').read(4096))"
    for place in ["/", "/root", "/home", "/proc", "/tmp", "/etc", "{FOLDER}"]:
        yield (
            f"walk {place}",
            (
                f"import os\nfor folder, _, files in os.walk('{place}'):\n  for name in files:\n"
                "    try: print(folder, name, open(os.path.join(folder, name)).read(99))\n"
                "    except Exception: pass"
            ),
        )
    yield "environment", "import os\nprint(dict(os.environ))"
    yield "shell environment", "import os\nos.execl('/usr/bin/env', 'env')"
    yield (
        "descriptors",
        (
            "import os\nfor fd in range(3, 1024):\n  try: print(os.read(fd, 4096))\n"
            "  except OSError: pass"
        ),
    )


def _network() -> Iterator[Program]:
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::ffff:127.0.0.1"]:
        address = f"[{host}]" if ":" in host else host
        yield f"connect {host}", f"import socket\nsocket.create_connection(('{host}', {{PORT}}), 1)"
        yield (
            f"http {host}",
            (
                "from urllib.request import urlopen\n"
                f"urlopen('http://{address}:{{PORT}}/', timeout=1)"
            ),
        )
    yield "dns", "import socket\nprint(socket.gethostbyname('example.com'))"
    yield "udp", "import socket\ns = socket.socket(2, 2)\ns.sendto(b'x', ('1.1.1.1', 53))"
    yield "raw", "import socket\nsocket.socket(17, 3, 768)"
    yield "unix", "import socket\ns = socket.socket(1, 1)\ns.connect('/run/docker.sock')"
    yield "listen", "import socket\ns = socket.create_server(('0.0.0.0', 0))\ns.accept()"
    yield "netlink", "import socket\ns = socket.socket(16, 3, 0)\ns.bind((0, 0))\ns.recv(9)"


def _signals() -> Iterator[Program]:
    for name in SIGNALS:
        yield (
            f"ignore {name}",
            (f"import signal\nsignal.signal(signal.{name}, signal.SIG_IGN)\nwhile True: pass"),
        )
        yield f"to itself {name}", f"import os, signal\nos.kill(os.getpid(), signal.{name})"
    for pid in ["-1", "0", "1", "2", "{PARENT}", "os.getppid()"]:
        yield f"kill {pid}", f"import os, time\nos.kill({pid}, 9)\ntime.sleep(99)"
        yield f"stop {pid}", f"import os, time\nos.kill({pid}, 19)\ntime.sleep(99)"
    yield (
        "kill all",
        (
            "import os\nfor pid in range(1, 70000):\n  try:\n"
            "    if pid != os.getpid(): os.kill(pid, 9)\n  except OSError: pass"
        ),
    )
    yield (
        "block all",
        ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"),
    )


def _time() -> Iterator[Program]:
    for wait in ["time.sleep(99)", "signal.pause()", "input()", "threading.Event().wait()", "0"]:
        yield f"wait {wait}", f"import signal, threading, time\nwhile True: {wait}"
    yield "at exit", "import atexit, time\natexit.register(time.sleep, 99)"
    yield (
        "never collected",
        ("class A:\n  def __del__(self):\n    while True: pass\na = A()\ndel a"),
    )


def _limits() -> Iterator[Program]:
    for name in LIMITS:
        yield (
            f"raise {name}",
            (
                f"import resource as r\nr.setrlimit(r.RLIMIT_{name}, (-1, -1))\nkept = []\n"
                "while True: kept.append(bytearray(1 << 24))"
            ),
        )
    yield "nice", "import os\nos.nice(-20)\nwhile True: pass"
    yield "realtime", "import os\nos.sched_setscheduler(0, 1, os.sched_param(99))\nwhile True: pass"


def _kernel() -> Iterator[Program]:
    for name, call in SYSTEM_CALLS.items():
        yield (
            f"call {name}",
            (
                "import ctypes, time\nlibc = ctypes.CDLL(None)\n"
                f"if libc.syscall({call}) >= 0: {OPEN}\n"
            ),
        )
    for name in DEVICES:
        yield (
            f"device {name}",
            f"open('/dev/{name}', 'rb+').write(b'x')\n{OPEN}",
        )
    for number in (0, 5, 11, 1 << 8 | 3):
        yield f"mknod {number}", f"import os\nos.mknod('/tmp/n', 0o60666, {number})\nopen('/tmp/n')"
    yield "setuid", f"import os\nos.setuid(0)\n{OPEN}"
    yield "ioctl", f"import fcntl\nfcntl.ioctl(0, 0x5412, b'x')\n{OPEN}"


def _links() -> Iterator[Program]:
    for target in ["{FILE}", "/proc/self/root", "/", "/etc/shadow"]:
        yield (
            f"symlink {target}",
            (
                f"import os\nos.symlink('{target}', '/tmp/l')\nprint(os.listdir('/tmp/l') "
                "if os.path.isdir('/tmp/l') else open('/tmp/l').read())"
            ),
        )
        yield (
            f"write through {target}",
            (f"import os\nos.symlink('{target}', '/tmp/l')\nopen('/tmp/l', 'w').write('escaped')"),
        )
    yield "hard link", "import os\nos.link('{FILE}', '/tmp/l')\nprint(open('/tmp/l').read())"
    yield "loop", "import os\nos.symlink('/tmp/l', '/tmp/l')\nopen('/tmp/l')"
    yield "climb", "import os\nos.chdir('../' * 50)\nprint(open('.' + '{FILE}').read())"


def _endings() -> Iterator[Program]:
    for end in ["os._exit(0)", "os.abort()", "sys.exit('bye')", "raise SystemExit(137)", "1 / 0"]:
        yield f"end {end}", f"import os, sys\n{end}"
    yield "crash", "import ctypes\nctypes.string_at(0)"
    yield "nul", "x = '\x00'"
    yield "surrogate", "x = '\ud800'"
    yield "empty", ""
    yield "nonsense", "def ("
