"""Loading a tokenizer: it pads, it has the template that was asked for, or it says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.wrpo.chat.chat_families import FAMILIES, Family
from tests.wrpo.chat.test_render import chat_of, every_family, tokenizer_of
from wrpo.chat.render import render_response
from wrpo.chat.template import template_hash
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import ModelError, TemplateError


@every_family
def test_a_saved_tokenizer_renders_the_same_ids(family: Family, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(family.name)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    response = f"a response\nwith {family.end} in it"
    assert render_response(loaded, chat_of(["hi"]), response) == render_response(
        tokenizer, chat_of(["hi"]), response
    )
    assert template_hash(loaded) == template_hash(tokenizer)


def test_a_tokenizer_without_pad_token_pads_with_eos(tmp_path: Path) -> None:
    tokenizer_of("gemma2").save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "<eos>"


def test_a_pad_token_is_kept(tmp_path: Path) -> None:
    tokenizer = FAMILIES["gemma2"].tokenizer()
    tokenizer.pad_token = "<pad>"
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token == "<pad>"


def test_a_chat_template_can_be_given_as_text_or_as_a_file(tmp_path: Path) -> None:
    tokenizer_of("qwen25").save_pretrained(tmp_path / "model")
    file = tmp_path / "chatml.jinja"
    shutil.copy(FAMILIES["chatml"].template_path, file)
    for given_template in (FAMILIES["chatml"].template, str(file)):
        loaded = load_tokenizer(tmp_path / "model", chat_template=given_template)
        assert template_hash(loaded) == template_hash(tokenizer_of("chatml"))


def test_a_chat_template_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    tokenizer_of("qwen25").save_pretrained(tmp_path)
    with pytest.raises(TemplateError, match="neither Jinja text nor a file"):
        load_tokenizer(tmp_path, chat_template="missing.jinja")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        load_tokenizer(tmp_path / "missing")


def test_a_hub_name_that_cannot_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="nobody/nothing.*Check the name, the network"):
        load_tokenizer("nobody/nothing")


@pytest.mark.parametrize("files", [{}, {"config.json": '{"model_type": "llama"}'}])
def test_a_folder_without_tokenizer_files_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match="tokenizer.json"):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer_file_is_refused(tmp_path: Path) -> None:
    tokenizer_of("chatml").save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": ')
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tokenizer(tmp_path)


def test_code_that_comes_with_a_model_does_not_run_by_default(tmp_path: Path) -> None:
    tokenizer_of("chatml").save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    settings_of = json.loads(config.read_text())
    settings_of |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    config.write_text(json.dumps(settings_of))
    marker = tmp_path / "it_ran"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ModelError, match="trust_remote_code"):
        load_tokenizer(tmp_path)
    assert not marker.exists()
