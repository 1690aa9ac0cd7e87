"""What a stand-in judge says to each of this toolkit's prompts."""

from __future__ import annotations

import re

from tests.support.completion_server import Reply, Seen, chat_response


class LongerIsBetter:
    """Likes the longer response of a pair; grades by length, or `grade`; slow from the n-th request."""

    def __init__(self) -> None:
        self.slow_from = 10**6
        self.grade = ""

    def __call__(self, number: int, seen: Seen) -> Reply:
        text = seen.body["messages"][-1]["content"]
        if "# Response m" in text:
            first = text.partition("# Response m\n\n")[2].partition("\n\n# Response M")[0]
            second = text.partition("# Response M\n\n")[2].partition("\n\n# Your verdict")[0]
            said = "m" if len(first) >= len(second) else "M"
        elif "# Response of assistant A" in text:
            sizes = [len(part) for part in re.split(r"# (?:Response|End).*\n", text)[1:]]
            said = "Well, [[A>B]]" if sizes[0] >= sizes[2] else "Well, [[B>>A]]"
        else:
            said = f"[[{self.grade or 1 + len(text) % 10}]]"
        slow = 30.0 if number >= self.slow_from else 0.0
        usage = {"prompt_tokens": len(text) // 4, "completion_tokens": 5}
        return Reply({**chat_response(said).body, "usage": usage}, seconds=slow)
