"""Questions to judges: templates with fields, and conversations as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wrpo.ids import digest

_FIELD = re.compile(r"\{\{(\w+)\}\}")


def fields_of(template: str) -> set[str]:
    """Names of the fields that a template has."""
    return set(_FIELD.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields replaced.

    >>> fill("{{a}} and {{b}}", {"a": "{{b}}", "b": "2"})
    '{{b}} and 2'
    """
    return _FIELD.sub(lambda match: values[match[1]], template)


def template_name(kind: str, template: str) -> str:
    """A name that changes with the words."""
    return f"{kind}-{digest(template, length=8)}"


def as_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation for reading; a single question is shown as it is.

    >>> as_text([{"role": "user", "content": "Hi?"}])
    'Hi?'
    """
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in messages)
