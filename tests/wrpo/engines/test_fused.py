"""Several models as one: the rule, the loop, and what fusion gains where it must gain."""

from __future__ import annotations

import math
import random
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest

from tests.support.experts import FACTS, PLACES, question
from tests.support.tiny_models import CHAT_TEMPLATE, save_tiny, tiny_model
from wrpo.engines import Completion, GenerationTask, Request, Unanswered
from wrpo.engines.fused import FusedSettings
from wrpo.engines.fusion.boundaries import word_cuts
from wrpo.engines.fusion.rule import Surprise, likeliest, mean_surprise, text_bytes
from wrpo.errors import RecipeError
from wrpo.recipe.fusions import FusedModels, ModelFusion
from wrpo.recipe.sampling import Model, Sampling

TABLE = {"ab": [(3.0, 2), (9.0, 4)], "abcd": [(8.0, 4), (6.0, 2)], "é": [(2.0, 1), (2.5, 2)]}
"""Surprises of two models about three texts: nats, tokens."""


def brute_force(aggregate: str, unit: str) -> str:
    """The rule as the paper writes it, with perplexities."""
    found = {}
    for text, said in TABLE.items():
        each = [nll / (len(text.encode()) if unit == "byte" else tokens) for nll, tokens in said]
        values = [math.exp(value) for value in each] if aggregate == "mean_ppl" else each
        found[text] = sum(values) / len(values)
    return min(found, key=found.__getitem__)


@pytest.mark.parametrize("aggregate", ["mean_ppl", "mean_nll"])
@pytest.mark.parametrize("unit", ["byte", "token"])
def test_the_chosen_text_is_that_of_brute_force(aggregate: str, unit: str) -> None:
    for order in permutations(range(2)):
        scores = {
            text: mean_surprise(
                [Surprise(*said[place]) for place in order],
                bytes_=text_bytes(text, finished=False),
                aggregate=aggregate,
                unit=unit,
            )
            for text, said in TABLE.items()
        }
        assert likeliest(scores) == brute_force(aggregate, unit)


def test_ties_impossible_texts_and_huge_surprises_have_an_order() -> None:
    assert likeliest({"b": 1.0, "a": 1.0}) == "a"
    options: dict[str, Any] = {"bytes_": 1, "aggregate": "mean_ppl", "unit": "byte"}
    huge = mean_surprise([Surprise(5000.0, 1), Surprise(1.0, 1)], **options)
    assert huge == pytest.approx(5000.0 - math.log(2))  # exp would overflow
    assert mean_surprise([Surprise(math.nan, 1), Surprise(1.0, 1)], **options) == math.inf
    assert text_bytes("", finished=False) == 1 and text_bytes("é", finished=True) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two  three", ["one", " two", "  three"]),
        ("你好 ok", ["你", "好", " ok"]),
        ("go 👩‍🚀👍🏽!", ["go", " 👩‍🚀", "👍🏽", "!"]),
        ("e\u0301 a", ["e\u0301", " a"]),
    ],
)
def test_words_end_before_spaces_and_never_inside_a_character(text: str, words: list[str]) -> None:
    places = [0, *word_cuts(text), len(text)]
    assert [text[a:b] for a, b in pairwise(places)] == words


def engine(folders: dict[str, Path], **fusion: Any) -> Any:
    members = {name: Model(model=str(path), dtype="float32") for name, path in folders.items()}
    task = GenerationTask(
        "fused",
        entry=Model(model="fused"),
        sampling=Sampling(temperature=0.0, max_tokens=12).model_dump(),
        stop_token_ids=[],
        max_model_len=200,
        fused=FusedModels(ModelFusion(members=list(members), **fusion), members),
    )
    return FusedSettings(backend="fused", max_num_seqs=8).load(task)


def ask(loaded: Any, places: list[str] = PLACES) -> list[str]:
    requests = [Request((0, n, 0), [], question(place), n) for n, place in enumerate(places)]
    found = sorted(loaded.generate(requests), key=lambda one: one.row)
    assert all(isinstance(one, Completion) for one in found)
    return [one.text for one in found]


def right(texts: list[str]) -> float:
    return sum(text == FACTS[place] for text, place in zip(texts, PLACES, strict=True)) / len(texts)


@pytest.mark.slow
def test_copies_are_the_model_and_fused_experts_know_what_each_knows(experts_folder: Path) -> None:
    """Planted: each expert knows half. Control: the same choice with the members' words about
    the texts shuffled."""
    first, second = experts_folder / "first", experts_folder / "second"
    alone = [ask(engine({"a": path})) for path in (first, second)]
    best_alone, some = max(map(right, alone)), slice(4, 8)  # two of what each expert knows
    for method in ("rerank", "segments"):
        copies, swapped = {"a": first, "b": first}, {"a": second, "b": first}
        assert ask(engine(copies, method=method), PLACES[some]) == alone[0][some]
        fused = ask(engine({"a": first, "b": second}, method=method))
        assert ask(engine(swapped, method=method), PLACES[some]) == fused[some]
        assert right(fused) > sum(map(right, alone)) / 2, method
        if method == "rerank":
            assert right(fused) > best_alone
            assert right(fused) > _by_shuffled_words(first, second, alone)
    both = ask(engine({"a": first, "b": second}, method="both"))
    assert right(both) > best_alone


def _by_shuffled_words(first: Path, second: Path, alone: list[list[str]]) -> float:
    """What reranking gets where the scores are those of other prompts, mean over 20 shuffles."""
    loaded = engine({"a": first, "b": second})
    scores = []
    for place, texts in zip(PLACES, zip(*alone, strict=True), strict=True):
        by = [m.surprises(question(place), texts, [True] * 2) for m in loaded.members.values()]
        scores.append([sum(said[n].nll for said in by) for n in range(2)])
    draw, found = random.Random(0), []
    for _ in range(20):
        shuffled = draw.sample(scores, len(scores))
        chosen = [alone[s.index(min(s))][n] for n, s in enumerate(shuffled)]
        found.append(right(chosen))
    return sum(found) / len(found)


def bpe_model(folder: Path) -> Path:
    """A model with a tokenizer whose tokens are longer than letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    named = ["<|pad|>", "<|begin|>", "<|end|>", "<|eot|>", "<|start_header|>", "<|end_header|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=named, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(["big sea hot tea old oak user assistant"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin|>",
        eos_token="<|eot|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": named[2:]})
    tiny_model("mistral", seed=5, vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_reading_on_is_reading_anew_and_all_members_hold_one_text(tmp_path: Path) -> None:
    """With a sliding window of 24 tokens, and words that are other tokens once they go on."""
    import torch

    from wrpo.engines.fusion.segments import SharedText, WordSegment

    folders = {"bytes": save_tiny(tmp_path / "bytes"), "words": bpe_model(tmp_path / "words")}
    for boundary in ("shortest", "aligned"):
        loaded = engine(folders, method="segments", boundary=boundary)
        for member in loaded.members.values():
            grown = SharedText(member, question("Abu"))
            for piece in ("big", " se", "a", " 👍🏽", "你", "好 hot t", "ea"):
                offer, ends = WordSegment(piece, 1, ends=False), WordSegment(piece, 1, ends=True)
                fresh = SharedText(member, question("Abu"))
                fresh.append(grown.text)
                for segment in (offer, ends):
                    on, anew = grown.surprise(segment), fresh.surprise(segment)
                    assert on.nll == pytest.approx(anew.nll, abs=1e-3)
                    assert on.tokens == anew.tokens
                ids = torch.tensor([fresh.encoded(grown.text)])
                logits = member.model(input_ids=ids).logits[0, -1]
                read_on = grown._logits(ids[0].tolist(), ids.shape[1] - 1)[-1]
                assert torch.allclose(read_on, logits, atol=1e-4)
                grown.append(piece)
            assert grown.text == "big sea 👍🏽你好 hot tea"
        swapped = dict(reversed(folders.items()))
        other = engine(swapped, method="segments", boundary=boundary)
        assert ask(loaded, ["Abu"]) == ask(other, ["Abu"])


def test_what_a_fusion_cannot_do_is_refused_with_a_way_out(tmp_path: Path) -> None:
    folders = {"one": save_tiny(tmp_path / "one")}
    loaded = engine(folders, method="segments")
    warm = Sampling(temperature=0.7, max_tokens=4).model_dump()
    with pytest.raises(RecipeError, match=r"temperature is 0\.7; set temperature: 0"):
        list(loaded.generate([Request((0, 0, 0), [], question("Abu"), 1, warm)]))
    [found] = loaded.generate([Request((0, 0, 0), [], question("Abu" * 200), 1)])
    assert isinstance(found, Unanswered) and found.why.reason == "prompt_too_long"
    alone = GenerationTask("m", Model(model="m"), warm, [], max_model_len=8)
    with pytest.raises(RecipeError, match="name them under fusions"):
        FusedSettings(backend="fused").load(alone)
