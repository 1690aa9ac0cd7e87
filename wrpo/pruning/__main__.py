"""Removes blocks of the target that its predictions need least; SFT starts from what is left.

Reads:   RUN/build/sft, or the texts that `prune.texts` names
Writes:  RUN/prune/model, and RUN/prune/search.json: what was removed, in order
Run:     python -m wrpo.pruning --recipe recipes/llama3-8b-wrpo.yaml
Resume:  the same command again; the search goes on where it was
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import MissingInputError, RecipeError
from wrpo.files import is_file, replacing
from wrpo.pipeline.integrity import MODEL
from wrpo.pipeline.parts import StageWork, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SFT_ROWS, read_rows
from wrpo.recipe import Recipe
from wrpo.recipe.prune import Prune

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from wrpo.pruning.search import Removable, Removal

logger = logging.getLogger(__name__)

SEARCH = "search.json"


def prune_target(recipe: Recipe) -> None:
    """Runs the stage.

    Raises:
        RecipeError: the recipe has no section `prune`, or it removes more than there is.
        MissingInputError: the SFT rows are not built, or the texts are not there.
        DataError: the texts are too short.
        ModelError: the target cannot be loaded, or has blocks that pruning does not know.
    """
    settings = recipe.prune
    if settings is None:
        raise RecipeError("the recipe has no prune; write prune: {remove: 4}")
    pipeline = Pipeline(recipe)
    texts = calibration_texts(pipeline, settings)
    with open_stage(pipeline, "prune") as work:
        if not work.complete:
            _prune(recipe, settings, texts, work)


def _prune(recipe: Recipe, settings: Prune, texts: list[str], work: StageWork) -> None:
    from wrpo.chat.tokenizer import load_chat_tokenizer
    from wrpo.pruning.export import save_pruned
    from wrpo.pruning.search import measured_by, pack, perplexity

    tokenizer = load_chat_tokenizer(recipe.target.model, recipe.target)
    sequences = pack(
        tokenizer.encode("\n\n".join(texts), add_special_tokens=False, verbose=False),
        sequence_tokens=settings.sequence_tokens,
        most_tokens=settings.calibration_tokens,
    )
    model = load_target(recipe)
    batch = settings.batch_sequences
    before, parameters = perplexity(model, sequences, batch=batch), model.num_parameters()
    logger.info("prune: %d sequences, perplexity %.4f", len(sequences), before)
    found = _search(model, settings, work.path, measured_by(model, sequences, batch=batch))
    removed = [block for removal in found for block in removal.unit]
    halves = save_pruned(model, removed, work.path / MODEL)
    tokenizer.save_pretrained(work.path / MODEL)
    work.facts.update(
        sequences=len(sequences),
        perplexity={"before": before, "after": found[-1].perplexity},
        removed=[[str(block) for block in removal.unit] for removal in found],
        zeroed=[str(block) for block in halves],
        evaluations=sum(removal.evaluations for removal in found),
        not_finite=sum(removal.not_finite for removal in found),
        parameters={"before": parameters, "after": model.num_parameters()},
    )


def _search(model: PreTrainedModel, settings: Prune, folder: Path, measure: Any) -> list[Removal]:
    """All removals; each is kept on disk as it is found."""
    from tqdm import tqdm

    from wrpo.pruning.search import greedy, removal_from_json, removal_to_json

    file = folder / SEARCH
    kept = json.loads(file.read_text(encoding="utf-8")) if is_file(file) else []
    found = [removal_from_json(removal) for removal in kept]
    units = units_of(model, settings)
    if settings.remove >= len(units):
        raise RecipeError(
            f"prune.remove is {settings.remove}, and the target has {len(units)} to choose from "
            f"(prune.blocks is {settings.blocks}); remove fewer"
        )
    steps = greedy(units, settings.remove, measure, done=list(found))
    for removal in tqdm(steps, total=settings.remove - len(found), desc="prune", unit="removal"):
        found.append(removal)
        with replacing(file) as partial:
            partial.write_text(
                json.dumps([removal_to_json(one) for one in found]), encoding="utf-8"
            )
        named = " and ".join(map(str, removal.unit))
        logger.info("prune: without %s the perplexity is %.4f", named, removal.perplexity)
    return found


def units_of(model: PreTrainedModel, settings: Prune) -> list[Removable]:
    """What can be removed at once."""
    from wrpo.pruning.blocks import blocks_of

    if settings.blocks == "layers":
        blocks = blocks_of(model, ("attention", "mlp"))
        return list(zip(blocks[::2], blocks[1::2], strict=True))
    parts = ("attention", "mlp") if settings.blocks == "both" else (settings.blocks,)
    return [(block,) for block in blocks_of(model, parts)]


def load_target(recipe: Recipe) -> PreTrainedModel:
    """The target in the precision of its files, on a GPU if there is one.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from wrpo.errors import ModelError, loading_failures

    entry = recipe.target
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            entry.model,
            revision=entry.revision,
            dtype=entry.dtype,
            trust_remote_code=entry.trust_remote_code,
            use_safetensors=True,
            device_map="auto" if torch.cuda.is_available() else None,
        )
    except loading_failures() as error:
        raise ModelError(f"cannot load the target {entry.model}: {error}") from error
    return model.eval()


def calibration_texts(pipeline: Pipeline, settings: Prune) -> list[str]:
    """The texts of the file, or the SFT rows as chats.

    Raises:
        MissingInputError: they are not there.
    """
    if settings.texts is not None:
        if not is_file(settings.texts):
            raise MissingInputError(f"prune.texts: no such file: {settings.texts}")
        text = settings.texts.read_text(encoding="utf-8")
        return [part for part in text.split("\n\n") if part.strip()]
    from wrpo.chat.tokenizer import load_chat_tokenizer

    rows = read_rows(pipeline.finished("build/sft"), SFT_ROWS)
    recipe = pipeline.recipe
    tokenizer = load_chat_tokenizer(recipe.target.model, recipe.target)
    return [_chat(tokenizer, row["prompt"] + row["completion"]) for row in rows]


def _chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def main() -> None:
    _, recipe = parse_stage(stage_parser(__doc__))
    prune_target(recipe)


if __name__ == "__main__":
    run_main(main)
