"""What a stand-in judge says to each of this toolkit's prompts."""

from __future__ import annotations

import re

from tests.support.completion_server import Reply, Seen, chat_response


class LongerIsBetter:
    """Likes the longer of two; grades by length, or `grade`; slow from some request on."""

    def __init__(self) -> None:
        self.slow_from = 10**6
        self.grade = ""

    def __call__(self, number: int, seen: Seen) -> Reply:
        text = seen.body["messages"][-1]["content"]
        shown = re.findall(r"<response-(\w+)>\n(.*?)\n</response-\1>", text, re.DOTALL)
        sizes = [len(response) for _, response in shown]
        if "# Response m" in text:
            said = "m" if sizes[0] >= sizes[1] else "M"
        elif "# Response of assistant A" in text:
            said = "Well, [[A>B]]" if sizes[0] >= sizes[1] else "Well, [[B>>A]]"
        else:
            said = f"[[{self.grade or 1 + len(text) % 10}]]"
        slow = 30.0 if number >= self.slow_from else 0.0
        usage = {"prompt_tokens": len(text) // 4, "completion_tokens": 5}
        return Reply({**chat_response(said).body, "usage": usage}, seconds=slow)
