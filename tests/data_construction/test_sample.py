"""Sampling with the real engine: rows, resume after kill -9, shards, dropped prompts."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from data_construction.sampling.part_sampler import PartSampler
from tests.conftest import REPOSITORY
from tests.support.commands import Command
from wrpo.ids import response_seed
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_parquet, read_rows
from wrpo.plan.inputs import measured_name
from wrpo.plan.throughput import device, read_measured
from wrpo.recipe import load_recipe

GREEDY = {
    "responses": 2,
    "temperature": 0.0,
    "max_tokens": 8,
    "max_prompt_tokens": 120,
    "chunk_prompts": 4,
    "engine": {"enforce_eager": True, "kv_cache_mib": 64, "max_num_seqs": 16},
}


def sampled(path: Path, source: str = "one", *overrides: str) -> list[dict]:
    recipe = load_recipe(path, list(overrides))
    return read_rows(Pipeline(recipe).finished(f"sample/{source}"))


def finish(result: subprocess.CompletedProcess) -> None:
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize(("text", "parts"), [("1/1", [0, 1, 2, 3, 4]), ("2/3", [1, 4])])
def test_shards_take_every_nth_part(text: str, parts: list[int]) -> None:
    assert Shard.parse(text).of(5) == parts


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2"])
def test_a_malformed_shard_is_refused(text: str, run_module, write_recipe) -> None:
    result = run_module(
        "data_construction.sample", "--recipe", write_recipe(), "--source", "one", f"--shard={text}"
    )
    assert result.returncode == 2 and "I/N" in result.stderr


def test_each_source_overrides_sampling_and_engine(write_recipe, tiny_models_folder) -> None:
    entry = {
        "model": str(tiny_models_folder / "one"),
        "sampling": {"temperature": 0.1, "responses": 3},
        "engine": {"max_num_seqs": 4},
    }
    recipe = load_recipe(write_recipe(sources={"one": entry}))
    sampler = PartSampler(recipe, "one")
    assert (sampler.sampling["temperature"], sampler.sampling["responses"]) == (0.1, 3)
    assert sampler.sampling["max_tokens"] == 8
    assert sampler.engine_settings.max_num_seqs == 4
    assert sampler.engine_settings.enforce_eager


def test_each_source_answers_its_domains_as_often_as_they_ask(
    write_recipe, tiny_models_folder
) -> None:
    from data_construction.prompts import make_prompts
    from data_construction.sample import sampling_dry_run

    entry = {"model": str(tiny_models_folder / "one")}
    sample = {
        "max_tokens": 8,
        "responses": 2,
        "chunk_prompts": 4,
        "domains": {"k1": {"responses": 5, "max_tokens": 9}},
    }
    recipe = load_recipe(
        write_recipe(
            prompts=12,
            sources={"one": {**entry, "domains": ["k1"]}, "two": entry},
            sample=sample,
        )
    )
    make_prompts(recipe)
    one, two = PartSampler(recipe, "one"), PartSampler(recipe, "two")
    assert one.prompts.domains() == {"k1": 6} and one.prompts.total == 6
    assert {row["domain"] for row in one.prompts.read(0)} == {"k1"}
    assert (one.responses(), two.responses()) == (6 * 5, 6 * 5 + 6 * 2)
    assert sum(two.responses(part) for part in range(len(two.prompts))) == two.responses()
    assert two.max_tokens == 9
    assert "12 prompts = 42, at most 9 tokens" in sampling_dry_run(two)
    assert "k1: responses=5, max_tokens=9" in sampling_dry_run(two)


def test_dry_run_answers_without_torch_and_without_writing(write_recipe, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['sample', '--recipe', sys.argv[1], '--source', 'one', '--dry-run']\n"
        "from data_construction.sample import main\n"
        "main()\n"
        "heavy = {'torch', 'transformers', 'vllm', 'trl', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(write_recipe())],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    finish(result)
    assert "make it: python -m data_construction.prompts" in result.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "oen"], 'no source "oen"'),
        (["--source", "one", "sample.temperatur=1"], 'did you mean "temperature"?'),
        (["--source", "one", "sample.responses=many"], "valid integer"),
        (["--source", "one"], "data_construction.prompts"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, run_module, write_recipe
) -> None:
    result = run_module("data_construction.sample", "--recipe", write_recipe(), *arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_sampled_rows_carry_text_ids_seed_and_the_log_prob_asked_for(
    write_recipe, run_module, tiny_models_folder
) -> None:
    from wrpo.chat.render import render_prompt
    from wrpo.chat.tokenizer import load_tokenizer

    recipe_path = write_recipe(prompts=6)
    finish(run_module("data_construction.prompts", "--recipe", recipe_path))
    keep = "sample.keep_logprobs=true"
    finish(run_module("data_construction.sample", "--recipe", recipe_path, "--source", "two", keep))
    rows = sampled(recipe_path, "two", keep)
    assert len({(row["prompt_id"], row["index"]) for row in rows}) == len(rows) == 12
    tokenizer = load_tokenizer(str(tiny_models_folder / "two"))
    prompts = read_rows(Pipeline(load_recipe(recipe_path)).finished("prompts"))
    ids = {p["prompt_id"]: render_prompt(tokenizer, p["messages"]) for p in prompts}
    for row in rows:
        assert row["seed"] == response_seed(7, row["prompt_id"], "two", row["index"])
        assert row["token_count"] == len(row["token_ids"]) <= 8
        decoded = tokenizer.decode(row["token_ids"], skip_special_tokens=True)
        # The engine holds back a character whose last bytes were cut off.
        assert decoded.removeprefix(row["text"]).strip("\ufffd") == ""
        expected = _log_prob(tiny_models_folder / "two", ids[row["prompt_id"]], row["token_ids"])
        assert row["logprob"] == pytest.approx(expected, abs=2e-3)
    assert len({row["text"] for row in rows}) > 6


def _log_prob(path: Path, prompt: list[int], response: list[int]) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    picked = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(response)[:, None])
    return picked.sum().item()


@pytest.mark.slow
def test_over_long_prompts_are_dropped_and_the_rest_goes_on(write_recipe, run_module) -> None:
    recipe_path = write_recipe(prompts=10)
    prompts = recipe_path.parent / "prompts.jsonl"
    prompts.write_text(prompts.read_text() + json.dumps({"text": "long " * 60}) + "\n")
    finish(run_module("data_construction.prompts", "--recipe", recipe_path))
    finish(run_module("data_construction.sample", "--recipe", recipe_path, "--source", "one"))
    assert len(sampled(recipe_path)) == 20
    folder = Pipeline(load_recipe(recipe_path)).finished("sample/one")
    (dropped,) = read_parquet(folder / "dropped.parquet")
    assert dropped["reason"] == "prompt_too_long" and "the limit is 120" in dropped["detail"]


def test_seeded_answers_of_transformers_do_not_depend_on_batches(write_recipe, run_module) -> None:
    recipe_path = write_recipe(prompts=6)
    found = []
    for overrides in (["run=a", "sample.engine.max_num_seqs=64"], ["sample.engine.max_num_seqs=1"]):
        overrides.append("sample.engine.backend=transformers")
        finish(run_module("data_construction.prompts", "--recipe", recipe_path, *overrides))
        command = ["data_construction.sample", "--recipe", recipe_path, "--source", "one"]
        finish(run_module(*command, *overrides))
        found.append(sampled(recipe_path, "one", *overrides))
    assert found[0] == found[1]
    assert len({row["text"] for row in found[0]}) == len(found[0]) == 12
    _check_measured_speed(recipe_path, [row for rows in found for row in rows])


def _check_measured_speed(recipe_path: Path, rows: list[dict]) -> None:
    """What `plan` reads: the sums of all runs of this model on this machine."""
    recipe = load_recipe(recipe_path)
    [measured] = read_measured(recipe.runs)
    assert measured.place == (measured_name(recipe, "one"), device(), 1)
    assert measured.responses == len(rows)
    assert measured.prompts == len({row["prompt_id"] for row in rows}) * 2
    assert measured.response_tokens == sum(row["token_count"] for row in rows)
    assert measured.prompt_tokens > measured.prompts
    assert measured.seconds > 0


@pytest.mark.slow
def test_seeded_answers_do_not_depend_on_shards_or_chunks(write_recipe, run_module) -> None:
    recipe_path = write_recipe(prompts=10)
    whole = ["run=whole", "sample.chunk_prompts=10"]
    finish(run_module("data_construction.prompts", "--recipe", recipe_path, *whole))
    finish(run_module("data_construction.prompts", "--recipe", recipe_path))
    command = ["data_construction.sample", "--recipe", recipe_path, "--source", "one"]
    finish(run_module(*command, *whole))
    for shard in ("1/2", "2/2"):
        finish(run_module(*command, "--shard", shard))
    key = ("prompt_id", "index", "seed")
    in_shards = {tuple(row[k] for k in key) for row in sampled(recipe_path)}
    at_once = {tuple(row[k] for k in key) for row in sampled(recipe_path, "one", *whole)}
    assert in_shards == at_once and len(at_once) == 20


@pytest.mark.slow
def test_kill_9_again_and_again_then_resume_equals_an_uninterrupted_run(
    write_recipe, run_module
) -> None:
    recipe_path = write_recipe(prompts=240, sample=GREEDY)
    clean = "run=clean"
    for run in ("run=killed", clean):
        finish(run_module("data_construction.prompts", "--recipe", recipe_path, run))
    command = ["data_construction.sample", "--recipe", str(recipe_path), "--source", "one"]
    finish(run_module(*command, clean))
    folder = Pipeline(load_recipe(recipe_path, ["run=killed"])).folder("sample/one")
    # Few responses at a time, so that a kill finds parts missing on a busy machine too.
    slow = "sample.engine.max_num_seqs=4"
    kills_while_writing = _kill_four_times([*command, "run=killed", slow], folder)
    finish(run_module(*command, "run=killed"))
    assert kills_while_writing >= 2
    rows = sampled(recipe_path, "one", "run=killed")
    assert len(rows) == len({(row["prompt_id"], row["index"]) for row in rows}) == 480
    assert rows == sampled(recipe_path, "one", clean)
    assert not [path for path in folder.iterdir() if path.name.endswith(".partial")]


def _kill_four_times(command: list[str], folder: Path) -> int:
    """Kills the command at a random moment after it wrote something new; counts such kills."""
    chance = random.Random(0)
    hits = 0
    for _ in range(4):
        before = len(list(folder.glob("part-*")))
        process = Command(*command)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if len(list(folder.glob("part-*"))) > before:
                time.sleep(chance.uniform(0, 0.15))
                break
            time.sleep(0.005)
        with suppress(ProcessLookupError):  # it may be done already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        hits += len(list(folder.glob("part-*"))) < 60
    return hits
