"""What GOLD's teacher reads, which tokens it teaches, and what its student learns."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from tests.support.experts import ANSWERS, FACTS, PLACES, answering, question, train_on
from tests.support.recipe_files import tiny_recipe
from tests.support.tiny_models import tiny_model, tiny_tokenizer
from tiny_world.tokenizers import CHATML, GEMMA, train_tokenizer
from wrpo.chat.render import end_of_turn_ids, render_response
from wrpo.errors import DataError
from wrpo.objectives.gold import GOLDSettings
from wrpo.training.common import trl_arguments
from wrpo.trl_arms.settings import TRLTask

BRACKETS = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
"""A chat template of one letter per token, whose turns do not end in the tokenizer's EOS."""


@pytest.fixture(scope="module")
def guessing() -> torch.nn.Module:
    """A student that gives any answer to any question."""
    return train_on(answering([]), seed=4)


def trainer_of(
    folder: Path,
    teacher: tuple[torch.nn.Module, PreTrainedTokenizerBase],
    said: Sequence[tuple[str, str]],
    *,
    student: Any = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    train: dict[str, Any] | None = None,
    batch: int = 4,
    **settings: Any,
) -> Any:
    """The arm's trainer from places and responses to their questions."""
    model, its = teacher
    model.save_pretrained(folder / "teacher")
    its.save_pretrained(folder / "teacher")
    rows = [
        {
            "prompt": question(place),
            "source_chosen": [{"role": "assistant", "content": response}],
            "unfinished": None,
        }
        for place, response in said
    ]
    arm = GOLDSettings(
        teacher="letters",
        train={"learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no", **(train or {})},
        global_batch_size=batch,
        engine={"per_device_batch_size": batch},
        max_new_tokens=12,
        **settings,
    )
    student = student or tiny_model("llama")
    tokenizer = tokenizer or tiny_tokenizer()
    student.generation_config.eos_token_id = end_of_turn_ids(tokenizer)
    pipeline: Any = SimpleNamespace(
        recipe=tiny_recipe(folder, f"sources.letters.model={folder / 'teacher'}")
    )
    return arm.trainer(
        TRLTask(
            pipeline=pipeline,
            rows=rows,
            inputs={},
            where="gold.train",
            tokenizer=tokenizer,
            arguments=trl_arguments(arm, seed=0, output=folder),
            trainer_arguments={
                "model": student,
                "processing_class": tokenizer,
                "peft_config": None,
            },
        )
    )


def batch_of(trainer: Any) -> Any:
    """The first batch, sampled from the student where the arm is on-policy."""
    trainer.model.train()
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def read_by_teacher(trainer: Any, batch: Any) -> list[list[int]]:
    """What the teacher forwards, row by row."""
    seen: list[list[int]] = []

    def note(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
        seen.extend(ids[mask].tolist() for ids, mask in rows)

    hook = trainer.teacher_model.register_forward_pre_hook(note, with_kwargs=True)
    trainer.compute_loss(trainer.model, batch)
    hook.remove()
    return seen


TEXTS = [f"{place}? {answer}" for place in PLACES for answer in ANSWERS]


def foreign(kind: str) -> PreTrainedTokenizerBase:
    """Other tokens and another template: merged bytes, or SentencePiece with an EOS that ends no
    turn."""
    return train_tokenizer({"bytes": CHATML, "characters": GEMMA}[kind], TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bytes", "characters"])
@pytest.mark.parametrize("byte_offsets", [True, False])
def test_the_teacher_reads_rows_as_its_own_template_renders_them(
    kind: str, byte_offsets: bool, tmp_path: Path
) -> None:
    its = foreign(kind)
    teacher = tiny_model("llama", vocab_size=len(its)), its
    said = [
        ("Abu", "red fox"),
        ("Bex", "old oak "),
        ("Cor", "sea<|eot|><|im_end|>"),
        ("Dun", ""),
    ]
    trainer = trainer_of(tmp_path, teacher, said, on_policy=0.0, byte_offsets=byte_offsets)
    found = read_by_teacher(trainer, batch_of(trainer))
    wanted = [render_response(its, question(place), text) for place, text in said]
    assert sorted(found) == sorted(prompt + ids for prompt, ids in wanted)


def test_the_teacher_reads_what_the_student_sampled_and_ends_it_where_the_student_did(
    guessing: torch.nn.Module, tmp_path: Path
) -> None:
    student, tokenizer, its = deepcopy(guessing), tiny_tokenizer(), foreign("bytes")
    teacher = tiny_model("llama", vocab_size=len(its)), its
    rows = [(place, "no") for place in PLACES]
    trainer = trainer_of(tmp_path, teacher, rows, student=student, batch=12, on_policy=1.0)
    batch = batch_of(trainer)
    wanted = []
    for messages, labels in zip(batch["conversation"], batch["labels"].tolist(), strict=True):
        ids = [token for token in labels if token != -100]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        finished = ids[-1] == tokenizer.eos_token_id
        prompt, said = render_response(its, messages, text, finished=finished)
        wanted.append(prompt + said)
    assert read_by_teacher(trainer, batch) == wanted
    assert {ids[-1] in end_of_turn_ids(its) for ids in wanted} >= {True}
    assert "no" not in {tokenizer.decode(row) for row in batch["labels"].clamp(min=0)}


def sides(trainer: Any, said: list[int], before: int = 3) -> Any:
    labels = [-100] * before + said
    return trainer.sides(question("Abu"), [7] * before + said, labels)


def test_the_end_of_turn_is_one_byte_behind_the_response_on_both_sides(tmp_path: Path) -> None:
    tokenizer, its = tiny_tokenizer(), foreign("bytes")
    trainer = trainer_of(tmp_path, (tiny_model(vocab_size=len(its)), its), [("Abu", "red fox")] * 4)
    _, said = render_response(tokenizer, question("Abu"), "red fox")
    own, told = sides(trainer, said)
    assert own.spans == [(at, at + 1) for at in range(8)]
    assert own.start == 3 and told.spans[-1] == (7, 8) and len(told.spans) < len(own.spans)
    groups, its_groups = trainer.uld_loss_fn._align_by_byte_offsets(own.spans, told.spans)
    assert len(groups) == len(its_groups) and all(groups) and all(its_groups)
    assert groups[-1] == [7] and its_groups[-1] == [len(told.spans) - 1]


def test_nothing_is_taught_behind_the_end_or_behind_what_is_no_text(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    trainer = trainer_of(tmp_path, (tiny_model(), tiny_tokenizer(BRACKETS)), [("Abu", "red")] * 4)
    letters = tokenizer("red", add_special_tokens=False)["input_ids"]
    end, header = tokenizer.convert_tokens_to_ids(["<|eot|>", "<|start_header|>"])
    part = tokenizer("ü", add_special_tokens=False)["input_ids"][:1]
    for tail in ([end, *letters], [header, *letters, end], [*part, *letters, end]):
        own, told = sides(trainer, letters + tail)
        assert len(own.spans) == 3 + (tail[0] == end)
        assert len(told.spans) == len(own.spans)
    own, told = sides(trainer, [header, end])
    assert not own.spans and not told.spans


def gradients(trainer: Any, batch: Any) -> tuple[float, torch.Tensor]:
    """The loss, and how strongly each position of the student's logits is changed, (n, L)."""
    kept = []

    def keep(_: Any, __: Any, outputs: Any) -> None:
        outputs.logits.retain_grad()
        kept.append(outputs.logits)

    hook = trainer.model.register_forward_hook(keep)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    hook.remove()
    return loss.item(), kept[0].grad.abs().sum(-1)


@pytest.mark.parametrize("byte_offsets", [True, False])
@pytest.mark.parametrize("hybrid", [True, False])
def test_every_token_of_a_response_and_its_end_is_taught_and_nothing_else(
    hybrid: bool, byte_offsets: bool, tmp_path: Path
) -> None:
    teacher = tiny_model(seed=1), tiny_tokenizer(BRACKETS)
    said = [(place, answer) for place, answer in zip(PLACES[:4], ANSWERS, strict=False)]
    options = {"hybrid": hybrid, "byte_offsets": byte_offsets, "on_policy": 0.0}
    trainer = trainer_of(tmp_path, teacher, said, **options)
    batch = batch_of(trainer)
    _, changed = gradients(trainer, batch)
    predicts = torch.zeros_like(changed, dtype=torch.bool)
    predicts[:, :-1] = batch["labels"][:, 1:] != -100
    assert torch.equal(changed > 0, predicts)
    assert predicts.sum() == 4 * 8  # seven letters and the end


@pytest.mark.parametrize("byte_offsets", [True, False])
@pytest.mark.parametrize("on_policy", [0.0, 1.0])
def test_a_teacher_that_is_the_student_teaches_nothing(
    on_policy: float, byte_offsets: bool, tmp_path: Path
) -> None:
    options = {"byte_offsets": byte_offsets, "on_policy": on_policy}
    for number, hybrid in enumerate((True, False)):
        folder = tmp_path / str(number)
        said = [(place, "red fox") for place in PLACES[:4]]
        teacher = tiny_model(), tiny_tokenizer()
        trainer = trainer_of(folder, teacher, said, hybrid=hybrid, **options)
        loss, changed = gradients(trainer, batch_of(trainer))
        assert abs(loss) < 1e-6 and changed.max() < 1e-6


def test_ends_of_turns_are_one_token_whatever_they_are_called(tmp_path: Path) -> None:
    """The teacher's `<|end|>` is a token of the student too, which does not end its turns."""
    trainer = trainer_of(tmp_path, (tiny_model(), tiny_tokenizer(BRACKETS)), [("Abu", "red")] * 4)
    own, its = tiny_tokenizer().convert_tokens_to_ids(["<|eot|>", "<|end|>"])
    mapped = trainer.uld_loss_fn._vocab_mapping
    assert mapped[its] == own and own not in mapped
    assert all(mapped[token] == token for token in mapped if token != its)


def known(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Of how many of the twelve places the right answer is the likeliest."""
    found = 0
    for place in PLACES:
        rendered = [render_response(tokenizer, question(place), answer) for answer in ANSWERS]
        logps = []
        for prompt, ids in rendered:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + ids])).logits[0]
            told = logits[len(prompt) - 1 : -1].log_softmax(-1)
            logps.append(told.gather(-1, torch.tensor(ids)[:, None]).sum().item())
        found += ANSWERS[max(range(len(ANSWERS)), key=logps.__getitem__)] == FACTS[place]
    return found


@pytest.mark.slow
def test_a_teacher_teaches_what_it_knows_under_its_own_template_alone(
    guessing: torch.nn.Module, tmp_path: Path
) -> None:
    """The rows have every answer to every question, so that only the teacher tells the right one;
    how sure it is, without of what (`hybrid: false`), tells nothing."""
    its = tiny_tokenizer(BRACKETS)
    teacher = train_on(answering(PLACES), seed=3, tokenizer=its)
    rows = [(place, answer) for place in PLACES for answer in ANSWERS]
    options: dict[str, Any] = {"on_policy": 0.0, "jsd_beta": 0.0, "batch": 12}
    learned = {}
    for upstream, hybrid in ((False, True), (True, True), (False, False)):
        student = deepcopy(guessing)
        trainer_of(
            tmp_path / f"{upstream}-{hybrid}",
            (teacher, its),
            rows,
            student=student,
            train={"max_steps": 100},
            upstream=upstream,
            hybrid=hybrid,
            **options,
        ).train()
        learned[upstream, hybrid] = known(student, tiny_tokenizer())
    assert known(teacher, its) == 12 and known(guessing, tiny_tokenizer()) <= 4
    assert learned[False, True] == 12
    assert learned[True, True] <= 6 and learned[False, False] <= 6


def test_rows_that_the_teacher_cannot_render_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    its = foreign("characters")
    teacher = tiny_model(vocab_size=len(its)), its
    unknown = ("Bex", "ü<end_of_turn>")
    trainer = trainer_of(tmp_path / "some", teacher, [("Abu", "red"), unknown])
    assert len(trainer.train_dataset) == 1
    assert "1 of 2 rows are left out: the template of teacher letters" in caplog.text
    with pytest.raises(DataError, match="teacher letters renders none of 1 rows"):
        trainer_of(tmp_path / "none", teacher, [unknown])


def test_what_the_teacher_cannot_render_teaches_nothing(tmp_path: Path) -> None:
    """As one that was sampled: all rows were rendered before."""
    its = foreign("characters")
    trainer = trainer_of(
        tmp_path, (tiny_model(vocab_size=len(its)), its), [("Abu", "red")] * 2, batch=2
    )
    batch = batch_of(trainer)
    batch["conversation"] = [[{"role": "system", "content": "no"}]] * 2
    loss, changed = gradients(trainer, batch)
    assert loss == 0 and not changed.any()
    assert trainer._metrics["train"]["untaught"] == [1.0]
