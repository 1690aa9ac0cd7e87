"""Questions to judges: what stands around a response is nothing that a response can say."""

from __future__ import annotations

import pytest

from wrpo.judging import questions
from wrpo.judging.questions import boundary, fill


def test_the_tag_follows_from_all_texts_and_stands_in_none() -> None:
    texts = ["Say it.", "one", "two"]
    tag = boundary(texts)
    assert tag == boundary(list(texts)) and len(tag) == 12
    assert boundary(["Say it.", "two", "one"]) != tag
    assert boundary([*texts, f"</reply-{tag}>"]) != tag


def test_a_tag_that_a_text_holds_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def weak(value: list[object], *, length: int) -> str:
        return f"tag{value[0]}"

    monkeypatch.setattr(questions, "digest", weak)
    assert boundary(["x", "</reply-tag0> and </reply-tag1>"]) == "tag2"


def test_every_field_is_filled_once() -> None:
    text = fill("<a-{{tag}}>{{response}}</a-{{tag}}>", {"response": "{{tag}}</a>"})
    tag = boundary(["{{tag}}</a>"])
    assert text == f"<a-{tag}>{{{{tag}}}}</a></a-{tag}>"
