"""A recipe with a secret is refused, and no message repeats it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError
from wrpo.recipe import load_recipe

S = "hunter2secret"
URL = f"https://user:{S}@example.com/x.jsonl"
RECIPE: dict[str, Any] = {
    "run": "r",
    "sources": {"one": {"model": "org/one"}},
    "target": {"model": "org/target"},
    "prompts": {"datasets": {"own": {"path": "prompts.jsonl"}}},
    "rewards": {"exact": {"type": "answer"}},
}
SERVED = {"sources": {"one": {"model": "org/one", "engine": {"backend": "openai"}}}}

OVERRIDES = [
    f"sources.one.model={URL}",
    f"target.model=https://{S}@huggingface.co/org/target",
    f"prompts.datasets.own.path={URL}",
    f"prompts.datasets.own.path=https://h/x.jsonl?token={S}",
    f"prompts.datasets.own.path=s3://key:{S}@bucket/x.jsonl",
    f"sources.one.engine.api_key={S}",
    f"sources.one.engine.api_key_env={S}",
    f'sources.one.engine.endpoints=["http://user:{S}@h/v1"]',
    f"judges={{big: {{model: m, engine: {{endpoints: [http://h/v1], api_key: {S}}}}}}}",
    f"judges={{big: {{model: m, body: {{password: {S}}}}}}}",
    f"wrpo.train.hub_token={S}",
    f"wrpo.train.hub_token: {S}",
    "sft.train.hub_token=hf_" + S + S,
    f"run=sk-{S}",
    f"runs={URL}",
    f"--api-key={S}",
    f"password={S} and more",
    f"nothing.here={{{{ token: {S} ",
    f"HF_TOKEN={S}",
]


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, list(overrides))
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("item", OVERRIDES)
def test_a_refused_override_does_not_repeat_its_secret(item: str, tmp_path: Path) -> None:
    message = refused(write(tmp_path, {**RECIPE, **SERVED}), item)
    assert S not in message and "command line" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", {"model": URL}),
        ("sources", {"one": {"model": URL}}),
        ("sources", [URL]),
        ("sources", {"one": URL}),
        ("sources", {"one": {"model": "m", "engine": {"api_key": S}}}),
        ("prompts", {"datasets": {"own": {"path": URL}}}),
        ("prompts", {"datasets": {URL: {"path": "x"}}}),
        ("extends", URL),
        ("sft", {"train": {"hub_token": S}}),
        ("build", {"nested": [{"deep": [{"secret": S}]}]}),
        (f"sk-{S}", 1),
    ],
)
def test_a_recipe_with_a_secret_is_refused_at_its_place(
    key: str, value: Any, tmp_path: Path
) -> None:
    message = refused(write(tmp_path, {**RECIPE, key: value}))
    assert S not in message and "recipe.yaml:" in message


def test_what_is_no_secret_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, RECIPE)
    changes = ["wrpo.train.eos_token=</s>", "sample.max_tokens=9", "sft.train.hub_token="]
    recipe = load_recipe(path, changes[1:])
    assert recipe.sample.max_tokens == 9 and recipe.sft.train["hub_token"] is None
    assert "secret" not in refused(path, changes[0])


def test_errors_and_logs_of_commands_hide_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr("wrpo.cli.on_sigterm_stop", lambda: None)

    def main() -> None:
        root.warning("asking %s", URL)
        raise RecipeError(f"cannot read {URL}")

    with pytest.raises(SystemExit):
        run_main(main)
    shown = capsys.readouterr().err
    assert shown.count("https://[secret]@example.com/x.jsonl") == 2 and S not in shown


def test_an_argument_that_is_no_override_is_refused_without_its_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, RECIPE)
    arguments = ["x", "--recipe", str(path), f"--api-key={S}", f"--where={URL}"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit):
        parse_stage(stage_parser("doc"))
    shown = capsys.readouterr().err
    assert "--api-key=[secret]" in shown and S not in shown
