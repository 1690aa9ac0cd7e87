"""Objectives that learn from teachers: identities that hold bit for bit, and a whole stage."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.recipe_files import tiny_recipe
from wrpo.distillation.settings import Distributions, Learned, TeacherSettings
from wrpo.distillation.table import chosen_ids, remainder
from wrpo.errors import DataError, RecipeError
from wrpo.objectives.adpa import ADPASettings
from wrpo.objectives.base import LogitPlace
from wrpo.objectives.dckd import DCKDSettings
from wrpo.objectives.fusechat import FuseChatSettings
from wrpo.objectives.fusellm import FuseLLMSettings, negative_log_likelihood
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe


def learned(seed: int, *, teachers: int = 1, like_student: bool = False) -> Learned:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 12, generator=generator)
    labels = torch.randint(12, (2, 5), generator=generator)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    told = []
    for _ in range(teachers):
        other = logits if like_student else torch.randn(2, 5, 12, generator=generator)
        logps = other.log_softmax(-1)
        ids = logps.topk(4).indices
        weight = torch.full((2,), 1 / teachers)
        values = logps.gather(-1, ids)
        told.append(Distributions(ids, values, remainder(logps, ids), mask, weight))
    return Learned(logits.requires_grad_(), labels, mask, told)


def likelihood(one: Learned) -> torch.Tensor:
    return negative_log_likelihood(one)


def test_the_likelihood_is_the_mean_over_the_tokens_of_each_response() -> None:
    one = learned(0)
    by_hand = torch.stack(
        [
            torch.nn.functional.cross_entropy(one.logits[0], one.labels[0]),
            torch.nn.functional.cross_entropy(one.logits[1, :2], one.labels[1, :2]),
        ]
    )
    torch.testing.assert_close(likelihood(one), by_hand)


SFT = [
    FuseLLMSettings(clm_weight=1.0),
    DCKDSettings(teacher="t", kl_weight=0.0),
    ADPASettings(teacher="t", teacher_reference="r", gamma=0.0),
]


@pytest.mark.parametrize("settings", SFT, ids=lambda one: one.objective)
def test_without_its_teacher_an_objective_is_sft_bit_for_bit(settings: TeacherSettings) -> None:
    found = {name: learned(at) for at, name in enumerate(settings.responses)}
    loss, _ = settings.loss(found, 0.0)
    assert torch.equal(loss, likelihood(found[settings.responses[0]]))


def test_a_model_has_no_advantage_over_itself() -> None:
    row = {"token_ids": [1], "top_ids": [[3, 4]], "top_logps": [[-0.5, -1.0]]}
    settings = ADPASettings(teacher="t", teacher_reference="r")
    places = settings.logit_tables(["t", "r"])
    assert places == [LogitPlace("t", "rejected"), LogitPlace("r", "rejected", "t")]
    (lesson,) = settings.lessons("rejected", dict.fromkeys(places, row))
    assert lesson.stored.logps == [[0.0, 0.0]]
    assert settings.lessons("chosen", {}) == []


def test_a_student_that_is_its_teacher_learns_nothing_from_it() -> None:
    one = learned(3, like_student=True)
    for settings in (
        FuseLLMSettings(clm_weight=0.0),
        FuseLLMSettings(clm_weight=0.0, choose="avg_ce"),
    ):
        loss, metrics = settings.loss({"source_chosen": one}, 0.0)
        (gradient,) = torch.autograd.grad(loss.sum(), one.logits)
        assert gradient.norm() < 1e-5 and (metrics["fusion_loss"] > 0).all()
    released = FuseLLMSettings(clm_weight=0.0, upstream=True)
    loss, _ = released.loss({"source_chosen": one}, 0.0)
    (gradient,) = torch.autograd.grad(loss.sum(), one.logits)
    assert gradient.norm() > 1e-2


def test_several_teachers_are_averaged() -> None:
    both = learned(4, teachers=2)
    settings = FuseLLMSettings(clm_weight=0.0, divergence="kl")
    mean, _ = settings.loss({"source_chosen": both}, 0.0)
    single = [
        settings.loss(
            {"source_chosen": both._replace(teachers=[one._replace(weight=torch.ones(2))])}, 0.0
        )[0]
        for one in both.teachers
    ]
    torch.testing.assert_close(mean, (single[0] + single[1]) / 2)


def test_adpa_subtracts_the_expected_advantage_on_the_students_own_response() -> None:
    own, good = learned(5), learned(6)
    (told,) = own.teachers
    advantage = torch.tensor([[[1.0, -2.0, 0.5, -torch.inf]]]).expand(2, 5, 4)
    own = own._replace(teachers=[told._replace(logps=advantage)])
    settings = ADPASettings(teacher="t", teacher_reference="r", gamma=2.0)
    loss, metrics = settings.loss({"chosen": good, "rejected": own}, 0.0)
    picked = own.logits.softmax(-1).gather(-1, told.ids)[..., :3]
    each = (picked * torch.tensor([1.0, -2.0, 0.5])).sum(-1)
    expected = torch.stack([each[0].mean(), each[1, :2].mean()])
    torch.testing.assert_close(metrics["advantage"], expected)
    torch.testing.assert_close(loss, likelihood(good) - 2.0 * expected)


def stored(costs: Mapping[str, float]) -> dict[LogitPlace, dict[str, object]]:
    return {
        LogitPlace(name, "source_chosen"): {
            "token_ids": [1],
            "top_ids": [[1]],
            "top_logps": [[-0.1]],
            "rest": [-2.0],
            "mean_nll": cost,
        }
        for name, cost in costs.items()
    }


def test_fusellm_learns_from_the_likeliest_model_and_fusechat_knows_one_source() -> None:
    settings = FuseLLMSettings()
    lessons = settings.lessons("source_chosen", stored({"sft": 2.0, "one": 1.0, "two": 1.5}))
    assert [(one.model, one.weight) for one in lessons] == [("one", 1.0)]
    assert [place.model for place in settings.logit_tables(["one", "two"])] == ["sft", "one", "two"]
    pair = FuseChatSettings(teachers=["two"])
    assert [place.model for place in pair.logit_tables(["one", "two"])] == ["sft", "two"]


ARMS = """\
arms:
  fusellm: {objective: fusellm}
  adpa: {objective: adpa, teacher: letters, teacher_reference: numbers}
"""


def test_the_tables_that_arms_read_are_stages(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path, extra=ARMS))
    tables = [stage.name for stage in pipeline.of_kind("teacher_logits")]
    assert tables == [
        "teacher_logits/sft/source_chosen",
        "teacher_logits/letters/source_chosen",
        "teacher_logits/numbers/source_chosen",
        "teacher_logits/letters/rejected",
        "teacher_logits/numbers/rejected/letters",
    ]
    assert pipeline["teacher_logits/sft/source_chosen"].inputs == ("build/triples", "sft")
    looked_up = pipeline["teacher_logits/numbers/rejected/letters"]
    assert looked_up.inputs == ("build/triples", "teacher_logits/letters/rejected")
    assert looked_up.command[1:] == (
        *("--model", "numbers", "--response", "rejected", "--at", "letters"),
    )
    assert pipeline["adpa"].inputs == ("build/triples", "sft", *tables[3:])


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("{objective: dckd, teacher: leters}", 'teacher: no source "leters" with a model; sources'),
        ("{objective: adpa, teacher: letters, teacher_reference: letters}", "no advantage"),
        ("{objective: fusechat, teachers: [letters, numbers]}", "at most 1"),
        ("{objective: dckd}", "teacher"),
    ],
)
def test_teachers_that_cannot_be_are_refused(arm: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        Pipeline(tiny_recipe(tmp_path, f"arms.own={arm}"))


@pytest.mark.slow
def test_every_objective_trains_on_tables_of_the_small_run(finished_run: Path) -> None:
    """Real tables and TRL's trainer, in this process."""
    from data_construction.teacher_logits import TeacherLogitsStage
    from wrpo.pipeline.tables import TEACHER_LOGITS, read_rows
    from wrpo.train import train_arm

    first = load_recipe(finished_run)
    arms = {
        "fusellm": {"objective": "fusellm"},
        "fusellm-mean": {"objective": "fusellm", "choose": "avg_ce", "upstream": True},
        "fusechat": {"objective": "fusechat", "teachers": ["one"]},
        "profuser": {"objective": "profuser", "first_share": 0.5},
        "dckd": {"objective": "dckd", "teacher": "one"},
    }
    overrides = ["run=explicit", f"reuse={first.run}", f"arms={json.dumps(arms)}"]
    recipe = load_recipe(finished_run, overrides)
    pipeline = Pipeline(recipe)
    for stage in pipeline.of_kind("teacher_logits"):
        TeacherLogitsStage(recipe, LogitPlace(**stage.args)).run()
        row = read_rows(pipeline.finished(stage.name), TEACHER_LOGITS)[0]
        assert len(row["token_ids"]) == len(row["top_ids"]) == len(row["rest"])
        mass = torch.tensor(row["top_logps"]).exp().sum(-1) + torch.tensor(row["rest"]).exp()
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-5)
    for arm in arms:
        train_arm(recipe, arm)
        history = json.loads((pipeline.finished(arm) / "log_history.json").read_text())
        assert history[0]["clm_loss"] > 0, arm


@pytest.mark.slow
def test_vllm_makes_the_table_that_transformers_makes(finished_run: Path, run_module: Any) -> None:
    """Real vLLM; more entries than its default allows. Masses agree to float32 rounding."""
    from wrpo.pipeline.tables import TEACHER_LOGITS, Row, read_rows

    first = load_recipe(finished_run)
    stage = "teacher_logits/one/source_chosen"
    tables: dict[str, list[Row]] = {}
    for method in ("transformers", "vllm"):
        overrides = [
            f"run=logits-{method}",
            f"reuse={first.run}",
            "arms={f: {objective: fusellm, itself: false, teachers: [one]}}",
            f"teacher_logits.method={method}",
            "teacher_logits.top_k=30",
        ]
        result = run_module(
            "data_construction.teacher_logits", "--recipe", finished_run, *overrides
        )
        assert result.returncode == 0, result.stderr[-3000:]
        folder = Pipeline(load_recipe(finished_run, overrides)).finished(stage)
        tables[method] = read_rows(folder, TEACHER_LOGITS)
        facts = json.loads((folder / "manifest.json").read_text())
        assert facts["made_by"] == method and len(facts["tokenizer"]) > 8
    for one, other in zip(tables["transformers"], tables["vllm"], strict=True):
        for column in ("response_id", "token_ids", "forwarded"):
            assert one[column] == other[column]
        assert other["mean_nll"] == pytest.approx(one["mean_nll"], abs=1e-4)
        assert other["rest"] == pytest.approx(one["rest"], abs=1e-3)
        for ids, logps, others, values in zip(
            *(one["top_ids"], one["top_logps"], other["top_ids"], other["top_logps"]), strict=True
        ):
            assert values == pytest.approx(logps, abs=1e-4)
            near = dict(zip(others, values, strict=True))  # the last may tie with the next
            assert sum(token in near for token in ids) >= len(ids) - 1
            known = dict(zip(ids, logps, strict=True))
            assert all(
                near[token] == pytest.approx(known[token], abs=1e-4)
                for token in known
                if token in near
            )


def test_vllm_cannot_look_tokens_up(tmp_path: Path) -> None:
    from data_construction.teacher_logits import TeacherLogitsStage

    recipe = tiny_recipe(tmp_path, "teacher_logits.method=vllm", extra=ARMS)
    with pytest.raises(RecipeError, match="vLLM gives the likeliest tokens only; set teacher"):
        TeacherLogitsStage(recipe, LogitPlace("numbers", "rejected", "letters"))


def test_the_maker_is_in_the_key_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    stage = "teacher_logits/letters/source_chosen"
    usual = Pipeline(tiny_recipe(tmp_path, extra=ARMS)).key(stage)
    vllm = Pipeline(tiny_recipe(tmp_path, "teacher_logits.method=vllm", extra=ARMS)).key(stage)
    assert vllm == {**usual, "method": "vllm"} and "method" not in usual


@pytest.mark.parametrize("stored", [{}, {"r": {"token_ids": [1, 3]}}])
def test_teachers_of_two_tokenizers_cannot_be_compared(stored: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="both teachers must have one tokenizer"):
        chosen_ids(torch.zeros(2, 5), SimpleNamespace(key="r", response=[1, 2]), stored, top_k=2)
