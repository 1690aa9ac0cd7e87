"""Four tokenizers with four chat template styles, trained on prompts and answers of the world."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST]{{ message['content'] | trim }}[/INST]"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] | trim }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported') }}"
    "{% endif %}"
    "{% endfor %}"
)
LLAMA_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Newlines form a piece of their own, so a template that ends in them is cut at the same place with
# and without an answer behind it. Digits stand alone, or every number would need its own token.
PIECES = r"\n+| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s"


@dataclass(frozen=True)
class TokenizerSpec:
    """What sets one tokenizer apart.

    Attributes:
        vocab_size: Number of tokens, special ones included.
        template: The chat template.
        pad, eos: Special tokens by name.
        end_of_turn: The token that the template writes behind an answer.
        bos: The first token of a conversation, or None for a family without one.
        others: Further special tokens of the template.
        bytes: Whether the alphabet is bytes or, as in SentencePiece, characters.
    """

    vocab_size: int
    template: str
    pad: str
    eos: str
    end_of_turn: str
    bos: str | None = None
    others: tuple[str, ...] = ()
    bytes: bool = True

    @property
    def special_tokens(self) -> list[str]:
        """All special tokens, each once, in the order of their ids."""
        names = (self.pad, self.bos, self.eos, self.end_of_turn, *self.others)
        return list(dict.fromkeys(name for name in names if name))


CHATML = TokenizerSpec(
    448,
    CHATML_TEMPLATE,
    pad="<|endoftext|>",
    eos="<|im_end|>",
    end_of_turn="<|im_end|>",
    others=("<|im_start|>",),
)
GEMMA = TokenizerSpec(
    400,
    GEMMA_TEMPLATE,
    pad="<pad>",
    bos="<bos>",
    eos="<eos>",
    end_of_turn="<end_of_turn>",
    others=("<start_of_turn>", "<unk>"),
    bytes=False,
)
MISTRAL = TokenizerSpec(
    512,
    MISTRAL_TEMPLATE,
    pad="<pad>",
    bos="<s>",
    eos="</s>",
    end_of_turn="</s>",
    others=("[INST]", "[/INST]"),
)
LLAMA = TokenizerSpec(
    480,
    LLAMA_TEMPLATE,
    pad="<|finetune_right_pad_id|>",
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    end_of_turn="<|eot_id|>",
    others=("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
)


def train_tokenizer(spec: TokenizerSpec, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer and give it its special tokens and its chat template."""
    core = _byte_bpe() if spec.bytes else _character_bpe()
    alphabet = (
        pre_tokenizers.ByteLevel.alphabet()
        if spec.bytes
        else ["▁", "\n", *(chr(code) for code in range(33, 127))]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=spec.special_tokens,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    names = {"unk_token": "<unk>"} if "<unk>" in spec.special_tokens else {}
    if spec.bos:
        names["bos_token"] = spec.bos
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=spec.pad,
        eos_token=spec.eos,
        chat_template=spec.template,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
        padding_side="right",
        **names,
    )


def _byte_bpe() -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return core


def _character_bpe() -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(
        Regex(PIECES.replace(" ?", "▁?").replace(r"\s", r"\s▁") + "|▁"), behavior="isolated"
    )
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return core
