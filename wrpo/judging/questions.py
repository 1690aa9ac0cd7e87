"""Questions to judges: templates with fields, and conversations as text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from wrpo.ids import digest

_FIELD = re.compile(r"\{\{(\w+)\}\}")


def fields_of(template: str) -> set[str]:
    """Names of the fields that a template has."""
    return set(_FIELD.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields replaced; the field `tag` is `boundary` of the values.

    >>> fill("{{a}} and {{b}}", {"a": "{{b}}", "b": "2"})
    '{{b}} and 2'
    """
    filled = {"tag": boundary(values.values()), **values}
    return _FIELD.sub(lambda match: filled[match[1]], template)


def boundary(texts: Collection[str]) -> str:
    """Twelve hex digits that stand in none of the texts, for the tags around them.

    They follow from all the texts together, so that equal questions are equal, and a response
    cannot close its own tag: with other words it would have another one.
    """
    found, salt = "", 0
    while not found or any(found in text for text in texts):
        found, salt = digest([salt, *texts], length=12), salt + 1
    return found


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
