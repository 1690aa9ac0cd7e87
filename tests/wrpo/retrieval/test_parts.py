"""The parts of the dialogue retriever against closed forms, T5 itself and counts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sacrebleu
import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import T5ForConditionalGeneration

from tests.wrpo.retrieval.planted import exchanges
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import DataError, MissingInputError
from wrpo.retrieval.exchanges import DialogueExchange, named, read_exchanges, text_of
from wrpo.retrieval.generator import Generator, attention_seen, importance
from wrpo.retrieval.measure import bleu, entity_f1, recall_at_1
from wrpo.retrieval.meta_knowledge import meta_knowledge
from wrpo.retrieval.objective import attribute_loss, distillation, margin_loss
from wrpo.routing.objective import marginal_nll

ONE = exchanges(4, seed=3)
CONTEXTS = [one.context for one in ONE]
RESPONSES = [one.response for one in ONE]
TEXTS = [[text_of(record) for record in one.records] for one in ONE]


def loaded(folder: Path, attention: str = "sdpa") -> Generator:
    model = T5ForConditionalGeneration.from_pretrained(folder, attn_implementation=attention)
    return Generator(model.eval(), load_tokenizer(folder))


@pytest.fixture(scope="module")
def reader(generator: Path) -> Generator:
    return loaded(generator)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_distillation_is_the_divergence_of_an_exchange_and_not_of_a_record() -> None:
    """The default mean of libraries divides by the number of records too."""
    scores, targets = drawn(5, 4), drawn(5, 4).flip(0).softmax(-1)
    ours = distillation(scores, targets).mean()
    logs = scores.log_softmax(-1)
    torch.testing.assert_close(ours, kl_div(logs, targets, reduction="batchmean"))
    with pytest.warns(UserWarning, match="batchmean"):
        torch.testing.assert_close(ours, 4 * kl_div(logs, targets, reduction="mean"))
    assert distillation(scores, scores.softmax(-1)).abs().max() < 1e-12
    assert distillation(scores, torch.eye(4)[[0, 1, 2, 3, 0]].double()).isfinite().all()


def test_the_margin_is_zero_where_every_record_helps_by_more_than_it() -> None:
    alone = torch.tensor([-2.0, -2.0])
    given = torch.tensor([[-1.0, -1.98], [-2.0, -3.0]])
    torch.testing.assert_close(margin_loss(alone, given), torch.tensor([0.0, 0.01 + 1.01]))


def test_a_uniform_likelihood_teaches_the_retriever_nothing() -> None:
    scores = drawn(5, 4).requires_grad_()
    marginal_nll(scores, torch.full((5, 4), -3.0, dtype=torch.float64)).sum().backward()
    assert scores.grad is not None and scores.grad.abs().max() < 1e-15


def test_attributes_are_mixed_by_the_retriever_which_learns_nothing_from_them() -> None:
    logits, scores = drawn(2, 3, 4).requires_grad_(), drawn(2, 3).requires_grad_()
    wanted = (drawn(2, 4) > 0).double()
    loss = attribute_loss(logits, scores, wanted)
    by_hand = []
    for n in range(2):
        q = scores[n].softmax(-1)
        p = (q[:, None] * logits[n]).sum(0).sigmoid()
        by_hand.append(-(wanted[n] * p.log() + (1 - wanted[n]) * (1 - p).log()).mean())
    torch.testing.assert_close(loss, torch.stack(by_hand))
    loss.sum().backward()
    assert scores.grad is None and logits.grad is not None


def test_one_record_is_t5_and_the_order_of_records_changes_nothing(reader: Generator) -> None:
    labels = reader.labels(RESPONSES)
    with torch.no_grad():
        one = reader.log_probs(reader.read(CONTEXTS, [own[:1] for own in TEXTS]), labels)
        for row, own in enumerate(TEXTS):
            text = f"{own[0]} {CONTEXTS[row]}"
            rows = reader.tokenizer(text, return_tensors="pt")
            kept = labels[row : row + 1][:, labels[row] != -100]
            loss = reader.model(input_ids=rows["input_ids"], labels=kept).loss
            torch.testing.assert_close(-one[row].sum() / kept.numel(), loss)
        whole = reader.log_probs(reader.read(CONTEXTS, TEXTS), labels)
        turned = reader.log_probs(reader.read(CONTEXTS, [own[::-1] for own in TEXTS]), labels)
    torch.testing.assert_close(whole, turned, rtol=0, atol=1e-5)
    assert (whole - one).abs().max() > 1e-3


def test_each_record_by_itself_is_read_once(reader: Generator) -> None:
    labels = reader.labels(RESPONSES)
    with torch.no_grad():
        each = reader.read(CONTEXTS, TEXTS).each()
        together = reader.log_probs(each, labels.repeat_interleave(3, 0)).sum(-1).view(4, 3)
        for k in range(3):
            alone = reader.log_probs(reader.read(CONTEXTS, [[own[k]] for own in TEXTS]), labels)
            torch.testing.assert_close(together[:, k], alone.sum(-1))


def test_long_contexts_lose_their_beginning_and_long_records_their_end(generator: Path) -> None:
    whole = loaded(generator)
    short = Generator(whole.model, whole.tokenizer, context_tokens=2, record_tokens=2)
    with torch.no_grad():
        read = short.read(["ash birch cedar"], [["name: ash; phone"]])
        cut = whole.read(["birch cedar"], [["name:"]])
    torch.testing.assert_close(read.states, cut.states)
    assert read.of_record.tolist() == [[[1, 1, 0, 0, 0]]]


def test_attention_is_seen_before_its_softmax(generator: Path) -> None:
    """Up to a constant of each position it is the log of the weights that eager attention gives."""
    eager = loaded(generator, "eager")
    read, labels = eager.read(CONTEXTS[:1], TEXTS[:1]), eager.labels(RESPONSES[:1])
    with torch.no_grad(), attention_seen(eager.model) as seen:
        eager.log_probs(read, labels)
    weights = eager.model(
        encoder_outputs=(read.states.flatten(1, 2),),
        attention_mask=read.mask.flatten(1, 2),
        labels=labels,
        output_attentions=True,
    ).cross_attentions
    assert len(seen) == len(weights) == 2
    for ours, theirs in zip(seen, weights, strict=True):
        difference = ours - theirs.log().mean(1)
        spread = difference.max(-1).values - difference.min(-1).values
        assert spread.max() < 1e-4
    with torch.no_grad():
        eager.log_probs(read, labels)
    assert len(seen) == 2  # nothing stays behind


def test_importance_is_a_mean_over_value_positions_and_tokens_of_the_record(
    reader: Generator,
) -> None:
    read, labels = reader.read(CONTEXTS, TEXTS), reader.labels(RESPONSES)
    with torch.no_grad(), attention_seen(reader.model) as seen:
        reader.log_probs(read, labels)
    values = reader.values([*RESPONSES[:3], "ash"], [["p0", "p1", "p2", "p3", "p4", "p5"]] * 4)
    assert values.tolist() == [[True, False]] * 3 + [[False, False]]
    found = importance(seen, read, values)
    scores = torch.stack(seen).mean(0).unflatten(-1, read.mask.shape[1:])
    for n in range(3):
        for k in range(3):
            tokens = read.of_record[n, k].bool()
            torch.testing.assert_close(found[n, k], scores[n, 0, k, tokens].mean())
    assert found[3].isnan().all()
    torch.testing.assert_close(found[:3].softmax(-1).sum(-1), torch.ones(3))


@pytest.mark.parametrize(
    ("order", "share", "context", "thresholds", "expected"),
    [
        (1, 0.75, "the Oak?", (0.75, 0.4), "order: 1; confidence: high; seen: old; "),
        (5, 0.74, "Oakland", (0.75, 0.4), "order: 5; confidence: mid; seen: new; "),
        (6, 0.39, "", (0.75, 0.4), "order: other; confidence: low; seen: new; "),
        (2, 0.39, "", (0.75, 0.25), "order: 2; confidence: mid; seen: new; "),
        (2, 0.24, "oak", (0.75, 0.25), "order: 2; confidence: low; seen: old; "),
    ],
)
def test_meta_knowledge_by_hand(
    order: int, share: float, context: str, thresholds: tuple[float, float], expected: str
) -> None:
    given = meta_knowledge(
        {"name": "oak"}, order=order, share=share, context=context, thresholds=thresholds
    )
    assert given == expected


HOTELS = ({"name": "Oak", "stars": "4"}, {"name": "Elm (east)", "stars": "2"})


def test_values_are_whole_words_and_the_best_record_is_the_one_that_is_named() -> None:
    assert named(["Oak", "4", "Elm (east)"], "oak has 44 rooms, elm (EAST) has 4.") == [
        "Oak",
        "4",
        "Elm (east)",
    ]
    assert named(["4"], "44 rooms") == []
    assert DialogueExchange("", "Oak has 4 stars", HOTELS).best() == [0]
    assert DialogueExchange("", "both are full", HOTELS).best() == []
    assert text_of(HOTELS[0], ["stars", "phone"]) == "stars: 4"


def test_recall_and_entity_f1_by_hand() -> None:
    rows = [
        DialogueExchange("", "Oak has 4 stars", HOTELS),
        DialogueExchange("", "Elm (east)", HOTELS),
        DialogueExchange("", "both are full", HOTELS),
    ]
    assert recall_at_1(rows, [0, 0, 1]) == (0.5, 0.5)
    # said Oak, 2, Oak; wanted Oak, 4, Elm: one of three is right, of three that are wanted
    assert entity_f1(rows, ["Oak has 2", "Oak", "full"]) == pytest.approx(2 * 1 / (3 + 3))


def test_bleu_is_that_of_sacrebleu() -> None:
    gold = ["the oak has four stars and a pool", "please call them now at noon"]
    said = ["the oak has four stars and no pool", "call them now at noon"]
    theirs = sacrebleu.corpus_bleu(said, [gold], tokenize="none", lowercase=True)
    assert bleu(gold, said) == pytest.approx(theirs.score / 100)
    assert bleu(gold, gold) == pytest.approx(1.0) and bleu(gold, ["a", "b"]) == 0.0


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    path, said = tmp_path / "file.jsonl", {"messages": [{"role": "user", "content": "hi"}]}
    for row, message in (
        ({**said}, 'row 1: needs "messages"'),
        ({**said, "response": "x"}, "0 records, and there must be two"),
        ({**said, "response": "x", "records": [{"a": "1"}]}, "1 records"),
        ({**said, "response": "x", "records": [{"a": []}, {"a": "1"}]}, "a record is an object"),
        ({**said, "response": "x", "records": [{"a": " "}, {"a": "1"}]}, "has no values"),
    ):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(DataError, match=message):
            read_exchanges(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="no exchanges"):
        read_exchanges(path)
    with pytest.raises(MissingInputError, match="no such file"):
        read_exchanges(tmp_path / "nowhere.jsonl")
    path.write_text(
        json.dumps({**said, "response": "x", "records": [{"a": 1, "b": ""}, {"a": 2.5}]})
    )
    (one,) = read_exchanges(path)
    assert one == DialogueExchange("user: hi", "x", ({"a": "1"}, {"a": "2.5"}))
