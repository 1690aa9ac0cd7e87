"""A run of FuseChat-3.0's shape, from prompts to DPO: four domains, two sampled sources, responses
that come with a dataset, both verifiers, pairs, the length-normalised loss.

Models have random weights, so the right and wrong responses to sums and programming tasks come with
the prompts."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import WORDS
from tests.support.commands import Command
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Row, read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe

DRIVER = """\
import os, sys
from pathlib import Path
from wrpo.engines.local.vllm_env import prepare_environment
prepare_environment(eager=True)
from data_construction.build import build_table
from data_construction.sampling.dataset_responses import GivenResponses
from data_construction.logprobs import LogProbStage
from data_construction.sampling.part_sampler import PartSampler
from data_construction.prompts import make_prompts
from data_construction.sample import sample
from data_construction.score import score_sources
from wrpo.pipeline.parts import Shard
from wrpo.recipe import load_recipe
from wrpo.train import train_arm
from wrpo.train_sft import train_sft

recipe, all_parts = load_recipe(Path(sys.argv[1])), Shard(1, 1)
make_prompts(recipe)
for source in recipe.sources:
    sample(PartSampler(recipe, source), all_parts)
GivenResponses(recipe, "teacher").run(all_parts)
score_sources(recipe, [*recipe.sources, "teacher"], all_parts)
build_table(recipe, "sft")
train_sft(recipe)
build_table(recipe, "pairs")
LogProbStage(recipe, "sft", "pairs").run()
train_arm(recipe, "wrpo")
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""

TRAIN = {"learning_rate": 1e-4, "max_steps": 2, "logging_steps": 1, "gradient_checkpointing": False}


def sums() -> list[Row]:
    """Ten sums with a right and a wrong solution each; the last two have wrong ones only."""
    found = []
    for n in range(10):
        for place, value in enumerate((n + 2, n + 3) if n < 8 else (n + 5, n + 3)):
            solution = f"It is \\boxed{{{value}}}, says {place}."
            found.append({"text": f"What is {n} + 2?", "gold": str(n + 2), "solution": solution})
    return found


def programs() -> list[Row]:
    """Eight tasks, each with a program that passes its tests and one that does not."""
    found = []
    for n in range(8):
        for operator in "+-":
            program = f"```python\ndef f(x):\n    return x {operator} {n + 1}\n```"
            task = {"text": f"Write f: add {n + 1}.", "gold": f"assert f(1) == {n + 2}"}
            found.append({**task, "solution": program})
    return found


def datasets(folder: Path, *, code: bool) -> dict[str, object]:
    talk = [{"text": f"Say {word} {n}."} for n, word in enumerate(WORDS)]
    chinese = [{"text": f"请说{word}。"} for word in "海山月树"]
    rows = {"talk": talk, "sums": sums(), "tasks": programs(), "zh": chinese}
    given = {"source": "teacher", "column": "solution"}
    own: dict[str, dict[str, object]] = {
        "talk": {"domain_name": "instruction", "sft_share": 0.4},
        "sums": {
            "domain_name": "maths",
            "reference_answer": "gold",
            "responses": given,
            "sft_share": 0.5,
        },
        "tasks": {
            "domain_name": "code",
            "reference_answer": "gold",
            "responses": given,
            "sft_share": 0.5,
        },
        "zh": {"domain_name": "chinese", "sft_share": 1.0},
    }
    for name in ("sums", "tasks"):
        own[name]["filters"] = {}
    if not code:
        del own["tasks"]
    for name in own:
        path = folder / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows[name]))
        own[name] |= {"path": str(path), "prompt": "text"}
    return dict(own)


@pytest.fixture
def fusechat(
    write_recipe: Callable[..., Path], tmp_path: Path, tiny_models_folder: Path
) -> Callable[..., Path]:
    def write(*, code: bool) -> Path:
        talkers = ["instruction", "code"] if code else ["instruction"]
        training = {"global_batch_size": 4, "engine": {"per_device_batch_size": 2}}
        model = {"type": "classifier", "model": str(tiny_models_folder / "reward")}
        rewards: dict[str, object] = {
            "style": {**model, "dtype": "float32"},
            "equal": {"type": "math", "domains": ["maths"], "weight": 0},
            "tests": {"type": "code", "domains": ["code"], "weight": 0},
        }
        rules: dict[str, object] = {
            "instruction": {"sft_needs_pair": True},
            "maths": {"verifier": "equal"},
            "code": {"verifier": "tests", "window": False},
        }
        if not code:
            del rewards["tests"], rules["code"]
        path = write_recipe(
            sources={
                "one": {"model": str(tiny_models_folder / "one"), "domains": talkers},
                "two": {
                    "model": str(tiny_models_folder / "two"),
                    "domains": [*talkers, "chinese"],
                    "sampling": {"temperature": 0.7},
                },
            },
            sample={
                "responses": 3,
                "max_tokens": 8,
                "max_prompt_tokens": 120,
                "domains": {"chinese": {"responses": 1, "max_tokens": 12}}
                | ({"code": {"responses": 2}} if code else {}),
                "engine": {"enforce_eager": True, "kv_cache_mib": 64},
            },
            rewards=rewards,
            build={"pairs": {"min_gap": 0.0, "max_gap": None}, "domains": rules},
            sft={**training, "train": TRAIN},
            truncation={"max_length": 256},
            wrpo={
                **training,
                "objective": "dpo",
                "data": "pairs",
                "loss": "sigmoid_norm",
                "beta": 10,
                "train": TRAIN,
            },
        )
        recipe = yaml.safe_load(path.read_text())
        own = datasets(tmp_path, code=code)
        recipe["prompts"] = {"datasets": own, "filters": {"remove_math": True}}
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return path

    return write


def isolation_works() -> bool:
    command = ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "true"]
    return shutil.which("bwrap") is not None and subprocess.run(command).returncode == 0


@pytest.mark.slow
def test_four_domains_lead_to_a_model_by_their_own_rules(fusechat) -> None:
    code = isolation_works()
    path = fusechat(code=code)
    driver = Command("-c", DRIVER, path)
    assert driver.wait() == 0, driver.stderr[-3000:]
    recipe = load_recipe(path)
    pipeline = Pipeline(recipe)
    assert {pipeline.state(name) for name in pipeline.stages} == {"done"}
    prompts = {row["prompt_id"]: row for row in read_rows(pipeline.folder("prompts"))}
    check_responses(recipe, prompts)
    check_sft_rows(pipeline, prompts, code=code)
    check_pairs(pipeline, prompts, code=code)
    history = json.loads((pipeline.folder("wrpo") / "log_history.json").read_text())
    assert history[0]["loss"] == pytest.approx(0.6931, abs=2e-3)


def rows_of(pipeline: Pipeline, stage: str) -> list[Row]:
    return read_rows(pipeline.finished(stage))


def check_responses(recipe: Recipe, prompts: dict[str, Row]) -> None:
    """Each source answers its domains, as often as they ask for."""
    pipeline = Pipeline(recipe)
    asked = {"instruction": 3, "code": 2, "chinese": 1}
    for name, source in recipe.sources.items():
        responses = Counter(row["prompt_id"] for row in rows_of(pipeline, f"sample/{name}"))
        assert {prompts[key]["domain"] for key in responses} == set(source.domains or ())
        assert all(count == asked[prompts[key]["domain"]] for key, count in responses.items())
    given = rows_of(pipeline, "sample/teacher")
    assert {prompts[row["prompt_id"]]["domain"] for row in given} <= {"maths", "code"}
    assert set(Counter(row["prompt_id"] for row in given).values()) == {2}


def check_sft_rows(pipeline: Pipeline, prompts: dict[str, Row], *, code: bool) -> None:
    """Right responses where they can be told; every domain has rows."""
    rows = rows_of(pipeline, "build/sft")
    found: dict[str, list[Row]] = {}
    for row in rows:
        assert prompts[row["prompt_id"]]["split"] == "sft"
        found.setdefault(prompts[row["prompt_id"]]["domain"], []).append(row)
    assert found.keys() == {"instruction", "maths", "chinese", *(["code"] if code else [])}
    assert all(is_right(row["completion"], prompts[row["prompt_id"]]) for row in found["maths"])
    assert all(row["source"] == "two" for row in found["chinese"])
    assert len(found["chinese"]) == 4
    for row in found.get("code", []):
        assert row["source"] == "teacher" and " + " in row["completion"][0]["content"]
    dropped = read_parquet(pipeline.folder("build/sft") / "dropped.parquet")
    reasons = {(prompts[row["prompt_id"]]["domain"], row["reason"]) for row in dropped}
    assert reasons <= {("maths", "no_correct_response"), ("instruction", "no_pair_in_window")}


def check_pairs(pipeline: Pipeline, prompts: dict[str, Row], *, code: bool) -> None:
    """Two responses of one source; a right and a wrong one where that can be told."""
    domains = Counter()
    for row in rows_of(pipeline, "build/pairs"):
        prompt = prompts[row["prompt_id"]]
        domains[prompt["domain"]] += 1
        assert prompt["split"] == "preference"
        assert row["chosen_source"] == row["rejected_source"]
        if prompt["domain"] == "maths":
            assert is_right(row["chosen"], prompt) and not is_right(row["rejected"], prompt)
            assert row["chosen_score"] >= row["rejected_score"]
        elif prompt["domain"] == "code":
            assert " + " in row["chosen"][0]["content"] and row["chosen_source"] == "teacher"
        else:
            assert row["chosen_score"] > row["rejected_score"]
    assert domains.keys() == {"instruction", "maths", *(["code"] if code else [])}
    tasks = [row for row in prompts.values() if row["domain"] == "code"]
    assert domains["code"] == sum(row["split"] == "preference" for row in tasks)


def is_right(response: list[dict[str, str]], prompt: Row) -> bool:
    return f"\\boxed{{{prompt['reference_answer']}}}" in response[0]["content"]
