"""Tiny tokenizers of the chat families: real control tokens, a few hundred other tokens.

Each family has a template in ``tests/fixtures/templates`` that behaves like the real one.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATES = Path(__file__).parents[2] / "fixtures" / "templates"

# Has what merges across a prompt and a response: runs of newlines, punctuation before newlines.
TEXT = [
    "hello world, this is the response of the assistant to the user",
    "a line\n\nanother line\n\n\nsystem: user: assistant:\n\n\n\nmore",
    "### Instruction:\nsay hello\n\n### Response:\nhello\n\n",
]
LLAMA3_HEADER = ("<|start_header_id|>", "<|end_header_id|>")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", *LLAMA3_HEADER)
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GEMMA = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
SMOLLM = ("<|im_start|>", "<|im_end|>")
LLAMA2 = ("<unk>", "<s>", "</s>")
PHI3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


@dataclass(frozen=True)
class Family:
    """What a family's tokenizer has and what its template does.

    Attributes:
        special: Control tokens.
        words: Added tokens that are not control tokens.
        bos: BOS token, or None.
        eos: EOS token, or None.
        adds_bos: The tokenizer puts BOS before plain text.
        end: The token that ends an assistant turn.
        lead: What the template puts between the generation prompt and a response.
        system: The template takes a system message.
        sentencepiece: Space becomes a visible letter, also before the first word.
        rstrip: Control tokens swallow the whitespace after them.
        bos_begins_turns: BOS is the token that begins every turn.
    """

    name: str
    special: tuple[str, ...]
    eos: str | None
    end: str
    bos: str | None = None
    adds_bos: bool = False
    words: tuple[str, ...] = ()
    lead: str = ""
    system: bool = True
    sentencepiece: bool = False
    rstrip: bool = False
    bos_begins_turns: bool = False

    @property
    def template_path(self) -> Path:
        return TEMPLATES / f"{self.name}.jinja"

    @property
    def template(self) -> str:
        return self.template_path.read_text(encoding="utf-8")

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A fresh tokenizer with the family's template."""
        backend = _trained(self.sentencepiece, self.special)
        tokenizer = Tokenizer.from_str(backend)
        if self.rstrip:
            tokenizer.add_special_tokens(
                [AddedToken(text, rstrip=True, normalized=False) for text in self.special]
            )
        if self.words:
            tokenizer.add_tokens([AddedToken(text, normalized=False) for text in self.words])
        if self.adds_bos:
            assert self.bos is not None
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{self.bos} $A",
                special_tokens=[(self.bos, tokenizer.token_to_id(self.bos))],
            )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=self.bos,
            eos_token=self.eos,
            chat_template=self.template,
            clean_up_tokenization_spaces=False,
        )


@functools.cache
def _trained(sentencepiece: bool, special: tuple[str, ...]) -> str:
    return _train_sentencepiece(special) if sentencepiece else _train_byte_level(special)


def _train_byte_level(special: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(special) + 80,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer.to_str()


def _train_sentencepiece(special: tuple[str, ...]) -> str:
    """BPE with a space before the first word and a token for each byte, as Mistral has it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=list(special), show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    return json.dumps(state)


FAMILIES = {
    family.name: family
    for family in (
        Family("llama3", LLAMA3, "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>", adds_bos=True),
        Family("llama31", LLAMA3, "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>", adds_bos=True),
        Family("llama32", LLAMA3, "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>", adds_bos=True),
        Family("chatml", CHATML, "<|im_end|>", "<|im_end|>"),
        Family("qwen25", CHATML, "<|im_end|>", "<|im_end|>"),
        Family(
            "qwen3",
            CHATML,
            "<|im_end|>",
            "<|im_end|>",
            words=("<think>", "</think>"),
            lead="<think>\n\n</think>\n\n",
        ),
        Family(
            "qwen3_thinking",
            CHATML,
            "<|im_end|>",
            "<|im_end|>",
            words=("<think>", "</think>"),
            lead="\n</think>\n\n",
        ),
        Family("gemma2", GEMMA, "<eos>", "<end_of_turn>", "<bos>", adds_bos=True, system=False),
        Family("gemma3", GEMMA, "<eos>", "<end_of_turn>", "<bos>", adds_bos=True),
        Family(
            "mistral",
            LLAMA2,
            "</s>",
            "</s>",
            "<s>",
            adds_bos=True,
            lead=" ",
            system=False,
            sentencepiece=True,
        ),
        Family(
            "mistral_v3",
            (*LLAMA2, "[INST]", "[/INST]"),
            "</s>",
            "</s>",
            "<s>",
            adds_bos=True,
            lead=" ",
            sentencepiece=True,
        ),
        Family("phi3", (*LLAMA2, "<|endoftext|>", *PHI3), "<|endoftext|>", "<|end|>", rstrip=True),
        Family("zephyr", LLAMA2, "</s>", "</s>", "<s>", adds_bos=True, sentencepiece=True),
        Family("alpaca", LLAMA2, "</s>", "</s>", "<s>", adds_bos=True, system=False),
        Family(
            "deepseek_r1",
            ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
            "<｜end▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "<｜begin▁of▁sentence｜>",
            adds_bos=True,
            words=("<think>", "</think>"),
            lead="\n</think>\n\n",
        ),
        Family(
            "smollm2", SMOLLM, "<|im_end|>", "<|im_end|>", "<|im_start|>", bos_begins_turns=True
        ),
        Family(
            "granite",
            ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
            "<|end_of_text|>",
            "<|end_of_text|>",
        ),
    )
}
