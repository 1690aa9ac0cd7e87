"""PsyPlay's dialogues (arXiv 2502.03821): two speakers with given traits talk about a topic.

Each speaker sees its own card, traits as adjectives, and what was said. A reply that breaks a rule
is asked for once more; then the dialogue has failed. Words, rules and strengths are our reading:
of the paper only the abstract is known to us.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.personality.asking import CountedReplies
from wrpo.display.characters import visible
from wrpo.errors import DataError
from wrpo.judging import JudgeRequest, Verdict
from wrpo.judging.questions import fill, template_name

ADJECTIVES = {
    "openness": (("imaginative", "curious"), ("conventional", "uninterested in ideas")),
    "conscientiousness": (("orderly", "reliable"), ("careless", "lazy")),
    "extraversion": (("outgoing", "talkative"), ("reserved", "quiet")),
    "agreeableness": (("kind", "trusting"), ("cold", "suspicious")),
    "neuroticism": (("anxious", "moody"), ("calm", "even-tempered")),
}
"""By trait: what somebody is called who is high in it, and who is low."""

DEGREES = ("a bit", "very", "extremely")
"""Strengths 1, 2 and 3 of a trait."""

TURNS = 8
WORDS_PER_REPLY = 30
CHARACTERS_PER_REPLY = 12 * WORDS_PER_REPLY
"""A reply with more is too long however few its words are: not every script parts words."""

SPEAK = """\
You are {{speaker}}, in a conversation with {{other}} about: {{topic}}
{{speaker}} is {{adjectives}}. {{experience}}
Rules:
- Show by what you say, and how, what {{speaker}} is like. Never name a trait of character, and \
never speak of being a model or of playing a role.
- Keep to this style, and to what {{speaker}} has said.
- Use at most {{words}} words.
- Speak for {{speaker}} alone; {{other}} replies after you.
What was said so far:
<dialogue-{{tag}}>
{{dialogue}}
</dialogue-{{tag}}>
Reply with what {{speaker}} says next, and with nothing else."""

_LEAK = re.compile(
    r"\b(?:openness|conscientious\w*|extr[ao]ver\w+|introver\w+|(?:dis)?agreeable\w*|neurotic\w*"
    r"|personality|big five|language model|role[- ]?play\w*"
    r"|(?:as|am|i'm|being|just) an? (?:ai|artificial intelligence|chatbot|model|virtual assistant))"
    r"\b",
    re.IGNORECASE,
)


@dataclass
class Talk:
    """One dialogue while it is made.

    Attributes:
        plan: {topic, cards: [{name, traits: {TRAIT: STRENGTH}, experience}]}, two cards.
        number: among the dialogues of this plan.
        failed: the rule that a speaker broke twice; empty: none.
    """

    plan: Mapping[str, Any]
    number: int
    turns: list[dict[str, str]] = field(default_factory=list)
    failed: str = ""

    @property
    def cards(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Of who speaks next, and of the other."""
        first, second = self.plan["cards"]
        return (second, first) if len(self.turns) % 2 else (first, second)

    def request(self) -> JudgeRequest:
        """Asks for the next turn."""
        own, other = self.cards
        values = {
            "speaker": own["name"],
            "other": other["name"],
            "topic": self.plan["topic"],
            "adjectives": as_adjectives(own["traits"]),
            "experience": str(own.get("experience") or ""),
            "words": str(WORDS_PER_REPLY),
            "dialogue": as_lines(self.turns),
        }
        messages = [{"role": "user", "content": fill(SPEAK, values)}]
        template = template_name("psyplay-speak", SPEAK)
        return JudgeRequest(messages, template=template, seed=2 * self.number)

    def broken_rule(self, verdict: Verdict) -> str:
        """Which rule the reply of the next speaker breaks; empty: none."""
        if verdict.missing():
            return "no reply"
        own, other = self.cards
        traits = [*own["traits"], *other["traits"]]
        said = _without_name(verdict.answer, own["name"])
        return broken_rule(said, other=other["name"], traits=traits)

    def hear(self, verdict: Verdict) -> None:
        """Adds a turn, or ends the dialogue."""
        speaker = self.cards[0]["name"]
        self.failed = self.broken_rule(verdict)
        if not self.failed:
            said = " ".join(_without_name(verdict.answer, speaker).split())
            self.turns.append({"speaker": speaker, "text": said})

    def as_row(self) -> dict[str, Any]:
        """For a file; `failed` only where it has."""
        failed = {"failed": self.failed} if self.failed else {}
        return {**self.plan, "turns": self.turns, **failed}


def talk(
    plans: Sequence[Mapping[str, Any]], replies: CountedReplies, *, each: int, turns: int = TURNS
) -> list[dict[str, Any]]:
    """Dialogues, all at once, turn by turn; those of one plan differ in their seeds.

    Args:
        each: dialogues of each plan.

    Raises:
        DataError: a plan has another form.
    """
    for plan in plans:
        check_plan(plan)
    talks = [Talk(plan, number) for plan in plans for number in range(each)]
    for _ in range(turns):
        _next_turn([one for one in talks if not one.failed], replies)
    return [one.as_row() for one in talks]


def _next_turn(talks: Sequence[Talk], replies: CountedReplies) -> None:
    requests = [one.request() for one in talks]
    heard = replies.twice(requests, lambda place, reply: not talks[place].broken_rule(reply))
    for one, reply in zip(talks, heard, strict=True):
        one.hear(reply)


def broken_rule(reply: str, *, other: str, traits: Iterable[str]) -> str:
    """Which rule a reply breaks; empty: none.

    Args:
        other: who speaks next, and for whom nobody else does.
        traits: whose names are not to be said.

    >>> broken_rule("As an AI, I have no tea.", other="Bo", traits=[])
    'leak'
    """
    if not reply.strip():
        return "no reply"
    if len(reply) > CHARACTERS_PER_REPLY or len(reply.split()) > WORDS_PER_REPLY:
        return "too long"
    text = reply.replace("\r\n", "\n")
    if visible(text) != text:
        return "control characters"
    if any(line.strip().startswith(f"{other}:") for line in text.split("\n")):
        return "speaks for the other"
    named = any(trait.casefold() in text.casefold() for trait in traits)
    return "leak" if named or _LEAK.search(text) else ""


def as_adjectives(traits: Mapping[str, float]) -> str:
    """A card in words; a trait that is none of the five is named.

    >>> as_adjectives({"agreeableness": -2, "warmth": 3})
    'very cold, very suspicious and extremely high in warmth'
    """
    words = []
    for trait, strength in traits.items():
        named = (f"high in {trait}",), (f"low in {trait}",)
        degree = DEGREES[int(min(len(DEGREES), max(1, abs(strength)))) - 1]
        called = ADJECTIVES.get(trait, named)[strength < 0] if strength else ()
        words += [f"{degree} {adjective}" for adjective in called]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def as_lines(turns: Sequence[Mapping[str, str]]) -> str:
    """A dialogue as text."""
    return "\n".join(f"{turn['speaker']}: {turn['text']}" for turn in turns)


def check_plan(plan: Mapping[str, Any]) -> None:
    """Two speakers with different names and a trait or more, and a topic.

    Raises:
        DataError: the plan has another form.
    """
    try:
        names = {" ".join(card["name"].split()) for card in plan["cards"]}
        fits = len(names) == len(plan["cards"]) == 2 and "" not in names
        fits = fits and names == {card["name"] for card in plan["cards"]}
        fits = fits and all(_fits(card["traits"]) for card in plan["cards"])
        fits = fits and isinstance(plan["topic"], str)
    except (KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise DataError(
            "a dialogue is made from a topic and two cards, {topic: TEXT, cards: [{name: TEXT, "
            f"traits: {{TRAIT: STRENGTH}}}}, ...]}}, where a strength is a whole number from "
            f"-{len(DEGREES)} to {len(DEGREES)}, and one of a card is not 0: {str(plan)[:200]}"
        )


def _fits(traits: Mapping[str, Any]) -> bool:
    whole = all(isinstance(one, int) and abs(one) <= len(DEGREES) for one in traits.values())
    return whole and any(traits.values()) and all(name.strip() for name in traits)


def _without_name(reply: str, speaker: str) -> str:
    """Speakers often begin with their own name, as the lines before do."""
    return reply.strip().removeprefix(f"{speaker}:").strip()
