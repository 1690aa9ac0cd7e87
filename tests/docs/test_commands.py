"""Every command in README and docs exists, with its flags, recipe and overrides.

Commands need models, GPUs and hours; here each goes through its own parser, loads its recipe and
stops there. What they do is tested where they live; tests/test_pipeline.py runs them in order.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import wrpo.cli
from tests.docs.blocks import blocks
from tests.support.commands import run_module

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "benchmarks" / "README.md"]
OURS = ("wrpo", "data_construction", "eval", "benchmarks", "tiny_world", "real_world", "tests")


class Parsed(Exception):
    """The command line was understood."""


def commands() -> Iterator[tuple[str, str]]:
    """(page:line, command) of shell blocks and of inline code that starts like a command."""
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("", "bash", "sh", "console", "shell"):
                text = re.sub(r"\\\n\s*", " ", block.text)
                for number, line in enumerate(text.splitlines(), start=block.line + 1):
                    yield f"{page.name}:{number}", line.strip().removeprefix("$ ")
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        # A module alone in a sentence is a name, not a command.
        for code in re.findall(r"`(make [^`]+|python -m [\w.]+ [^`]+)`", prose):
            yield page.name, " ".join(code.split())


def of_kind(pattern: str) -> list[tuple[str, str]]:
    found = [(place, text) for place, text in commands() if re.match(pattern, text)]
    return list({text: (place, text) for place, text in found}.values())


MODULES = of_kind(r"python -m ({})\b".format("|".join(OURS)))
TARGETS = of_kind(r"make [a-z]")


def words(text: str) -> list[str]:
    """The words of a command, without its comment; placeholders get a value."""
    text = text.replace("--recipe R", "--recipe recipes/demo.yaml")
    text = re.sub(r"\bRECIPE\b(?!=)|recipes/mine\.yaml", "recipes/demo.yaml", text)
    return shlex.split(text, comments=True)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "text"), MODULES, ids=[text[10:60] for _, text in MODULES])
def test_the_command_is_understood(
    place: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if any(word in text for word in ("NAME", "FOLDER", "MODEL", "FILE", "...", "BENCHMARK")):
        pytest.skip("a pattern, not a command")
    _, _, module, *arguments = words(text)
    path = ROOT / Path(*module.split("."))
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), place
    parse = wrpo.cli.parse_stage

    def parse_only(parser: object) -> None:
        parse(parser)  # type: ignore[arg-type]
        raise Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.setattr(wrpo.cli, "parse_stage", parse_only)
    name = f"{module}.__main__" if (path / "__main__.py").is_file() else module
    sys.modules.pop(name, None)
    loaded = importlib.import_module(name)
    sys.modules.pop(name, None)
    if not hasattr(loaded, "parse_stage"):
        _flags_are_in_the_help(module, arguments, place)
        return
    with pytest.raises(Parsed):
        loaded.main()


def _flags_are_in_the_help(module: str, arguments: list[str], place: str) -> None:
    subcommand = arguments[:1] if arguments[:1] == ["run"] else []
    for flag in [argument for argument in arguments if argument.startswith("--")]:
        assert flag in _help(module, *subcommand), (place, flag)


@cache
def _help(*module: str) -> str:
    result = run_module(*module, "--help")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("place", "text"), TARGETS, ids=[text[:40] for _, text in TARGETS])
def test_the_target_exists_and_takes_these_variables(place: str, text: str) -> None:
    if "TARGET" in text:
        pytest.skip("a pattern, not a command")
    command = words(text)
    result = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, (place, result.stderr)
    makefile = (ROOT / "Makefile").read_text()
    for variable in [word.split("=")[0] for word in command[1:] if "=" in word]:
        assert re.search(rf"^{variable} *\?=|\$\({variable}\)|{variable}=", makefile, re.MULTILINE)


def test_there_are_commands_to_check() -> None:
    assert len(MODULES) > 12 and len(TARGETS) > 10
