"""The form of an answer and the true reward."""

import random
import re

import pytest

from tiny_world.checker import ANSWER_PATTERN, check, write_response
from tiny_world.world import LAYOUTS, SKILLS, Lexicon, draw_task, mistake, solve

LEXICON = Lexicon.from_seed(1)


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("polite", [True, False])
def test_the_pattern_agrees_with_the_checker(skill: str, layout: str, polite: bool) -> None:
    task = draw_task(skill, "eval", random.Random(skill))
    doc = {"answer": solve(task, LEXICON), "layout": task.layout}
    for content in (solve(task, LEXICON), mistake(task, LEXICON)):
        response = write_response(content, layout=layout, polite=polite)
        found = re.search(ANSWER_PATTERN, response)
        assert found is not None
        assert found["answer"] == content
        is_right = content == doc["answer"]
        assert check(doc, response) == {
            "acc": is_right,
            "format": layout == task.layout,
            "style": polite,
            "reward": 2 * is_right + (layout == task.layout) + polite,
        }


@pytest.mark.parametrize("response", ["", "-", "\n", "97 97", "- - 97", "97 Glad to", "97\n12"])
def test_malformed_responses_are_wrong(response: str) -> None:
    assert check({"answer": "97", "layout": "dash"}, response)["acc"] == 0


def test_space_around_a_response_does_not_matter() -> None:
    doc = {"answer": "97", "layout": "dash"}
    assert check(doc, "  - 97 Glad to help!\n")["reward"] == 4
