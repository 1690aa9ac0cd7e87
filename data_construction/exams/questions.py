"""What the maker of exams is asked, and what is read from its replies.

The words are this toolkit's own; the steps are those of KCA (arXiv 2401.10768). Replies are JSON,
read as data and as nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from wrpo.judging import JudgeRequest
from wrpo.judging.questions import as_text, fill, template_name

LETTERS = "ABCD"

NEED = """\
Somebody asks a language model this:
<request-{{tag}}>
{{prompt}}
</request-{{tag}}>
Decide whether a right response needs knowledge of facts about the world (people, places, dates, \
science, works). Rewriting, calculating, or inventing a story needs none.
Reply with one JSON object and nothing else:
{"needs_facts": true or false, "analysis": "one sentence", "queries": ["what to look up", ...]}"""

KNOWLEDGE = """\
Write one short passage that states the facts which a right response to this request rests on, \
and nothing else.
<request-{{tag}}>
{{prompt}}
</request-{{tag}}>
What to look up: {{queries}}
A right response:
<response-{{tag}}>
{{response}}
</response-{{tag}}>"""

EXAM = """\
Make {{count}} multiple-choice questions that test whether somebody knows the facts of this \
passage. Each can be answered without seeing the passage, has four different options, and exactly \
one right one.
<passage-{{tag}}>
{{passage}}
</passage-{{tag}}>
Reply with one JSON list and nothing else, of
{"question": "...", "options": ["...", "...", "...", "..."], "answer": "A", "B", "C" or "D"}"""


class FactNeed(NamedTuple):
    """Whether a row rests on facts, and on which."""

    facts: bool
    queries: list[str]


class ExamQuestion(NamedTuple):
    """One question of an exam; `right` is the place of the right option."""

    text: str
    options: tuple[str, ...]
    right: int


def need_request(prompt: Sequence[dict[str, str]]) -> JudgeRequest:
    """Asks whether a prompt needs facts."""
    return _request("need", NEED, {"prompt": as_text(prompt)})


def knowledge_request(
    prompt: Sequence[dict[str, str]], response: str, queries: Sequence[str]
) -> JudgeRequest:
    """Asks for the passage with the facts of a row."""
    looked_up = "; ".join(queries) or "-"
    values = {"prompt": as_text(prompt), "response": response, "queries": looked_up}
    return _request("knowledge", KNOWLEDGE, values)


def exam_request(passage: str, count: int) -> JudgeRequest:
    """Asks for the questions about a passage."""
    return _request("exam", EXAM, {"passage": passage, "count": str(count)})


def _request(kind: str, template: str, values: dict[str, str]) -> JudgeRequest:
    messages = [{"role": "user", "content": fill(template, values)}]
    return JudgeRequest(messages, template=template_name(kind, template))


def read_need(reply: str) -> FactNeed | None:
    """None where the reply does not say it.

    >>> read_need('Sure: {"needs_facts": true, "queries": ["height of K2"]}')
    FactNeed(facts=True, queries=['height of K2'])
    """
    found = _json(reply, "{", "}")
    if not isinstance(found, dict) or not isinstance(found.get("needs_facts"), bool):
        return None
    queries = found.get("queries")
    texts = queries if isinstance(queries, list) else []
    return FactNeed(found["needs_facts"], [text for text in texts if isinstance(text, str)])


def read_exam(reply: str, count: int) -> list[ExamQuestion]:
    """The questions that are whole, at most `count`; others are left out."""
    found = _json(reply, "[", "]")
    made = [_question(item) for item in found] if isinstance(found, list) else []
    return [question for question in made if question is not None][:count]


def _question(item: Any) -> ExamQuestion | None:
    if not isinstance(item, dict):
        return None
    text, options, answer = (item.get(name) for name in ("question", "options", "answer"))
    if not isinstance(text, str) or not text.strip() or not isinstance(options, list):
        return None
    if len(options) != len(LETTERS) or not all(isinstance(o, str) and o.strip() for o in options):
        return None
    stripped = tuple(option.strip() for option in options)
    letter = answer.strip().upper() if isinstance(answer, str) else ""
    if len(set(stripped)) < len(LETTERS) or len(letter) != 1 or letter not in LETTERS:
        return None
    return ExamQuestion(text.strip(), stripped, LETTERS.index(letter))


def _json(reply: str, opening: str, closing: str) -> Any:
    """The JSON between the first opening and the last closing bracket; None where it is none."""
    start, end = reply.find(opening), reply.rfind(closing)
    if start < 0 or end < start:
        return None
    try:
        return json.loads(reply[start : end + 1])
    except (ValueError, RecursionError):
        return None
