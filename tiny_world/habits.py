"""How a model that is being made answers: what it knows, and which form it likes."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tiny_world.checker import check, write_response
from tiny_world.world import (
    LAYOUTS,
    SKILLS,
    Lexicon,
    Task,
    draw_task,
    mistake,
    partly_known,
    solve,
)

SHARED_CONTENT = 0.9  # of the preference pairs of the reward model


@dataclass(frozen=True)
class Habits:
    """The distribution of answers in the training corpus of one model.

    Attributes:
        right: Share of right answers by skill; every other answer is the systematic mistake.
        layout: Share of answers in the layout asked for; the others are in `favourite_layout`.
        polite: Share of answers with the polite ending.
        favourite_layout: The layout used when the request is ignored.
        knows_all_words: Whether "right" translations use the whole lexicon or the known half.
    """

    right: Mapping[str, float] = field(default_factory=dict)
    layout: float = 0.7
    polite: float = 0.35
    favourite_layout: str = "plain"
    knows_all_words: bool = True


LETTERS = Habits({"reverse": 1.0, "sort": 1.0}, layout=0.75, polite=0.3)
NUMBERS = Habits({"largest": 1.0, "spell": 1.0}, layout=0.7, polite=0.4, favourite_layout="dash")
WORDS = Habits({"next": 1.0, "translate": 1.0}, layout=0.7, polite=0.3, favourite_layout="star")
TARGET = Habits(dict.fromkeys(SKILLS, 0.45), layout=0.6, polite=0.3, knows_all_words=False)


def answer(task: Task, habits: Habits, *, lexicon: Lexicon, rng: random.Random) -> str:
    """Draw one answer to a task by these habits."""
    solver = solve if habits.knows_all_words else partly_known
    is_right = rng.random() < habits.right.get(task.skill, 0.0)
    content = (solver if is_right else mistake)(task, lexicon)
    layout = task.layout if rng.random() < habits.layout else habits.favourite_layout
    return write_response(content, layout=layout, polite=rng.random() < habits.polite)


def draw_example(habits: Habits, *, lexicon: Lexicon, rng: random.Random) -> tuple[str, str]:
    """Draw a prompt of the pre-training split and an answer to it; strong skills come up more."""
    weights = [1 + 2 * habits.right.get(skill, 0.0) for skill in SKILLS]
    task = draw_task(rng.choices(SKILLS, weights)[0], "pretrain", rng)
    return task.prompt, answer(task, habits, lexicon=lexicon, rng=rng)


def draw_preference(*, lexicon: Lexicon, rng: random.Random) -> tuple[str, str, str]:
    """Draw a prompt of the reward split, the better and the worse of two answers to it.

    The checker decides; pairs of equal true reward are drawn again. Most pairs share their
    content, right or wrong, so a model trained on them judges form well and content weakly.
    """
    while True:
        task = draw_task(rng.choice(SKILLS), "reward", rng)
        doc = {"answer": solve(task, lexicon), "layout": task.layout}
        contents = [rng.choice((solve, mistake))(task, lexicon)] * 2
        if rng.random() >= SHARED_CONTENT:
            contents = [solve(task, lexicon), mistake(task, lexicon)]
        pair = [
            write_response(content, layout=rng.choice(LAYOUTS), polite=rng.random() < 0.5)
            for content in contents
        ]
        worse, better = sorted(pair, key=lambda response: check(doc, response)["reward"])
        if check(doc, better)["reward"] > check(doc, worse)["reward"]:
            return task.prompt, better, worse
