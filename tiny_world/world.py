"""Six skills as short chat prompts, with the right answer and one systematic mistake for each.

A task is a skill, its items and the layout the answer is asked in. Everything here is a pure
function of the seed and the task, and needs nothing but the standard library.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

LETTERS = "bcdefghijklmnopq"  # the letters before and after each are letters too
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WORDS = (
    "apple bird boat bone book bread bridge chair cloud coat door dream farm fire fish flower "
    "forest garden glass gold grass hand hill horse house island king lamp leaf moon mother "
    "mountain night paper rain river road salt ship silver snow star stone sun tree water "
    "wind wolf "
)
ENGLISH = tuple(_WORDS.split())
QUESTIONS = {
    "reverse": "Reverse {}.",
    "sort": "Sort {}.",
    "largest": "Largest of {}.",
    "spell": "Spell {}.",
    "next": "Next after {}.",
    "translate": "Translate {}.",
}
SKILLS = tuple(QUESTIONS)
LAYOUT_REQUESTS = {
    "plain": "Write plain.",
    "dash": "Use a dash.",
    "star": "Use a star.",
}
LAYOUTS = tuple(LAYOUT_REQUESTS)
SPLIT_PERCENT = {"eval": 15, "reward": 15, "fusion": 30, "pretrain": 40}


@dataclass(frozen=True)
class Task:
    """One question: a skill, the things it is asked about, and the layout of the answer."""

    skill: str
    items: tuple[str, ...]
    layout: str

    @property
    def prompt(self) -> str:
        """The user message."""
        question = QUESTIONS[self.skill].format(" ".join(self.items))
        return f"{question} {LAYOUT_REQUESTS[self.layout]}"

    @property
    def split(self) -> str:
        """The one split that this skill and these items belong to, whatever the seed or layout."""
        digest = hashlib.sha256(f"{self.skill}:{' '.join(self.items)}".encode()).digest()
        percent = int.from_bytes(digest[:8], "big") % 100
        for split, width in SPLIT_PERCENT.items():
            if percent < width:
                return split
            percent -= width
        raise AssertionError("SPLIT_PERCENT must sum to 100")


@dataclass(frozen=True)
class Lexicon:
    """Velt, an invented language.

    Attributes:
        velt: The right translation of each English word.
        false_friends: The wrong translation that a model without the knowledge gives: the right
            one of another word, so it cannot be told from its looks.
        known: The half of the words whose translation the target has met.
    """

    velt: Mapping[str, str]
    false_friends: Mapping[str, str]
    known: frozenset[str]

    @classmethod
    def from_seed(cls, seed: int) -> "Lexicon":
        """Invent the language of this seed."""
        rng = random.Random(f"lexicon:{seed}")
        syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
        invented = rng.sample([a + b for a in syllables for b in syllables], len(ENGLISH))
        circle = rng.sample(range(len(ENGLISH)), len(ENGLISH))
        following = dict(zip(circle, circle[1:] + circle[:1], strict=True))
        return cls(
            velt=dict(zip(ENGLISH, invented, strict=True)),
            false_friends={word: invented[following[i]] for i, word in enumerate(ENGLISH)},
            known=frozenset(rng.sample(ENGLISH, len(ENGLISH) // 2)),
        )


def solve(task: Task, lexicon: Lexicon) -> str:
    """The right answer, without layout or style."""
    items = task.items
    match task.skill:
        case "reverse":
            return " ".join(reversed(items))
        case "sort":
            return " ".join(sorted(items))
        case "largest":
            return max(items, key=int)
        case "spell":
            return " ".join(DIGIT_NAMES[int(digit)] for digit in items)
        case "next":
            return " ".join(chr(ord(letter) + 1) for letter in items)
        case "translate":
            return " ".join(lexicon.velt[word] for word in items)
    raise ValueError(f"unknown skill {task.skill!r}; the skills are {', '.join(SKILLS)}")


def mistake(task: Task, lexicon: Lexicon) -> str:
    """The one wrong answer that every model weak at this skill gives."""
    items = task.items
    match task.skill:
        case "reverse":
            return " ".join(items)
        case "sort":
            return " ".join(sorted(items, reverse=True))
        case "largest":
            return min(items, key=int)
        case "spell":
            return " ".join(DIGIT_NAMES[(int(digit) + 1) % 10] for digit in items)
        case "next":
            return " ".join(chr(ord(letter) - 1) for letter in items)
        case "translate":
            return " ".join(lexicon.false_friends[word] for word in items)
    raise ValueError(f"unknown skill {task.skill!r}; the skills are {', '.join(SKILLS)}")


def partly_known(task: Task, lexicon: Lexicon) -> str:
    """The best answer with only half of the lexicon: right but for the words not known."""
    if task.skill != "translate":
        return solve(task, lexicon)
    return " ".join(
        (lexicon.velt if word in lexicon.known else lexicon.false_friends)[word]
        for word in task.items
    )


def draw_task(skill: str, split: str, rng: random.Random) -> Task:
    """Draw one task of a skill and a split."""
    while True:
        task = Task(skill, _draw_items(skill, rng), rng.choice(LAYOUTS))
        if task.split == split:
            return task


def draw_distinct_tasks(split: str, *, per_skill: int, seed: int) -> list[Task]:
    """Draw tasks with distinct items, `per_skill` of each skill, in random order."""
    rng = random.Random(f"{split}:{seed}")
    tasks: dict[tuple[str, tuple[str, ...]], Task] = {}
    for number, skill in enumerate(SKILLS, start=1):
        while len(tasks) < number * per_skill:
            task = draw_task(skill, split, rng)
            tasks.setdefault((skill, task.items), task)
    return rng.sample(list(tasks.values()), len(tasks))


def _draw_items(skill: str, rng: random.Random) -> tuple[str, ...]:
    match skill:
        case "reverse" | "sort" | "next":
            return tuple(rng.sample(LETTERS, 4))
        case "largest":
            # Every largest digit is as likely, so that a constant guess earns little.
            largest = rng.randrange(3, 10)
            digits = [largest, *rng.sample(range(largest), 3)]
            return tuple(str(digit) for digit in rng.sample(digits, 4))
        case "spell":
            return tuple(str(rng.randrange(10)) for _ in range(3))
        case "translate":
            return tuple(rng.sample(ENGLISH, 2))
    raise ValueError(f"unknown skill {skill!r}; the skills are {', '.join(SKILLS)}")
