"""The doctor: healthy recipes pass, an ailment is named with what fixes it, none hides another."""

import importlib.metadata
import json
import shutil
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.command_server import FAST_PYTHON
from tests.support.commands import start_server
from tests.support.tiny_models import CHAT_TEMPLATE, save_tiny
from tests.wrpo.chat.chat_families import FAMILIES, Family
from wrpo.chat import template as templates
from wrpo.chat.limits import limited
from wrpo.doctor import environment, models, services, training
from wrpo.doctor.checks import CheckContext, Finding, run_checks
from wrpo.doctor.environment import wanted_extras
from wrpo.errors import ModelError
from wrpo.recipe import load_recipe

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def context(path: Path, *overrides: str, offline: bool = True) -> CheckContext:
    return CheckContext(load_recipe(path, list(overrides)), offline=offline)


def levels(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.subject: finding.level for finding in findings}


def test_a_healthy_recipe_passes_and_rewards_are_tried(write_recipe, run_module) -> None:
    result = run_module("wrpo", "doctor", "--offline", "--recipe", write_recipe())
    assert result.returncode == 0, result.stdout + result.stderr
    for model in ("sources.one", "sources.two", "target", "rewards.style"):
        line = f"ok       template of {model}: BOS 1, end of turn 1; takes a system turn"
        assert line in result.stdout
    assert "rewards.style: 16 conversations, batch 1 against batch B: " in result.stdout
    assert "the same best responses" in result.stdout
    assert "0 problem" in result.stdout


def test_a_problem_is_exit_code_2_and_hides_nothing(write_recipe, run_module) -> None:
    path = write_recipe()
    (path.parent / "prompts.jsonl").unlink()
    overrides = ["sft.engine.accelerate=nowhere.yaml", "rewards={a: {type: answer}}"]
    result = run_module("wrpo", "doctor", "--offline", "--recipe", path, *overrides)
    assert result.returncode == 2
    assert (
        f"problem  prompts.datasets.words: no file {path.parent / 'prompts.jsonl'}" in result.stdout
    )
    assert "problem  training sft: engine.accelerate: no file nowhere.yaml" in result.stdout
    assert "ok       template of target" in result.stdout
    assert "2 problem" in result.stdout


def test_a_check_that_fails_hides_no_other(write_recipe) -> None:
    def broken(context: CheckContext) -> Iterator[Finding]:
        yield Finding("ok", "first", "half")
        raise ZeroDivisionError("oops")

    def refusing(context: CheckContext) -> Iterator[Finding]:
        raise ModelError("cannot load it")
        yield

    def fine(context: CheckContext) -> Iterator[Finding]:
        yield Finding("ok", "last", "well")

    found = list(run_checks([broken, refusing, fine], context(write_recipe())))
    assert [finding.level for finding in found] == ["ok", "problem", "problem", "ok"]
    assert "ZeroDivisionError: oops" in found[1].message
    assert found[2].message == "cannot load it"


@pytest.mark.parametrize(
    ("override", "wrong"),
    [
        ("sample.max_tokens=9", set()),
        ("sample.max_tokens=100000", {"sources.one", "sources.two", "target"}),
        ("sources.one.sampling.max_tokens=100000", {"sources.one"}),
        ("sample.target.max_tokens=100000", {"target"}),
        ("sample.domains.k1.max_tokens=100000", {"sources.one", "sources.two", "target"}),
    ],
)
def test_models_take_the_longest_prompt_and_response(
    write_recipe, override: str, wrong: set[str]
) -> None:
    found = levels(models.context_lengths(context(write_recipe(), override)))
    assert found == {f"length of {place}": "problem" for place in wrong}


@pytest.fixture
def with_template(write_recipe, tmp_path: Path):
    """The template findings of a target with another template."""

    def check(template: str, *overrides: str) -> Finding:
        folder = save_tiny(tmp_path / "model")
        (folder / "other.jinja").write_text(template)
        over = [f"target.model={folder}", f"target.chat_template={folder / 'other.jinja'}"]
        found = models.templates(context(write_recipe(), *over, *overrides))
        return next(f for f in found if f.subject == "template of target")

    return check


def test_a_template_without_system_turn_is_mended_by_folding(with_template) -> None:
    found = with_template(NO_SYSTEM + CHAT_TEMPLATE)
    assert (found.level, "no system turn" in found.message) == ("warning", True)
    assert "fold_system: true" in found.remedy
    fixed = with_template(NO_SYSTEM + CHAT_TEMPLATE, "target.fold_system=true")
    assert fixed.level == "ok"


@pytest.mark.parametrize(
    ("opened", "override", "expected"),
    [
        ("<think>\n", "target.thinking=auto", "; thinks (<think> ... </think>; the prompt opens"),
        ("", "target.thinking=on", "; thinks (<think> ... </think>; the model opens the thought)"),
        ("<think>\n", "target.thinking=off", "takes a system turn"),
    ],
)
def test_whether_a_model_thinks_is_shown(
    with_template, opened: str, override: str, expected: str
) -> None:
    opening = "{% if add_generation_prompt %}" + opened + "{% endif %}"
    found = with_template(CHAT_TEMPLATE + opening, override)
    assert found.level == "ok" and expected in found.message


def test_a_second_bos_is_a_problem(with_template) -> None:
    found = with_template("{{ bos_token }}" + CHAT_TEMPLATE)
    assert found.level == "problem"
    assert "twice at the start" in found.message


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_template_of_every_family_is_right(family: Family) -> None:
    (found,) = models._template("template", family.tokenizer(), fold_system=not family.system)
    assert found.level == "ok", found.message
    begins = "BOS <|im_start|> begins every turn, end of turn 1"
    assert (begins in found.message) == family.bos_begins_turns


def test_a_template_without_an_end_is_a_problem(
    with_template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "limited", lambda: limited(seconds=0.3))
    loop = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
    found = with_template(loop)
    assert found.level == "problem" and "does not come to an end" in found.message


def test_a_template_that_cannot_render_is_a_problem(with_template) -> None:
    assert with_template("{{ raise_exception('never') }}").level == "problem"


def test_tokens_without_embedding_are_one_line(write_recipe, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", vocab_size=260)
    found = models.templates(context(write_recipe(), f"target.model={folder}"))
    [line] = [finding for finding in found if finding.subject == "vocabulary of target"]
    assert line.level == "warning"
    assert line.message.startswith("tokenizer 262 ids, embeddings 260")
    assert "resize_token_embeddings" in line.remedy


def test_a_damaged_local_model_is_a_problem_and_an_absent_one_is_not(
    write_recipe, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    over = [f"target.model={tmp_path / 'empty'}", "sources.one.model=nobody/absent"]
    found = levels(models.templates(context(write_recipe(), *over)))
    assert found["template of target"] == "problem"
    assert found["template of sources.one"] == "warning"
    assert found["template of sources.two"] == "ok"


def test_the_token_is_never_shown(write_recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    found = list(models.hub_token(context(write_recipe())))
    assert (found[0].level, found[0].message) == ("ok", "set")
    assert "secret" not in str(found)


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wrong_key = self.headers.get("Authorization") != "Bearer right"
        self.send_response(401 if wrong_key else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Models) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/v1"
        http.shutdown()


@pytest.mark.parametrize(
    ("key", "expected"), [("right", ["ok"]), ("wrong", ["problem"]), (None, ["problem", "problem"])]
)
def test_judges_answer_and_have_a_key(
    write_recipe, monkeypatch: pytest.MonkeyPatch, server: str, key: str | None, expected: list[str]
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if key:
        monkeypatch.setenv("JUDGE_KEY", key)
    judge = f"judges.gpt={{model: m, engine: {{endpoints: ['{server}'], api_key_env: JUDGE_KEY}}}}"
    found = list(services.servers(context(write_recipe(), judge, offline=False)))
    assert [finding.level for finding in found] == expected
    assert all(key is None or key not in str(finding) for finding in found)


def test_a_server_that_is_not_there(write_recipe) -> None:
    engine = "sources.one.engine={backend: openai, endpoints: ['http://127.0.0.1:9/v1']}"
    [found] = services.servers(context(write_recipe(), engine, offline=False))
    assert (found.level, found.subject) == ("problem", "sources.one")
    assert list(services.servers(context(write_recipe(), engine))) == []


def test_a_batch_that_does_not_divide(write_recipe) -> None:
    over = ["wrpo.global_batch_size=6", "wrpo.engine.per_device_batch_size=4"]
    found = {f.subject: f for f in training.training_checks(context(write_recipe(), *over))}
    assert found["training wrpo"].level == "problem"
    assert "6 is not a multiple" in found["training wrpo"].message
    assert found["training sft"].level == "ok"


def test_too_little_disk_is_told_with_the_sum(
    write_recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 10 * 2**30))
    over = ["target.parameters_b=8"]
    [found] = environment.disk(context(write_recipe(), *over))
    assert found.level == "warning"
    # Two models of 32 GB, two checkpoints of 96 GB, and some spare.
    assert "10 GiB free" in found.message and "take about 243 GiB" in found.message


def test_a_package_outside_its_range_is_named(
    write_recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.9.0" if name == "trl" else real(name)
    )
    found = {f.subject: f for f in environment.packages(context(write_recipe()))}
    assert found["trl"].level == "problem"
    assert found["trl"].message.startswith("0.9.0 is installed, needs ")
    assert found["trl"].remedy.startswith("pip install 'trl")


def test_code_rewards_without_walls_are_a_warning(write_recipe) -> None:
    rewards = "rewards={tests: {type: code, sandbox: none-i-accept-the-risk}}"
    [found] = services.sandbox(context(write_recipe(), rewards))
    assert (found.level, found.subject) == ("warning", "rewards.tests")


@pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")
@pytest.mark.parametrize(
    "override", ["rewards={tests: {type: code}}", "eval.tasks=[mbpp_instruct_sandbox]"]
)
def test_the_sandbox_is_tried_where_a_reward_or_a_benchmark_runs_programs(
    write_recipe, override: str
) -> None:
    [found] = services.sandbox(context(write_recipe(), override))
    assert found.level in ("ok", "problem")
    assert found.message


@pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")
def test_a_limit_of_the_sandbox_that_does_not_hold_is_a_problem(write_recipe, monkeypatch) -> None:
    said = "a program inside can start more than 64 threads"
    monkeypatch.setattr("wrpo.sandbox.sandbox.probe", lambda run, limits: said)
    [found] = services.sandbox(context(write_recipe(), "rewards={tests: {type: code}}"))
    assert found.level == "problem"
    assert said in found.message


def test_a_recipe_that_runs_no_program_needs_no_sandbox(write_recipe) -> None:
    assert not list(services.sandbox(context(write_recipe())))


def test_files_that_only_late_stages_read_are_looked_for(write_recipe, tmp_path: Path) -> None:
    (tmp_path / "here.jsonl").touch()
    judged = {"judge": "j", "questions": "gone.jsonl", "references": str(tmp_path / "here.jsonl")}
    overrides = [
        "judges.j={model: m, engine: {endpoints: ['http://127.0.0.1:9/v1']}}",
        f"eval.judged.arena_hard={json.dumps(judged)}",
        "eval.include_path=nowhere",
    ]
    found = levels(services.files(context(write_recipe(), *overrides)))
    assert found == {
        "eval.judged.arena_hard.questions": "problem",
        "eval.include_path": "problem",
    }


def test_rewards_that_are_not_at_hand_are_not_loaded(write_recipe) -> None:
    rewards = "rewards={big: {type: classifier, model: nobody/reward-8B}}"
    [found] = services.rewards(context(write_recipe(), rewards))
    assert (found.level, found.subject) == ("warning", "rewards.big")


@pytest.mark.slow
def test_one_reward_that_is_not_at_hand_hides_no_other(
    write_recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server()
    monkeypatch.setattr(sys, "executable", str(FAST_PYTHON))
    rewards = "rewards.big={type: classifier, model: nobody/reward-8B}"
    found = levels(services.rewards(context(write_recipe(), rewards)))
    assert found == {"rewards.big": "warning", "rewards.style": "ok"}


@pytest.mark.parametrize(
    ("override", "extra"),
    [
        ("arms.quantised={lora: {quantize: nf4}}", "qlora"),
        ("executor={type: ray}", "ray"),
        ("eval.tasks=[gsm8k]", "eval"),
        ("prompts.filters={languages: [en]}", "eval"),
        ("rewards.sums={type: math}", "eval"),
        ("logprobs.method=vllm", "vllm"),
        ("target.engine={backend: vllm}", "vllm"),
        ("sft.train.report_to=wandb", "tracking"),
        ("wrpo.engine.attention=flash_attention_2", "flash"),
    ],
)
def test_each_part_of_a_recipe_asks_for_its_packages(
    override: str, extra: str, write_recipe
) -> None:
    path = write_recipe(sample={"engine": {"backend": "transformers"}}, eval={})
    assert extra not in wanted_extras(load_recipe(path))
    assert extra in wanted_extras(load_recipe(path, [override]))
