from pathlib import Path

import pytest

from tests.wrpo.training.batches.made_up_memory import GIB, MadeUp
from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.answer import AnswerReward
from wrpo.rewards.classifier import ClassifierReward
from wrpo.training.batches.token_budget import TokenBudget


def candidate(
    response: str, *, prompt: str = "Say sea.", reference_answer: str | None = "sea"
) -> Candidate:
    return Candidate([{"role": "user", "content": prompt}], response, reference_answer)


def verifier(**fields: object) -> AnswerReward:
    return AnswerReward(type="answer", **fields)


@pytest.mark.parametrize(
    ("response", "expected"),
    [("sea", 1.0), (" sea\n", 1.0), ("s\u0065a", 1.0), ("Sea", 0.0), ("sea!", 0.0), ("", 0.0)],
)
def test_verifier_compares_normalised_text(response: str, expected: float) -> None:
    assert verifier().load().score([candidate(response)]) == [expected]


def test_verifier_extracts_by_its_pattern_and_may_ignore_case() -> None:
    reward = verifier(pattern=r"- (?P<answer>\w+)( thanks)?", ignore_case=True).load()
    responses = [candidate("- SEA thanks"), candidate("sea"), candidate("- hill")]
    assert reward.score(responses) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("pattern", "response", "expected"),
    [
        (r"is (?P<answer>\w+)", "The answer is sea", 1.0),
        (r"is (?P<answer>\w+)", "It is hill. No, it is sea.", 1.0),
        (r"is (?P<answer>\w+)", "It is sea. No, it is hill.", 0.0),
        (r"is (?P<answer>\w+)", "sea", 0.0),
        (r"\Ais (?P<answer>\w+)\Z", "The answer is sea", 0.0),
        (r"\s*(?P<answer>.*?)( thanks)?\s*", "sea thanks", 1.0),
        (r"\s*(?P<answer>.*?)( thanks)?\s*", "hill\nsea", 0.0),
    ],
)
def test_a_pattern_without_a_whole_match_counts_by_its_last_one(
    pattern: str, response: str, expected: float
) -> None:
    assert verifier(pattern=pattern).load().score([candidate(response)]) == [expected]


def test_verifier_refuses_a_prompt_without_gold_answer() -> None:
    result = verifier().load().score([candidate("sea", reference_answer=None)])[0]
    assert isinstance(result, Drop) and result.reason == "no_reference_answer"


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
    responses = [candidate("sea" * n, prompt="p" * (1 + 7 * n)) for n in range(1, 9)]
    expected = []
    for item in responses:
        turns = [*item.messages, {"role": "assistant", "content": item.response}]
        ids = tokenizer(
            tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False
        ).input_ids
        with torch.no_grad():
            expected.append(model(torch.tensor([ids])).logits[0, 0].item())
    scores = classifier(tiny_models_folder).load().score(responses)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_classifier_scores_do_not_depend_on_the_token_budget(tiny_models_folder) -> None:
    responses = [candidate("ab" * n) for n in range(1, 20)]
    wide = classifier(tiny_models_folder).load().score(responses)
    narrow = classifier(tiny_models_folder, engine={"batch_tokens": 1}).load().score(responses)
    assert wide == pytest.approx(narrow, abs=1e-5)


def test_classifier_measures_how_many_tokens_fit(tiny_models_folder) -> None:
    responses = [candidate("ab" * (90 + i), prompt=f"p{i}") for i in range(60)]
    fixed = classifier(tiny_models_folder, engine={"batch_tokens": 700}).load().score(responses)
    reward, device = classifier(tiny_models_folder).load(), MadeUp(room=GIB, weights=0, each=1e5)
    reward._budget = TokenBudget("auto", longest=0, meter=device)
    seen = device.follow(reward._networks.shared._backbone)
    assert reward.score(responses) == pytest.approx(fixed, abs=1e-5)
    assert 4096 < max(seen) <= 0.9 * GIB / 1e5


def test_classifier_refuses_too_long_conversations_one_by_one(tiny_models_folder) -> None:
    reward = classifier(tiny_models_folder, max_tokens=60).load()
    result = reward.score([candidate("sea"), candidate("sea" * 50), candidate("hill")])
    assert isinstance(result[1], Drop) and result[1].reason == "too_long"
    assert isinstance(result[0], float) and isinstance(result[2], float)


def off_in_batches(network):
    """The network with an error of 0.5 in every batch of more than one conversation."""
    return lambda batch: network(batch) + 0.5 * (len(batch.last) > 1)


def replace_networks(reward, **networks: object) -> None:
    reward._networks = reward._networks._replace(**networks)


def test_classifier_that_depends_on_its_batch_is_refused(tiny_models_folder) -> None:
    reward = classifier(tiny_models_folder).load()
    replace_networks(reward, plain=off_in_batches(reward._networks.plain), shared="of the test")
    with pytest.raises(ModelError, match="between batch 1 and batch"):
        reward.score([candidate("sea"), candidate("hill")])


def test_classifier_pads_with_a_warning_where_shared_prompts_change_scores(
    tiny_models_folder, caplog
) -> None:
    responses = [candidate("sea"), candidate("hill"), candidate("moon", prompt="Say moon.")]
    expected = classifier(tiny_models_folder).load().score(responses)
    assert "padded" not in caplog.text
    reward = classifier(tiny_models_folder).load()
    replace_networks(reward, shared=off_in_batches(reward._networks.shared))
    assert reward.score(responses) == pytest.approx(expected, abs=1e-5)
    assert "padded batches, because shared prompts change its scores by 0.5" in caplog.text


def test_classifier_with_another_head_scores_padded_rows(tmp_path: Path, caplog) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from tests.support.tiny_models import tiny_tokenizer

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=262, intermediate_size=64, num_labels=1, **shape)
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "reward")
    tiny_tokenizer().save_pretrained(tmp_path / "reward")
    responses = [candidate("sea" * n) for n in range(1, 5)]
    together = classifier(tmp_path).load().score(responses)
    assert "the head of BertForSequenceClassification is not" in caplog.text
    alone = [classifier(tmp_path).load().score([response])[0] for response in responses]
    assert together == pytest.approx(alone, abs=1e-5)


def test_equal_conversations_get_equal_scores(tiny_models_folder) -> None:
    responses = [candidate("sea"), candidate("hill"), candidate("sea")]
    first, _, again = classifier(tiny_models_folder).load().score(responses)
    assert first == again


def test_a_missing_reward_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        ClassifierReward(type="classifier", model=str(tmp_path / "nowhere"), dtype="float32").load()
