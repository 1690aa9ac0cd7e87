"""One engine for the whole file: vLLM takes seconds to start."""

from pathlib import Path

import pytest

from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.classifier import ClassifierReward
from wrpo.rewards.networks import vllm_classifier
from wrpo.rewards.networks.conversation import excess
from wrpo.rewards.networks.vllm_classifier import VLLMClassifier

ENGINE = {"backend": "vllm", "enforce_eager": True, "kv_cache_mib": 64}
RESPONSES = [
    Candidate([{"role": "user", "content": f"Say {word}."}], f"{word}, {n} times" * n, None)
    for word in ("sea", "hill", "moon", "rain", "sand")
    for n in range(1, 5)
]


def settings(folder: Path, engine: object, **fields: object) -> ClassifierReward:
    return ClassifierReward(
        type="classifier",
        model=str(folder),
        dtype="auto",
        max_tokens=256,
        engine=engine,
        **fields,
    )


@pytest.fixture(scope="module")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with logits far from 0 to 1, where a sigmoid would show."""
    import torch
    from transformers import LlamaForSequenceClassification

    from tests.support.tiny_models import tiny_model, tiny_tokenizer

    folder = tmp_path_factory.mktemp("reward")
    # vLLM's attention on CPUs takes no heads smaller than 32.
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    config = tiny_model("llama", **shape).config
    config.num_labels = 1
    torch.manual_seed(4)
    model = LlamaForSequenceClassification(config)
    with torch.no_grad():
        model.score.weight *= 10
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def by_vllm(reward_folder: Path) -> VLLMClassifier:
    reward = settings(reward_folder, ENGINE).load()
    assert isinstance(reward, VLLMClassifier)
    reward.score(RESPONSES[:10])
    return reward


@pytest.mark.slow
def test_vllm_gives_the_logits_of_transformers_in_float32(reward_folder, by_vllm) -> None:
    expected = settings(reward_folder, {}).load().score(RESPONSES)
    assert by_vllm.score(RESPONSES) == pytest.approx(expected, abs=1e-3)
    assert max(expected) > 1.5 and min(expected) < -1.5


@pytest.mark.slow
def test_over_long_answers_are_refused_before_vllm_sees_them(by_vllm) -> None:
    long = Candidate(RESPONSES[0].messages, "sea " * 100, None)
    first, refused = by_vllm.score([RESPONSES[0], long])
    assert isinstance(first, float)
    assert isinstance(refused, Drop) and refused.reason == "too_long"


class OtherScores:
    """What stays of an engine that applies its sigmoid."""

    def __init__(self, llm) -> None:
        self._llm = llm

    def classify(self, prompts, **_):
        return self._llm.classify(prompts, use_tqdm=False)


@pytest.mark.slow
def test_an_engine_that_scores_otherwise_is_refused(reward_folder, by_vllm, monkeypatch) -> None:
    monkeypatch.setattr(vllm_classifier, "load_llm", lambda *_, **__: OtherScores(by_vllm._llm))
    reward = settings(reward_folder, ENGINE).load()
    message = r"vLLM and transformers differ by up to 14.+ on 16 responses.*backend: transformers"
    with pytest.raises(ModelError, match=message):
        reward.score(RESPONSES)


def test_differences_beyond_rounding_are_named() -> None:
    assert excess([20.0, 1.0], [20.01, 1.0], 1e-3) is None
    assert excess([0.5, 1.0], [0.51, 1.0], 1e-3) == pytest.approx(0.01)
    nan = float("nan")
    assert excess([0.5, nan], [0.5, 0.5], 1e-3) == float("inf")
    assert excess([0.5, nan], [0.5, nan], 1e-3) is None  # scoring drops that answer
    assert excess([nan], [nan], 1e-3) is None
