from pathlib import Path

import pytest

from data_construction.rewards import Candidate, load_reward
from data_construction.rewards.base import Refusal
from wrpo.errors import ModelError
from wrpo.recipe.schema import AnswerReward, ClassifierReward


def candidate(answer: str, *, prompt: str = "Say sea.", gold: str | None = "sea") -> Candidate:
    return Candidate([{"role": "user", "content": prompt}], answer, gold)


def verifier(**fields: object) -> AnswerReward:
    return AnswerReward(type="answer", **fields)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("sea", 1.0), (" sea\n", 1.0), ("s\u0065a", 1.0), ("Sea", 0.0), ("sea!", 0.0), ("", 0.0)],
)
def test_verifier_compares_normalised_text(answer: str, expected: float) -> None:
    assert load_reward(verifier()).score([candidate(answer)]) == [expected]


def test_verifier_extracts_by_its_pattern_and_may_ignore_case() -> None:
    reward = load_reward(verifier(pattern=r"- (?P<answer>\w+)( thanks)?", ignore_case=True))
    answers = [candidate("- SEA thanks"), candidate("sea"), candidate("- hill")]
    assert reward.score(answers) == [1.0, 0.0, 0.0]


def test_verifier_refuses_a_prompt_without_gold_answer() -> None:
    result = load_reward(verifier()).score([candidate("sea", gold=None)])[0]
    assert isinstance(result, Refusal) and result.reason == "no_gold_answer"


def classifier(folder: Path, **fields: object) -> ClassifierReward:
    return ClassifierReward(
        type="classifier", model=str(folder / "reward"), dtype="float32", **fields
    )


def test_classifier_gives_the_raw_logit_of_the_rendered_conversation(tiny_models_folder) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = tiny_models_folder / "reward"
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    answers = [candidate("sea" * n, prompt="p" * (1 + 7 * n)) for n in range(1, 9)]
    expected = []
    for item in answers:
        turns = [*item.messages, {"role": "assistant", "content": item.answer}]
        ids = tokenizer(
            tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False
        ).input_ids
        with torch.no_grad():
            expected.append(model(torch.tensor([ids])).logits[0, 0].item())
    scores = load_reward(classifier(tiny_models_folder)).score(answers)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_classifier_scores_do_not_depend_on_the_token_budget(tiny_models_folder) -> None:
    answers = [candidate("ab" * n) for n in range(1, 20)]
    wide = load_reward(classifier(tiny_models_folder)).score(answers)
    narrow = load_reward(classifier(tiny_models_folder, engine={"batch_tokens": 1})).score(answers)
    assert wide == pytest.approx(narrow, abs=1e-5)


def test_classifier_refuses_too_long_conversations_one_by_one(tiny_models_folder) -> None:
    reward = load_reward(classifier(tiny_models_folder, max_tokens=60))
    result = reward.score([candidate("sea"), candidate("sea" * 50), candidate("hill")])
    assert isinstance(result[1], Refusal) and result[1].reason == "too_long"
    assert isinstance(result[0], float) and isinstance(result[2], float)


def test_classifier_that_depends_on_its_batch_is_refused(tiny_models_folder, monkeypatch) -> None:
    reward = load_reward(classifier(tiny_models_folder))
    forward = reward._forward

    def off_in_batches(rows: list[list[int]]) -> list[float]:
        return [value + 0.5 * (len(rows) > 1) for value in forward(rows)]

    monkeypatch.setattr(reward, "_forward", off_in_batches)
    with pytest.raises(ModelError, match="between batch 1 and batch"):
        reward.score([candidate("sea"), candidate("hill")])


def test_a_missing_reward_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        load_reward(
            ClassifierReward(type="classifier", model=str(tmp_path / "nowhere"), dtype="float32")
        )
