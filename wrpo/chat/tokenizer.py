"""Loads the tokenizer of a model, ready to pad and to render chats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.chat.template import template_of
from wrpo.errors import ModelError, TemplateError
from wrpo.files import is_file, looks_local

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from wrpo.recipe.sampling import Model


def load_tokenizer(
    model: str | Path,
    *,
    revision: str | None = None,
    chat_template: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can pad and, with ``chat_template``, render chats in another format.

    A tokenizer without a pad token pads with EOS; the attention mask says what is padding.

    Args:
        model: Folder or hub name.
        revision: Branch, tag or commit on the hub.
        chat_template: Jinja text, or the path of a file that holds it, instead of the model's own.
        template_kwargs: Variables of the template, which become its defaults: whoever renders with
            this tokenizer, or with the model that is saved with it, need not know of them.
        trust_remote_code: Run tokenizer code that comes with the model.

    Raises:
        ModelError: The tokenizer cannot be loaded, or has neither pad nor EOS token.
        TemplateError: The chat template file cannot be read.
    """
    from transformers import AutoTokenizer

    name = str(Path(model).expanduser()) if looks_local(model) else str(model)
    if looks_local(model) and not Path(name).exists():
        raise ModelError(f"Tokenizer of {name}: no such file or folder. Correct the model path.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise ModelError(_load_failure(name, revision, error)) from error
    if chat_template is not None:
        tokenizer.chat_template = _template_text(chat_template)
    if template_kwargs:
        tokenizer.chat_template = _with_defaults(template_of(tokenizer), template_kwargs)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"Tokenizer of {name}: no pad and no EOS token. Set one and save it.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_chat_tokenizer(model: str, entry: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of a model of the recipe, which renders chats as its entry says.

    Args:
        model: the entry's own model, or a folder of what was trained from it.
        entry: a source or the target.

    Raises:
        ModelError, TemplateError: as `load_tokenizer`.
    """
    return load_tokenizer(
        model,
        revision=entry.revision if model == entry.model else None,
        chat_template=str(entry.chat_template) if entry.chat_template else None,
        template_kwargs=entry.thinking.chat_template_kwargs,
        trust_remote_code=entry.trust_remote_code,
    )


def _load_failure(name: str, revision: str | None, error: Exception) -> str:
    where = f"{name} (revision {revision})" if revision else name
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "trust_remote_code" in str(error):
        way_out = "It brings its own code; set trust_remote_code: true if you trust it."
    elif Path(name).exists():
        way_out = "The folder needs a tokenizer.json and a tokenizer_config.json; copy them there."
    else:
        way_out = "Check the name, the network and the hub login, or give a local folder."
    return f"Tokenizer of {where} cannot be loaded: {reason} {way_out}"


def _with_defaults(template: str, variables: Mapping[str, Any]) -> str:
    """The template, with values for variables that whoever renders it does not give."""
    lines = "".join(
        f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"
        for name, value in sorted(variables.items())
    )
    lines += "{{ '' }}"  # a newline that the template begins with stays: only blocks swallow one
    return template if template.startswith(lines) else lines + template


def _literal(value: Any) -> str:
    """A value of YAML or JSON as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, dict):
        items = (f"{_literal(str(key))}: {_literal(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    return repr(value)


def _template_text(chat_template: str) -> str:
    if "{" in chat_template:
        return chat_template
    path = Path(chat_template).expanduser()
    if not is_file(path):
        raise TemplateError(
            f"chat_template: {chat_template!r} is neither Jinja text nor a file. Correct the path."
        )
    return path.read_text(encoding="utf-8")
