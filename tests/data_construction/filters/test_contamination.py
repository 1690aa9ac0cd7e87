import json
from pathlib import Path

import pytest

from data_construction.filters.contamination import BenchmarkIndex, benchmark_index
from data_construction.filters.ngrams import words
from wrpo.errors import DataError, MissingInputError
from wrpo.recipe.prompts import Decontaminate


def settings(path: Path, **fields: object) -> Decontaminate:
    benchmarks = {"quiz": {"path": str(path), "column": "question"}}
    return Decontaminate.model_validate({"benchmarks": benchmarks, **fields})


def test_one_shared_ngram_anywhere_is_an_overlap_with_benchmark_and_words() -> None:
    index = BenchmarkIndex(4)
    index.add("quiz", "Why is the sky blue at noon?")
    overlap = index.overlap("I wonder: why, IS the\nsky so high?")
    assert overlap and (overlap.benchmark, overlap.shared) == ("quiz", "why is the sky")
    assert index.overlap("why is a sky blue at night") is None


def test_a_short_question_overlaps_only_with_an_equal_prompt() -> None:
    index = BenchmarkIndex(13)
    index.add("quiz", "Name a colour.")
    index.add("quiz", "...")
    assert index.overlap("name a colour") is not None
    assert index.overlap("Name a colour and a shape, then say why you like them.") is None
    assert index.overlap("!") is None


def test_in_chinese_each_character_is_a_word() -> None:
    index = BenchmarkIndex(6)
    index.add("quiz", "请问中国的首都是哪里?")
    overlap = index.overlap("我想知道,中国的首都是哪一座城市。GPT4 说")
    assert overlap and overlap.shared == "中 国 的 首 都 是"
    assert index.overlap("法国的首都是哪里") is not None
    assert index.overlap("中国的城市在哪里") is None
    assert words("第3章 GPT4とABC") == ["第", "3", "章", "gpt4", "と", "abc"]


def test_marks_belong_to_their_word() -> None:
    assert words("हिन्दी पढ़ता है। كِتابٌ") == ["हिन्दी", "पढ़ता", "है", "كِتابٌ"]


def test_benchmarks_are_read_as_text_or_messages(tmp_path: Path) -> None:
    file = tmp_path / "quiz.jsonl"
    turns = [{"role": "user", "content": "What do tall green trees eat?"}]
    rows = [{"question": "Why is the sky blue at noon?"}, {"question": turns}]
    file.write_text("\n".join(map(json.dumps, rows)))
    index = benchmark_index(settings(file, ngram=3))
    assert index.overlap("so what do tall people do") is not None


def test_a_benchmark_that_cannot_be_read_stops_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "quiz.jsonl"
    with pytest.raises(MissingInputError, match="benchmarks.quiz: no file"):
        benchmark_index(settings(file))
    file.write_text("")
    with pytest.raises(DataError, match="quiz.*no rows"):
        benchmark_index(settings(file))
    file.write_text('{"text": "a"}')
    with pytest.raises(DataError, match='row 1: no column "question"; it has: text'):
        benchmark_index(settings(file))
