"""Alignment of two tokenizers by bytes, on tokenizers made by hand."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.support.tiny_models import EOS, HEADERS, tiny_tokenizer
from wrpo.distillation.alignment import Stored, Vocabulary, edit_distance, partners, transferred
from wrpo.distillation.token_bytes import TokenBytes, fingerprint
from wrpo.errors import ModelError


def merged(*merges: tuple[str, str]) -> PreTrainedTokenizerBase:
    """The byte-level tokenizer of the tests with merges of its own."""
    plain = tiny_tokenizer()
    vocabulary = dict(plain.get_vocab())
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=plain.bos_token,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        additional_special_tokens=[EOS, *HEADERS],
    )
    made.chat_template = plain.chat_template
    return made


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


@given(text=st.text(max_size=40))
def test_spans_cover_the_text_whatever_it_is(text: str) -> None:
    tokenizer = tiny_tokenizer()
    tokens = TokenBytes(tokenizer)
    spans = tokens.spans([*ids(tokenizer, text), tokens.end], text)
    length = len(text.strip().encode())
    before = len(text.encode()) - len(text.lstrip().encode()) if length else len(text.encode())
    behind = len(text.encode()) - before - length
    own = [(at, at + 1) for at in range(length)]
    assert spans == [None] * before + own + [None] * behind + [(length, length)]


@pytest.mark.parametrize("said", ["abc", " abc", "abc\n", "<think>\n\n</think>\n\nabc"])
def test_what_a_template_adds_or_trims_moves_no_span(said: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokens = TokenBytes(tokenizer)
    heard = [*ids(tokenizer, said), tokens.end]
    for text in ("abc", " abc\n"):
        spans = tokens.spans(heard, text)
        assert [span for span in spans if span] == [(0, 1), (1, 2), (2, 3), (3, 3)]
    inside = tokens.spans(heard, said)
    assert len([span for span in inside if span]) == len(ids(tokenizer, said.strip())) + 1


def test_one_tokenizer_aligns_with_itself_everywhere() -> None:
    tokenizer = merged(("h", "e"), ("l", "l"))
    tokens = TokenBytes(tokenizer)
    said = [*ids(tokenizer, "hello"), tokens.end]
    spans = tokens.spans(said, "hello")
    assert partners(spans, spans) == list(range(len(said)))
    stored = Stored([[token] for token in said], [[-0.1]] * len(said), [-2.0] * len(said))
    moved = transferred(stored, partners(spans, spans), said, Vocabulary(tokens, tokens))
    assert moved.ids == stored.ids and moved.logps == stored.logps
    assert moved.rest == pytest.approx(stored.rest)


def test_tokens_of_the_same_bytes_are_partners_and_others_learn_the_label() -> None:
    student, teacher = merged(("h", "e")), merged(("l", "l"))
    own, its = TokenBytes(student), TokenBytes(teacher)
    said, heard = [*ids(student, "hello"), own.end], [*ids(teacher, "hello"), its.end]
    # he l l o end  against  h e ll o end
    places = partners(own.spans(said, "hello"), its.spans(heard, "hello"))
    assert places == [None, None, None, 3, 4]
    other = ids(teacher, "ll")[0]
    stored = Stored(
        [[token, other] for token in heard], [[math.log(0.7), math.log(0.2)]] * 5, [-2.3026] * 5
    )
    moved = transferred(stored, places, said, Vocabulary(its, own))
    assert moved.ids[:3] == [[token] for token in said[:3]] and moved.logps[0] == [0.0]
    assert moved.rest[0] == -math.inf
    # The student has no "ll": its mass is in the remainder.
    assert moved.ids[3:] == [[said[3]], [said[4]]]
    assert math.exp(moved.rest[3]) == pytest.approx(0.2 + 0.1, abs=1e-4)


def test_soft_takes_the_nearest_token_and_statistics_the_partner_of_the_corpus() -> None:
    student, teacher = merged(("h", "e")), merged(("h", "e"), ("he", "y"))
    own, its = TokenBytes(student), TokenBytes(teacher)
    hey = ids(teacher, "hey")[0]
    assert Vocabulary(its, own, "hard")[hey] is None
    assert Vocabulary(its, own, "soft")[hey] == ids(student, "he")[0]
    counted = Vocabulary(its, own, "statistics")
    said, heard = ids(student, "hey"), [hey]
    counted.observe(
        zip(said, own.spans(said, "hey"), strict=True),
        zip(heard, its.spans(heard, "hey"), strict=True),
    )
    assert dict(counted.counts[hey]) == {said[0]: 1, said[1]: 1}
    assert counted[hey] == said[0]  # "he", at distance 1; "y" is at 2


def test_frequent_partners_are_preferred_a_little_and_upstream_penalised() -> None:
    """abcd is as far from abx as from aby; one is frequent. Nearer tokens stay nearer."""
    student = merged(("a", "b"), ("ab", "x"), ("ab", "y"), ("ab", "c"))
    teacher = merged(("a", "b"), ("ab", "c"), ("abc", "d"))
    own, its = TokenBytes(student), TokenBytes(teacher)
    (heard,) = ids(teacher, "abcd")
    rare, frequent, near = (ids(student, text)[0] for text in ("abx", "aby", "abc"))
    for upstream, expected in ((False, frequent), (True, rare)):
        counts = {heard: Counter({rare: 1, frequent: 40})}
        assert Vocabulary(its, own, "statistics", upstream, counts)[heard] == expected
        counts = {heard: Counter({near: 3, frequent: 40})}
        assert Vocabulary(its, own, "statistics", upstream, counts)[heard] == near


def test_ends_of_turns_are_partners_and_spelling_another_text_aligns_nothing() -> None:
    student, teacher = tiny_tokenizer(), merged(("h", "e"))
    own, its = TokenBytes(student), TokenBytes(teacher)
    assert Vocabulary(its, own)[its.end] == own.end
    assert own.spans(ids(student, "abc"), "xyz") == [None] * 3


def test_fingerprints_tell_vocabularies_apart() -> None:
    assert fingerprint(merged(("h", "e"))) == fingerprint(merged(("h", "e")))
    assert fingerprint(merged(("h", "e"))) != fingerprint(merged(("l", "l")))


def test_sentencepiece_and_bytes_meet_in_their_bytes() -> None:
    """As Gemma's: characters, with spaces as lower bars, and single bytes for all else."""
    letters = [*"abcdefgh", "▁", "▁a", "▁ab", "<0xC3>", "<0xA9>"]
    vocabulary = {token: at for at, token in enumerate(["<unk>", "<end>", *letters])}
    model = models.BPE(
        vocab=vocabulary, merges=[("▁", "a"), ("▁a", "b")], unk_token="<unk>", byte_fallback=True
    )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    teacher = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", unk_token="<unk>", pad_token="<end>"
    )
    teacher.chat_template = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"
    its, own = TokenBytes(teacher), TokenBytes(tiny_tokenizer())
    text = "c ab é"
    heard = ids(teacher, text)
    assert its.spans(heard, text) == [(0, 1), (1, 4), (4, 5), (5, 6), (6, 7)]
    places = partners(own.spans(ids(tiny_tokenizer(), text), text), its.spans(heard, text))
    assert places == [0, None, None, None, 2, 3, 4]
    vocabulary_map = Vocabulary(its, own)
    assert own[vocabulary_map[heard[0]] or 0] == b"c" and vocabulary_map[heard[1]] is None


def test_a_tokenizer_of_words_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "<e>": 1}, unk_token="a"))
    words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<e>")
    words.chat_template = tiny_tokenizer().chat_template
    with pytest.raises(ModelError, match="its tokens are not known as bytes"):
        TokenBytes(words)


@pytest.mark.parametrize(
    ("one", "other", "distance"), [(b"", b"ab", 2), (b"kitten", b"sitting", 3), (b"a", b"a", 0)]
)
def test_edit_distance(one: bytes, other: bytes, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance
