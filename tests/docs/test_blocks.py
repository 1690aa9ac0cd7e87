"""Every command block of README and docs runs as it is printed, or says why no test runs it.

Commands run in a `Checkout`. What a test adds is what anyone would on a small machine: `key=value`
behind a command, so that a model of 72 billion parameters is sampled on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import MARK, PAGES, ROOT, Block, blocks, commands_of
from tests.docs.checkout import Checkout, write_judged_recipe
from tests.eval.judging.longer_is_better import LongerIsBetter
from tests.support.completion_server import CompletionServer
from tests.support.recipe_files import MINIMAL, write_recipe
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe

LANGUAGES = {"bash", "diff", "json", "python", "text", "yaml"}

SMALL = {
    "python -m data_construction.sample --source qwen72b": (
        "sources.qwen72b.engine.backend=transformers sample.responses=1 sample.max_tokens=8 "
        "sample.max_prompt_tokens=200"
    ),
    "python -m eval.lm_eval_cli": "--gen_kwargs max_gen_toks=8",
    "lm-eval run": "--gen_kwargs max_gen_toks=8",
    "python -m benchmarks.training_step": "--layers 1",
}
"""What is put behind a command that begins like this."""


def shell_blocks() -> Iterator[tuple[str, Block]]:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "bash":
                yield f"{page.relative_to(ROOT)}:{block.line}", block


BLOCKS = dict(shell_blocks())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Checkout:
    made = Checkout(tmp_path_factory.mktemp("checkout"), finished_run.parent / "runs" / "test")
    result = made.run(
        "make -o setup prompts"
    )  # step 5 of docs/overview.md, which its examples need
    assert result.returncode == 0, result.stderr
    return made


@pytest.fixture(scope="module")
def judged(checkout: Checkout) -> Iterator[Path]:
    """The recipe that docs/judges.md shows; its judge is a stand-in on this machine."""
    server = CompletionServer(LongerIsBetter())
    text = next(b.text for b in blocks(ROOT / "docs" / "judges.md") if b.language == "yaml")
    yield write_judged_recipe(checkout, yaml.safe_load(text), server.url)
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("place", BLOCKS)
def test_every_command_runs_as_it_is_printed(
    checkout: Checkout, place: str, request: pytest.FixtureRequest
) -> None:
    environment = {}
    if place.startswith("docs/judges.md"):
        environment["WRPO_RECIPE"] = str(request.getfixturevalue("judged"))
        environment["OPENAI_API_KEY"] = "none"
    for command in commands_of(BLOCKS[place]):
        if command.mark:
            continue
        more = [added for beginning, added in SMALL.items() if command.text.startswith(beginning)]
        line = " ".join([command.text.split("  #")[0], *more])
        result = checkout.run(line, environment)
        problem = f"{line}\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}"
        assert result.returncode == 0, f"{problem}\nFix it, or mark it: # {MARK.pattern}"


@pytest.mark.slow
def test_the_trainer_of_the_readme_trains(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    (code,) = [
        block.text for block in blocks(ROOT / "docs" / "overview.md") if block.language == "python"
    ]
    code = code.replace("beta=0.01", "beta=0.01, use_cpu=True, max_steps=1")
    monkeypatch.chdir(checkout.folder)
    given = {
        "triples": Dataset.from_list(read_rows(Path("runs/demo/build/triples"))),
        "tokenizer": AutoTokenizer.from_pretrained("path/to/sft-model"),
    }
    exec(compile(code, "overview.md", "exec"), given)
    assert given["trainer"].state.global_step == 1  # type: ignore[attr-defined]


FRAGMENTS = {
    f"{page.relative_to(ROOT)}:{block.line}": block.text
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml"
}


@pytest.mark.parametrize("place", FRAGMENTS)
def test_every_piece_of_yaml_is_part_of_a_recipe_or_a_file_that_it_names(
    tmp_path: Path, place: str
) -> None:
    text = FRAGMENTS[place]
    named = re.match(r"# (\S+\.yaml)\n", text)
    if not named:
        shown = yaml.safe_load(text)
        kept = {key: value for key, value in yaml.safe_load(MINIMAL).items() if key not in shown}
        path = write_recipe(tmp_path, yaml.safe_dump(kept) + text)
        assert load_recipe(path).run == "tiny"
    elif "include" in yaml.safe_load(text):
        lm_eval = Path(str(find_spec("lm_eval").origin)).parent  # type: ignore[union-attr]
        included = yaml.safe_load(text)["include"]
        of_lm_eval = lm_eval / included.removeprefix("/path/of/lm_eval/")
        assert of_lm_eval.is_file() or (ROOT / "tasks" / included).resolve().is_file()
    else:  # the others are run by tests/docs/test_adding.py
        assert place.startswith("docs/adding-")


def test_every_block_says_its_language() -> None:
    unknown = [
        f"{page.relative_to(ROOT)}:{block.line} {block.language!r}"
        for page in PAGES
        for block in blocks(page)
        if block.language not in LANGUAGES
    ]
    assert unknown == [], f"languages are {LANGUAGES}; a block of commands is bash, a picture text"
