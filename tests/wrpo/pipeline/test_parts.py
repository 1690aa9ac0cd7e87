"""How a stage runs: claimed, locked, made part by part, completed; and what an error leaves."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.errors import DataError, StageError
from wrpo.pipeline.folder import PartWriter, read_manifest
from wrpo.pipeline.parts import DropLimit, Shard, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import DROPPED, PROMPTS, SCORES, Drop, Row, parts, read_parquet, read_rows

STAGE = "score/letters"


def score(part: int) -> Row:
    return {"prompt_id": f"p{part}", "source": "s", "index": 0, "score": 1.0, "rewards": []}


def make(pipeline: Pipeline, count: int = 3, shard: Shard | None = None) -> list[int]:
    """Makes what is left of the stage; what that was."""
    with open_stage(pipeline, STAGE, parts=count, shard=shard) as work:
        for part in work.todo:
            work.write_part(part, [score(part)], SCORES)
    return work.todo


# --- complete, reused, other settings ---


def test_leaving_the_block_completes_the_stage_and_a_second_start_has_nothing_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    assert make(pipeline) == [0, 1, 2]
    assert pipeline.state(STAGE) == "done" and len(read_rows(pipeline.finished(STAGE))) == 3
    caplog.set_level("INFO")
    with open_stage(pipeline, STAGE, parts=3) as work:
        assert work.complete and not work.todo
    assert f"{STAGE}: complete, nothing to do ({pipeline.folder(STAGE)})" in caplog.text


def test_a_table_is_written_as_parts_whose_number_nobody_has_to_say(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with open_stage(pipeline, "prompts") as work:
        work.facts["seen"] = 7
        work.write_table([], PROMPTS, dropped=[Drop("unusable").row("")])
    manifest = read_manifest(work.path)
    assert manifest is not None and manifest["complete"]
    assert (manifest["parts"], manifest["dropped"], manifest["seen"]) == (1, 1, 7)


def test_a_stage_that_another_run_has_is_done_and_no_folder_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Pipeline(tiny_recipe(tmp_path))
    make(first)
    later = Pipeline(tiny_recipe(tmp_path, "run=second", "reuse=tiny"))
    caplog.set_level("INFO")
    with open_stage(later, STAGE, parts=3) as work:
        assert work.complete and work.path == first.folder(STAGE)
    assert not later.folder(STAGE).exists() and "tiny/score/letters" in caplog.text


def test_a_trial_is_its_own_beside_the_stage(tmp_path: Path) -> None:
    make(Pipeline(tiny_recipe(tmp_path)))
    pipeline = Pipeline(tiny_recipe(tmp_path, "run=second", "reuse=tiny"))
    with open_stage(pipeline, STAGE, parts=1, trial=5) as work:
        assert work.todo == [0]
        work.write_part(0, [score(0)], SCORES)
    assert work.path == pipeline.folder(STAGE, trial=5)
    assert work.path.name == "letters.limit-5"
    manifest = read_manifest(work.path)
    assert manifest is not None and manifest["complete"] and manifest["key"]["limit"] == 5
    assert pipeline.finished(STAGE) != work.path


def test_other_settings_are_refused_and_what_is_there_stays(tmp_path: Path) -> None:
    make(Pipeline(tiny_recipe(tmp_path)))
    other = Pipeline(tiny_recipe(tmp_path, "seed=1"))
    with pytest.raises(StageError, match="was finished with other settings"):
        make(other)
    assert len(parts(other.folder(STAGE))) == 3


def test_anew_makes_a_complete_stage_again_and_replaces_other_settings(tmp_path: Path) -> None:
    for settings in ([], [], ["seed=1"]):
        pipeline = Pipeline(tiny_recipe(tmp_path, *settings))
        with open_stage(pipeline, "prompts", remake=True) as work:
            assert not work.complete
            work.write_table([], PROMPTS)
        assert pipeline.state("prompts") == "done"


# --- errors and kills ---


def test_an_error_in_the_block_leaves_the_stage_partial_and_the_next_start_does_the_rest(
    tmp_path: Path,
) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with pytest.raises(KeyboardInterrupt), open_stage(pipeline, STAGE, parts=3) as work:
        work.write_part(0, [score(0)], SCORES)
        raise KeyboardInterrupt
    assert pipeline.state(STAGE) == "partial"
    assert make(pipeline) == [1, 2]
    assert pipeline.state(STAGE) == "done"


def test_a_stage_can_be_left_unfinished(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with open_stage(pipeline, "prompts") as work:
        work.write_table([], PROMPTS)
        work.leave_unfinished()
    assert pipeline.state("prompts") == "partial"


def test_a_helper_neither_locks_nor_completes(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with open_stage(pipeline, "sft"):
        with open_stage(pipeline, "sft", helper=True) as work:
            assert not work.complete
        assert pipeline.state("sft") == "partial"
    assert pipeline.state("sft") == "done"


# --- several processes ---


def test_a_second_process_is_refused_while_the_first_works(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with (
        open_stage(pipeline, STAGE, parts=1) as work,
        pytest.raises(StageError, match="another process is writing this stage"),
    ):
        work.write_part(0, [score(0)], SCORES)
        make(pipeline, 1)
    assert pipeline.state(STAGE) == "done"


def _other_process(folder: Path, shard: str, begun: multiprocessing.Barrier) -> None:
    pipeline = Pipeline(tiny_recipe(folder))
    with open_stage(pipeline, STAGE, parts=8, shard=Shard.parse(shard)) as work:
        begun.wait(60)
        for part in work.todo:
            work.write_part(part, [score(part)], SCORES)
        begun.wait(60)


def test_shards_run_at_once_and_the_last_one_completes(tmp_path: Path) -> None:
    tiny_recipe(tmp_path)
    context = multiprocessing.get_context("spawn")
    begun = context.Barrier(2)
    processes = [
        context.Process(target=_other_process, args=(tmp_path, shard, begun))
        for shard in ("1/2", "2/2")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    pipeline = Pipeline(tiny_recipe(tmp_path))
    assert pipeline.state(STAGE) == "done"
    assert sorted(row["prompt_id"] for row in read_rows(pipeline.finished(STAGE))) == [
        f"p{part}" for part in range(8)
    ]


def test_a_shard_that_is_done_before_the_others_leaves_the_stage_partial(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    caplog.set_level("INFO")
    assert make(pipeline, 3, Shard(1, 2)) == [0, 2]
    assert pipeline.state(STAGE) == "partial" and "shard 1/2 done, others are not" in caplog.text
    assert make(pipeline, 3, Shard(2, 2)) == [1]
    assert pipeline.state(STAGE) == "done"


# --- dropped rows ---


def dropped(part: int) -> list[Row]:
    return [Drop("too_long", f"{part} tokens").row(f"p{part}")]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another process"])
def test_parts_that_drop_more_than_the_share_stop_the_stage_with_the_reasons(
    tmp_path: Path, elsewhere: bool
) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    limit = DropLimit(0.25, total=lambda: 8)

    def run() -> list[int]:
        done = []
        with open_stage(pipeline, STAGE, parts=4, limit=limit) as work:
            for part in work.todo:
                if elsewhere:
                    writer: PartWriter = work.writer
                    writer.write_part(part, [], SCORES, dropped=dropped(part))
                    work.written(part)
                else:
                    work.write_part(part, [], SCORES, dropped=dropped(part))
                done.append(part)
        return done

    with pytest.raises(DataError, match=r"3 of 8 rows dropped \(38%\).*too_long \(0 tokens\)"):
        run()
    folder = pipeline.folder(STAGE)
    assert pipeline.state(STAGE) == "partial" and len(parts(folder)) == 3
    assert len(read_parquet(folder / "dropped.parquet", DROPPED)) == 3
    with pytest.raises(DataError, match="3 of 8 rows"):
        run()
    assert len(parts(folder)) == 3, "a start that is sure to fail makes nothing"
    limit = DropLimit(0.5, total=lambda: 8)
    assert run() == [3] and pipeline.state(STAGE) == "done"


def test_a_start_after_too_many_rows_dropped_makes_those_again_that_may_pass(
    tmp_path: Path,
) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    limit = DropLimit(0.25, total=lambda: 8, again=frozenset({"judge_unparsed"}))
    passing = Drop("judge_unparsed", "an empty reply")

    def run(bad: dict[int, list[Drop]], *, killed_at: int = 4) -> list[int]:
        done = []
        with open_stage(pipeline, STAGE, parts=4, limit=limit) as work:
            for part in work.todo:
                if part == killed_at:
                    work.leave_unfinished()
                    return done
                drops = [drop.row(f"{part} {n}") for n, drop in enumerate(bad.get(part, []))]
                work.write_part(part, [], SCORES, dropped=drops)
                done.append(part)
        return done

    assert run({1: [passing]}, killed_at=2) == [0, 1]
    with pytest.raises(DataError, match="asks for what may pass again"):
        run({2: [passing, Drop("template")], 3: [passing]})
    assert run({}) == [1, 2, 3], "those of before the limit was reached, too"
    assert pipeline.state(STAGE) == "done"


def test_a_dropped_row_may_cost_several(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    limit = DropLimit(0.25, total=lambda: 8, cost=lambda row: 3)
    with (
        pytest.raises(DataError, match="3 of 8 rows"),
        open_stage(pipeline, STAGE, parts=4, limit=limit) as work,
    ):
        work.write_part(0, [], SCORES, dropped=dropped(0))


def test_the_rows_of_a_table_are_checked_before_it_is_written(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with open_stage(pipeline, "prompts") as work:
        work.check_dropped(dropped(0), total=2, limit=0.5)
        work.leave_unfinished()
    with (
        pytest.raises(DataError, match="1 of 2 rows"),
        open_stage(pipeline, "prompts") as work,
    ):
        work.check_dropped(dropped(0), total=2, limit=0.4)
    assert pipeline.state("prompts") == "missing"  # nothing was made, so other settings may have it


@pytest.mark.parametrize(
    ("shard", "state"), [(None, "missing"), ("1/1", "missing"), ("1/2", "partial")]
)
def test_a_stage_that_fails_before_its_first_part_leaves_the_folder_to_other_settings(
    shard: str | None, state: str, tmp_path: Path
) -> None:
    """Where it is one of several shards, the others may be at work there."""
    pipeline = Pipeline(tiny_recipe(tmp_path))
    mine = Shard.parse(shard) if shard else None
    with (
        pytest.raises(DataError, match="refused"),
        open_stage(pipeline, "prompts", parts=2, shard=mine),
    ):
        raise DataError("refused")
    assert pipeline.state("prompts") == state
