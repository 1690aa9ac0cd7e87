"""Rows with distributions: what is left out, and where a released code puts its targets."""

import json
import math
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.tiny_models import tiny_tokenizer
from wrpo.chat.render import render_response
from wrpo.distillation.rows import Lessons
from wrpo.distillation.settings import TeacherSettings
from wrpo.distillation.token_bytes import fingerprint
from wrpo.distillation.train import _require_fingerprints
from wrpo.errors import DataError
from wrpo.ids import response_id
from wrpo.objectives.base import LogitPlace
from wrpo.objectives.fusechat import FuseChatSettings
from wrpo.objectives.fusellm import FuseLLMSettings
from wrpo.pipeline.tables import Row
from wrpo.rows.token_ids import RowSettings
from wrpo.rows.truncation import TokenLimits

PLACE = LogitPlace("one", "source_chosen")


def triple(number: int) -> Row:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    return {
        "triple_id": str(number),
        "prompt": [{"role": "user", "content": f"Say {number}."}],
        "source_chosen": said(f"sea {number}"),
        "chosen": said("sand"),
        "rejected": said("hill"),
        "unfinished": [],
    }


def stored(row: Row, *, of_another_tokenizer: bool = False) -> Row:
    """A teacher's table; with other tokens than the student's, none of its places fits."""
    text = row["source_chosen"][0]["content"]
    _, ids = render_response(tiny_tokenizer(), row["prompt"], text)
    ids = ids[::-1] if of_another_tokenizer else ids
    return {
        "response_id": response_id(row["prompt"], text),
        "token_ids": ids,
        "top_ids": [[token, 7] for token in ids],
        "top_logps": [[-0.1, -3.0]] * len(ids),
        "rest": [-4.0] * len(ids),
        "mean_nll": 1.0,
    }


def lessons(
    settings: TeacherSettings, table: list[Row], *, foreign: bool = False, limits: int = 64
) -> Lessons:
    teacher = tiny_tokenizer()
    if foreign:
        teacher.add_tokens(["<other>"])
    return Lessons(
        settings,
        {PLACE: {row["response_id"]: row for row in table}},
        student=tiny_tokenizer(),
        teachers={"one": teacher},
        row_settings=RowSettings(settings.responses, TokenLimits(max_length=limits)),
    )


SETTINGS = FuseLLMSettings(teachers=["one"], itself=False)


def test_rows_that_a_teacher_could_not_render_are_left_out_and_many_are_refused() -> None:
    rows = [triple(number) for number in range(20)]
    table = [stored(row) for row in rows]
    made = lessons(SETTINGS, table[:18])
    assert len(made(rows)) == 18 and made.untold == 2
    with pytest.raises(DataError, match=r"3 of 20 rows are not in all of teacher_logits/one"):
        lessons(SETTINGS, table[:17])(rows)


def test_responses_that_two_teachers_find_equally_likely_are_counted() -> None:
    rows = [triple(number) for number in range(4)]
    places = [PLACE, LogitPlace("two", "source_chosen")]
    tables = {
        place: {
            one["response_id"]: one | {"mean_nll": 1.0 + (place != PLACE) * (number % 2)}
            for number, one in enumerate(map(stored, rows))
        }
        for place in places
    }
    found = {}
    for choose in ("min_ce", "avg_ce"):
        settings = FuseLLMSettings(teachers=["one", "two"], itself=False, choose=choose)
        made = Lessons(
            settings,
            tables,
            student=tiny_tokenizer(),
            teachers=dict.fromkeys(("one", "two"), tiny_tokenizer()),
            row_settings=RowSettings(settings.responses, TokenLimits(max_length=64)),
        )
        made(rows)
        found[choose] = made.ties
    assert found == {"min_ce": 2, "avg_ce": 0}


def test_a_cut_response_has_the_distributions_of_the_tokens_that_are_left() -> None:
    row = triple(1)
    whole = lessons(SETTINGS, [stored(row)])([row])[0]
    count = len(whole["prompt_ids"]) + 3
    (cut,) = lessons(SETTINGS, [stored(row)], limits=count)([row])
    (lesson,) = cut["source_chosen_lessons"]
    assert cut["source_chosen_ids"] == whole["source_chosen_ids"][:3]
    assert lesson["ids"] == whole["source_chosen_lessons"][0]["ids"][:3]
    assert cut["length"] == count


def test_fallbacks_are_labels_and_upstream_current_tokens_with_one_behind_the_end() -> None:
    row = triple(1)
    table = [stored(row, of_another_tokenizer=True)]
    found = {}
    for settings in (
        SETTINGS,
        SETTINGS.model_copy(update={"upstream": True}),
        FuseChatSettings(teachers=["one"], itself=False, upstream=True),
    ):
        made = lessons(settings, table, foreign=True)
        (example,) = made([row])
        assert made.fallbacks == made.positions == len(example["source_chosen_ids"])
        (found[settings.objective, settings.upstream],) = example["source_chosen_lessons"]
    said = example["source_chosen_ids"]
    assert found["fusellm", False]["ids"] == [[token] for token in said]
    assert found["fusechat", True]["ids"] == [[token] for token in said]
    released = found["fusellm", True]
    current = [example["prompt_ids"][-1], *said]
    assert released["ids"] == [[token] for token in current]
    assert released["logps"] == [[0.0]] * len(current) and released["rest"] == [-inf] * len(current)


def test_upstream_counts_the_position_behind_the_end_of_a_teacher_with_the_same_tokens() -> None:
    row = triple(1)
    settings = SETTINGS.model_copy(update={"upstream": True})
    (example,) = lessons(settings, [stored(row)])([row])
    (lesson,) = example["source_chosen_lessons"]
    said = example["source_chosen_ids"]
    assert lesson["ids"] == [*([token, 7] for token in said), [said[-1]]]


def test_a_teacher_with_more_logits_than_tokens_loses_no_mass() -> None:
    """As Qwen's: models of one family round their vocabulary up differently."""
    row = triple(1)
    table = stored(row)
    table["top_ids"][0] = [table["token_ids"][0], 9999]
    (example,) = lessons(SETTINGS, [table])([row])
    (lesson,) = example["source_chosen_lessons"]
    assert lesson["ids"][0] == [table["token_ids"][0]]
    assert math.exp(lesson["rest"][0]) == pytest.approx(math.exp(-4.0) + math.exp(-3.0))
    assert lesson["ids"][1] == table["top_ids"][1]


def test_a_table_of_another_tokenizer_is_refused_whoever_made_it(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    arm: Any = SimpleNamespace(
        inputs={PLACE.stage: tmp_path},
        pipeline=SimpleNamespace(shell_command=lambda stage: f"make {stage}"),
    )
    manifest = {"key": {}, "complete": True, "made_by": "vllm"}
    for found in (fingerprint(tokenizer), "another"):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "tokenizer": found}))
        if found == "another":
            with pytest.raises(DataError, match="another tokenizer .*make teacher_logits/one"):
                _require_fingerprints(arm, [PLACE], {"one": tokenizer})
        else:
            _require_fingerprints(arm, [PLACE], {"one": tokenizer})
