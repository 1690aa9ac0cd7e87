"""Responses of one model to the questions of a judged benchmark, by lm-eval's model classes.

A heavy import; only `eval.generate` imports this module, and only when there is work to do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from lm_eval.api.instance import Instance
from transformers import set_seed

from eval.harness.load import load_model, release
from eval.harness.models import EvalModel, engine_arguments
from wrpo.benchmarks.base import BenchmarkSettings
from wrpo.benchmarks.shared.questions import Question
from wrpo.errors import RecipeError
from wrpo.ids import digest
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.tables import Row
from wrpo.recipe import Recipe
from wrpo.recipe.evaluation import ONLY_VLLM
from wrpo.recipe.suite import judged_decoding

if TYPE_CHECKING:
    from eval.harness.load import ChatModel

logger = logging.getLogger(__name__)

ANSWERED = pa.schema(
    [
        ("question_id", pa.string()),
        ("number", pa.int32()),
        ("category", pa.string()),
        ("questions", pa.list_(pa.string())),
        ("responses", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.int32())),
        ("temperature", pa.float64()),
    ]
)
"""One question: what the user says and the model answers, one text per turn; tokens of the
responses by the model's tokenizer, without the end of the turn."""


def response_parts(
    recipe: Recipe,
    benchmark: str,
    model: EvalModel,
    work: StageWork,
    chunks: list[list[Question]],
) -> None:
    """Loads the model once and writes what is to do: the responses to one chunk are one part.

    Raises:
        RecipeError: the context is too short for the responses.
        ModelError: the model cannot be loaded.
        TemplateError: the chat template refuses a question.
    """
    judged, decoding = recipe.eval.judged[benchmark], judged_decoding(recipe.eval, benchmark)
    if not logger.isEnabledFor(logging.DEBUG):
        logging.getLogger("lm_eval").setLevel(logging.WARNING)
    with _loaded(recipe, model) as lm:
        if decoding["max_tokens"] >= lm.max_length:
            raise RecipeError(
                f"{benchmark}: responses of up to {decoding['max_tokens']} tokens and a question "
                f"do not fit into the context of {lm.max_length} of {model.name}; set "
                f"eval.judged.{benchmark}.decoding.max_tokens, or a larger eval.max_length"
            )
        for part in work.todo:
            set_seed(int(digest([recipe.seed, benchmark, part], length=8), 16) % 2**31)
            temperatures = [_temperature(judged, decoding, question) for question in chunks[part]]
            rows = _response(lm, chunks[part], decoding, temperatures, seed=recipe.seed)
            work.write_part(part, rows, ANSWERED)


@contextmanager
def _loaded(recipe: Recipe, model: EvalModel) -> Iterator[ChatModel]:
    lm = load_model(model, recipe.eval, engine_arguments(recipe, model.name))
    try:
        yield lm
    finally:
        release(lm)


def _response(
    lm: ChatModel,
    questions: list[Question],
    decoding: dict[str, Any],
    temperatures: list[float],
    *,
    seed: int,
) -> list[Row]:
    """The responses to all turns, one turn of all questions at a time."""
    chats: list[list[dict[str, str]]] = [[] for _ in questions]
    responses: list[list[str]] = [[] for _ in questions]
    for turn in range(max(len(question.turns) for question in questions)):
        places = [n for n, question in enumerate(questions) if turn < len(question.turns)]
        requests = []
        for place in places:
            chats[place].append({"role": "user", "content": questions[place].turns[turn]})
            kwargs = _generation(decoding, temperatures[place], seed, lm)
            prompt = lm.prompts.render(chats[place], generation_prompt=True)
            requests.append(
                Instance("generate_until", {}, (prompt, kwargs), place, ("responses", place, 1))
            )
        _warn_of_long_prompts(lm, requests, decoding["max_tokens"])
        for place, text in zip(places, lm.generate_until(requests), strict=True):
            chats[place].append({"role": "assistant", "content": text})
            responses[place].append(text)
    return [
        {
            "question_id": question.id,
            "number": question.number,
            "category": question.category,
            "questions": list(question.turns),
            "responses": texts,
            "tokens": [len(lm.prompts.encode(text)) for text in texts],
            "temperature": temperature,
        }
        for question, texts, temperature in zip(questions, responses, temperatures, strict=True)
    ]


def _temperature(judged: BenchmarkSettings, decoding: dict[str, Any], question: Question) -> float:
    stated = decoding["temperature"]
    return judged.temperature(question.category) if stated is None else float(stated)


def _generation(
    decoding: dict[str, Any], temperature: float, seed: int, lm: ChatModel
) -> dict[str, Any]:
    """lm-eval's names; what is off is left out, as transformers warns of it."""
    kwargs: dict[str, Any] = {"until": [], "max_gen_toks": decoding["max_tokens"]}
    if temperature == 0:
        return {**kwargs, "do_sample": False, "temperature": 0.0} | _penalties(decoding)
    sampled: dict[str, Any] = {
        name: decoding[name] for name in ("top_p", "top_k") if name in decoding
    }
    if _is_vllm(lm):
        sampled["seed"] = seed
    return {**kwargs, "do_sample": True, "temperature": temperature, **sampled} | _penalties(
        decoding
    )


def _penalties(decoding: dict[str, Any]) -> dict[str, float]:
    names = ("repetition_penalty", *ONLY_VLLM)
    return {name: decoding[name] for name in names if decoding.get(name)}


def _is_vllm(lm: ChatModel) -> bool:
    return type(lm).__name__ == "ChatVLLM"


def _warn_of_long_prompts(lm: ChatModel, requests: list[Instance], response: int) -> None:
    room = lm.max_length - response
    longer = sum(len(lm.prompts.encode(str(request.args[0]))) > room for request in requests)
    if longer:
        logger.warning(
            "%d questions are longer than the context leaves room for (%d tokens); lm-eval cuts "
            "them from the left. Raise eval.max_length, or lower decoding.max_tokens",
            longer,
            room,
        )
