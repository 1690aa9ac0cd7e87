"""What the explorer is asked, and what is read from its replies.

The words are this toolkit's own; what is shown at each step follows Explore-Instruct. Replies are
JSON lists of texts, read as data and as nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from wrpo.judging import JudgeRequest
from wrpo.judging.questions import fill, template_name
from wrpo.recipe.explore import Explore

SUBTASKS_PER_REQUEST = 5
PROMPTS_PER_REQUEST = 10

SUBTASKS = """\
The task "{{task}}" (of: {{path}}) is to be divided into sub-tasks that together cover it.
Sub-tasks that are there already: {{children}}
Other parts of the whole: {{siblings}}
Name up to {{count}} further sub-tasks that differ from all of these and complement them, each in \
a few words. Reply with one JSON list of texts and nothing else."""

NEW_PROMPTS = """\
Write {{count}} different instructions that somebody gives to a language model, all of them about \
"{{task}}" (of: {{path}}). Each is complete in itself, with all data it needs, and can be answered \
in text. They differ from these:
{{known}}
Reply with one JSON list of texts and nothing else."""

_NEEDS_MORE_THAN_TEXT = re.compile(
    r"\b(?:images?|pictures?|photos?|figures?|graphs?|files?|maps?|draw|plots?|videos?|audio|music|"
    r"flowcharts?|diagrams?)\b",
    re.IGNORECASE,
)


def subtasks_request(
    path: Sequence[str], children: Sequence[str], siblings: Sequence[str], *, seed: int
) -> JudgeRequest:
    """Asks for more sub-tasks of the last task of a path."""
    values = {
        "task": path[-1],
        "path": " > ".join(path),
        "children": _listed(children),
        "siblings": _listed(siblings),
        "count": str(SUBTASKS_PER_REQUEST),
    }
    return _request("subtasks", SUBTASKS, values, seed)


def prompts_request(path: Sequence[str], known: Sequence[str], *, seed: int) -> JudgeRequest:
    """Asks for more prompts of the last task of a path."""
    values = {
        "task": path[-1],
        "path": " > ".join(path),
        "known": _listed(known[-3:]),
        "count": str(PROMPTS_PER_REQUEST),
    }
    return _request("prompts", NEW_PROMPTS, values, seed)


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts) or "none yet"


def _request(kind: str, template: str, values: dict[str, str], seed: int) -> JudgeRequest:
    messages = [{"role": "user", "content": fill(template, values)}]
    return JudgeRequest(messages, template=template_name(kind, template), seed=seed)


def read_texts(reply: str) -> list[str] | None:
    """The texts of the JSON list in a reply; None where there is no such list.

    >>> read_texts('Here: ["a b", 3, " "]')
    ['a b']
    """
    start, end = reply.find("["), reply.rfind("]")
    if start < 0 or end < start:
        return None
    try:
        found = json.loads(reply[start : end + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    return [" ".join(text.split()) for text in found if isinstance(text, str) and text.strip()]


def is_usable(prompt: str, settings: Explore) -> bool:
    """Whether a prompt has the right length, begins with a letter or digit, and is about text."""
    count = len(prompt.split())
    if not settings.min_words <= count <= settings.max_words:
        return False
    return prompt[0].isalnum() and not _NEEDS_MORE_THAN_TEXT.search(prompt)
