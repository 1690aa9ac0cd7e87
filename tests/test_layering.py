"""Who may import whom, and what may be loaded before it is needed."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run_module

ROOT = Path(__file__).parents[1]
PACKAGES = ("wrpo", "data_construction", "eval", "tiny_world", "real_world")
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "vllm",
    "datasets",
    "lm_eval",
    "ray",
    "matplotlib",
    "pandas",
)

LIGHT_MODULES = [
    "wrpo",
    "wrpo.cli",
    "wrpo.errors",
    "wrpo.ids",
    "wrpo.judging",
    "wrpo.pipeline.stage",
    "wrpo.recipe",
    "wrpo.pipeline.folder",
    "wrpo.pipeline.pipeline",
    "wrpo.recipe.resolved",
    "wrpo.pipeline.tables",
    "data_construction",
    "eval",
    "eval.harness.command_line",
    "eval.suites.__main__",
    "tiny_world",
    "real_world",
]
COMMANDS = [
    "wrpo",
    "wrpo.train_sft",
    "wrpo.train",
    "data_construction.prompts",
    "data_construction.sample",
    "data_construction.score",
    "data_construction.build",
    "data_construction.logprobs",
    "data_construction.peek",
    "eval.run",
    "eval.generate",
    "eval.judge",
    "eval.report",
    "tiny_world.demo",
    "real_world.demo",
]


def imported(path: Path) -> set[str]:
    """Top-level names of all packages that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("wrpo", {"data_construction", "eval", "tiny_world", "real_world", "tests"}),
        ("data_construction", {"eval", "tiny_world", "real_world", "tests"}),
        ("eval", {"data_construction", "tiny_world", "real_world", "tests"}),
        ("tiny_world", {"real_world", "tests"}),
        ("real_world", {"data_construction", "eval", "tests"}),
    ],
)
def test_packages_import_only_what_lies_below_them(package: str, forbidden: set[str]) -> None:
    assert files(package)
    wrong = {
        str(path.relative_to(ROOT)): sorted(imported(path) & forbidden)
        for path in files(package)
        if imported(path) & forbidden
    }
    assert wrong == {}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that are in sys.modules after running `code` in a new process."""
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name for name in printed.splitlines()[-1].split() if name in HEAVY}


def test_the_light_modules_load_nothing_heavy() -> None:
    assert loaded_by("import " + ", ".join(LIGHT_MODULES)) == set()


def test_checking_a_recipe_and_planning_it_load_nothing_heavy() -> None:
    code = (
        "from pathlib import Path\n"
        "from wrpo.recipe import load_recipe\n"
        "from wrpo.pipeline.pipeline import Pipeline\n"
        "pipeline = Pipeline(load_recipe(Path('recipes/llama3-8b-wrpo.yaml')))\n"
        "[pipeline.state(name) for name in pipeline.stages]"
    )
    assert loaded_by(code) == set()


def test_pricing_a_run_and_its_status_load_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from wrpo.__main__ import main\n"
        "for command in ('plan', 'status', 'schema', 'reference'):\n"
        "    sys.argv = ['wrpo', command]\n"
        "    main()"
    )
    assert loaded_by(code) == set()


def test_the_test_sees_a_heavy_import() -> None:
    assert loaded_by("import pandas") == {"pandas"}


def test_no_command_loads_anything_heavy_before_it_runs() -> None:
    imports = "\n".join(
        f"importlib.import_module({name + '.__main__' if name == 'wrpo' else name!r})"
        for name in COMMANDS
    )
    assert loaded_by(f"import importlib\n{imports}") == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_the_command_does(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"{name}.__main__" if name == "wrpo" else name).main()
    assert end.value.code == 0
    printed = capsys.readouterr()
    assert f"python -m {name} " in printed.out
    assert printed.err == ""


def test_a_command_of_its_own_says_the_same() -> None:
    result = run_module("data_construction.prompts", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "python -m data_construction.prompts " in result.stdout


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in COMMANDS
        if name not in ("wrpo", "tiny_world.demo", "real_world.demo", "data_construction.peek")
    ],
)
def test_the_docstring_of_a_stage_tells_its_files_and_how_to_run_it(name: str) -> None:
    path = ROOT / Path(*name.split(".")).with_suffix(".py")
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    for word in ("Reads", "Writes", "Run", "Resume"):
        assert re.search(rf"^{word}\b", doc, re.MULTILINE), f"{path}: docstring lacks {word}"
    assert f"python -m {name}" in doc


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in getattr(module, "__all__", []) if not hasattr(module, name)] == []
