"""Finds SFT rows whose facts the target does not know, by an exam, and treats them.

Reads:   RUN/build/sft
Writes:  RUN/consistency: the rows that SFT trains on, each with its class, passage and result;
         RUNS/judgements.sqlite, so that no question is paid for twice
Run:     python -m data_construction.consistency --recipe recipes/llama3-8b-wrpo.yaml
Resume:  the same command again; judgements stay
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from data_construction.exams.questions import (
    ExamQuestion,
    FactNeed,
    exam_request,
    knowledge_request,
    need_request,
    read_exam,
    read_need,
)
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, RecipeError
from wrpo.judging import Judge, JudgementCache, JudgeRequest, cache_path
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import EXAMINED, SFT_ROWS, Drop, Row, read_rows
from wrpo.recipe import Recipe
from wrpo.recipe.consistency import Consistency

logger = logging.getLogger(__name__)

REFUSAL = "I don't know the facts that a response to this would need."
"""The response of `treatment: refusal`; this toolkit's own words."""

Read = TypeVar("Read")


@dataclass
class Exam:
    """What is found out about one row."""

    row: Row
    need: FactNeed | None = None
    passage: str = ""
    questions: list[ExamQuestion] = field(default_factory=list)
    right: int = 0

    def kind(self, pass_above: float) -> str:
        """Its class; every row has one."""
        if self.need is not None and not self.need.facts:
            return "no_need_fact"
        if not self.questions:
            return "unparsed"
        known = self.right / len(self.questions) > pass_above
        return "need_and_have_fact" if known else "need_and_have_no_fact"


def check_consistency(recipe: Recipe) -> None:
    """Runs the stage.

    Raises:
        RecipeError: the recipe has no section `consistency`.
        MissingInputError: the SFT rows are not built.
        DataError: no row is left.
        ModelError: the judge does not answer, or the target cannot be loaded.
    """
    settings = recipe.consistency
    if settings is None:
        raise RecipeError("the recipe has no consistency; write consistency: {judge: NAME}")
    pipeline = Pipeline(recipe)
    rows = read_rows(pipeline.finished("build/sft"), SFT_ROWS)
    with open_stage(pipeline, "consistency") as work:
        if work.complete:
            return
        with JudgementCache(cache_path(recipe.runs)) as cache:
            judge = Judge(settings.judge, recipe.judges[settings.judge], cache)
            exams = make_exams(judge, settings, rows)
            logger.info("consistency: %s", judge.used)
        sit(recipe, settings, exams)
        made = [treated(exam, settings) for exam in exams]
        kept = [row for row in made if not isinstance(row, Drop)]
        dropped = [
            why.row(exam.row["prompt_id"], source=exam.row["source"], index=exam.row["index"])
            for exam, why in zip(exams, made, strict=True)
            if isinstance(why, Drop)
        ]
        if not kept:
            raise DataError(
                "consistency: no row is left; set consistency.treatment to open_book or refusal"
            )
        classes = Counter(exam.kind(settings.pass_above) for exam in exams)
        work.facts["classes"] = dict(sorted(classes.items()))
        work.write_table(kept, EXAMINED, dropped=dropped)
    logger.info("consistency: %s", ", ".join(f"{n} {name}" for name, n in sorted(classes.items())))


def make_exams(judge: Judge, settings: Consistency, rows: Sequence[Row]) -> list[Exam]:
    """The exam of each row, in order; what cannot be read is asked once more."""
    exams = [Exam(row) for row in rows]
    needs = _ask(judge, [need_request(row["prompt"]) for row in rows], read_need)
    for exam, need in zip(exams, needs, strict=True):
        exam.need = need
    wanted = [exam for exam in exams if exam.need is not None and exam.need.facts]
    requests = [
        knowledge_request(
            exam.row["prompt"],
            exam.row["completion"][0]["content"],
            exam.need.queries if exam.need else [],
        )
        for exam in wanted
    ]
    for exam, passage in zip(wanted, _ask(judge, requests, str.strip), strict=True):
        exam.passage = passage or ""
    wanted = [exam for exam in wanted if exam.passage]
    requests = [exam_request(exam.passage, settings.questions) for exam in wanted]
    found = _ask(judge, requests, lambda reply: read_exam(reply, settings.questions))
    for exam, questions in zip(wanted, found, strict=True):
        exam.questions = questions or []
    return exams


def _ask(
    judge: Judge, requests: Sequence[JudgeRequest], read: Callable[[str], Read | None]
) -> list[Read | None]:
    """What is read from the reply to each request; unreadable ones are asked for once more."""
    found = [read(verdict.answer) for verdict in judge.ask(requests)] if requests else []
    again = [place for place, value in enumerate(found) if not value]
    if again:
        seeded = [JudgeRequest(requests[n].messages, requests[n].template, seed=1) for n in again]
        for place, verdict in zip(again, judge.ask(seeded), strict=True):
            found[place] = read(verdict.answer)
    return found


def sit(recipe: Recipe, settings: Consistency, exams: Sequence[Exam]) -> None:
    """Counts what the target gets right in each exam."""
    asked = [(exam, question) for exam in exams for question in exam.questions]
    if not asked:
        return
    from data_construction.exams.sitting import Examinee

    answers = Examinee(recipe, settings).answers([question for _, question in asked])
    for (exam, question), answer in zip(asked, answers, strict=True):
        exam.right += answer == question.right


def treated(exam: Exam, settings: Consistency) -> Row | Drop:
    """The row as SFT trains on it, with what was found out; a Drop where it is left out."""
    kind = exam.kind(settings.pass_above)
    row = {
        **exam.row,
        "knowledge": kind,
        "passage": exam.passage,
        "questions": len(exam.questions),
        "right": exam.right,
    }
    if kind == "unparsed" and settings.unparsed == "discard":
        return Drop("no_exam", "no exam could be read from the judge's replies")
    if kind != "need_and_have_no_fact":
        return row
    if settings.treatment == "discard":
        return Drop("facts_unknown", f"{exam.right} of {len(exam.questions)} right")
    if settings.treatment == "refusal":
        return {**row, "completion": [{"role": "assistant", "content": REFUSAL}], "unfinished": []}
    *before, last = exam.row["prompt"]
    opened = {**last, "content": f"{exam.passage}\n{last['content']}"}
    return {**row, "prompt": [*before, opened]}


def main() -> None:
    _, recipe = parse_stage(stage_parser(__doc__))
    check_consistency(recipe)


if __name__ == "__main__":
    run_main(main)
