"""The stages of training, and of the log-probs that it reads."""

from __future__ import annotations

from functools import partial

from wrpo.errors import RecipeError
from wrpo.objectives.base import LogitPlace
from wrpo.pipeline.data_stages import sampled_model, target_settings
from wrpo.pipeline.stage import Settings, Stage, file_identity
from wrpo.recipe import TARGET, Recipe, preference
from wrpo.recipe.build import REFERENCE
from wrpo.recipe.prompts import dataset_responses
from wrpo.recipe.resolved import answering_sources
from wrpo.settings import SPEED_FIELDS


def sft_stage(recipe: Recipe) -> Stage:
    inputs = (sft_rows_stage(recipe), *(["prune"] if recipe.prune else []))
    return Stage("sft", inputs=inputs, settings=partial(_sft_settings, recipe))


def prune_stage(recipe: Recipe) -> Stage:
    """The target with fewer blocks, from which SFT starts."""
    settings = recipe.prune
    inputs = ("build/sft",) if settings is None or settings.texts is None else ()
    return Stage("prune", inputs=inputs, settings=partial(_prune_settings, recipe))


def _prune_settings(recipe: Recipe) -> Settings:
    settings = recipe.prune
    assert settings is not None  # a stage that prunes has settings
    texts = settings.texts and file_identity(settings.texts)
    own = settings.model_dump(mode="json", exclude={"batch_sequences"})
    dtype = recipe.target.dtype
    return {**own, "texts": texts, "dtype": dtype, "target": target_settings(recipe)}


def sft_rows_stage(recipe: Recipe) -> str:
    """The stage whose rows SFT trains on."""
    return "build/sft" if recipe.consistency is None else "consistency"


def _sft_settings(recipe: Recipe) -> Settings:
    settings = recipe.sft.model_dump(mode="json", exclude=SPEED_FIELDS)
    settings |= {"seed": recipe.seed, "target": target_settings(recipe)}
    settings["train"] = {"max_length": recipe.truncation.max_length, **settings["train"]}
    return settings


def logprobs_stage(recipe: Recipe, model: str, rows: str) -> Stage:
    table = "triples" if rows == "anchors" else rows
    inputs: tuple[str, ...] = (f"build/{table}",)
    if model == "sft":
        inputs = (*inputs, "sft")
    if recipe.logprobs.method == "sampled" and (model != "sft" or table == "triples"):
        inputs = (*inputs, f"sample/{TARGET if model == 'sft' else model}")
    args = {"model": model, "rows": rows}
    return Stage("logprobs", args, inputs, partial(_logprobs_settings, recipe, model))


def _logprobs_settings(recipe: Recipe, model: str) -> Settings:
    settings = recipe.logprobs.model_dump(mode="json", exclude=SPEED_FIELDS)
    settings["truncation"] = recipe.truncation.model_dump(mode="json")
    if model != "sft":
        settings["model"] = sampled_model(recipe, model)
    return settings


def train_stage(recipe: Recipe, arm: str) -> Stage:
    settings = preference(recipe, arm)
    named = [*answering_sources(recipe), *([REFERENCE] if settings.data == "responses" else [])]
    unknown = set(settings.rows_of or ()) - {*named, TARGET}
    if unknown:
        known = ", ".join(named)
        raise RecipeError(f'{arm}.rows_of: no source "{min(unknown)}"; sources: {known}')
    inputs = [f"build/{preference(recipe, arm).data}", "sft"]
    inputs += [f"logprobs/{model}/{rows}" for model, rows in scored_rows(recipe, arm)]
    inputs += [place.stage for place in logit_tables(recipe, arm)]
    inputs += preference(recipe, arm).further_inputs(recipe)
    return Stage("train", {"arm": arm}, tuple(inputs), partial(_train_settings, recipe, arm))


def _train_settings(recipe: Recipe, arm: str) -> Settings:
    settings = preference(recipe, arm)
    # Rows of all sources are the rule, and stay out, so that arms trained so keep their key.
    left_out = SPEED_FIELDS if settings.rows_of else SPEED_FIELDS | {"rows_of"}
    return {
        "seed": recipe.seed,
        "truncation": recipe.truncation.model_dump(mode="json", include=settings.cut_by),
        **settings.model_dump(mode="json", exclude=left_out),
        **settings.further_settings(recipe),
    }


def teacher_logits_stage(recipe: Recipe, place: LogitPlace) -> Stage:
    inputs = ["build/triples", *(["sft"] if place.model == "sft" else [])]
    if place.at is not None:
        inputs.append(LogitPlace(place.at, place.response).stage)
    settings = partial(_teacher_logits_settings, recipe, place)
    return Stage("teacher_logits", place.args, tuple(inputs), settings)


def _teacher_logits_settings(recipe: Recipe, place: LogitPlace) -> Settings:
    settings = recipe.teacher_logits.model_dump(mode="json", exclude=SPEED_FIELDS)
    if settings["method"] == "transformers":  # the rule, which stays out of keys
        del settings["method"]
    if place.model != "sft":
        settings["model"] = sampled_model(recipe, place.model)
    return settings


def logit_tables(recipe: Recipe, arm: str) -> list[LogitPlace]:
    """The tables of teachers' distributions that an arm reads; those that others look up first."""
    needed = preference(recipe, arm).logit_tables(list(recipe.sources))
    looked_up = [LogitPlace(place.at, place.response) for place in needed if place.at is not None]
    return list(dict.fromkeys([*looked_up, *needed]))


def merge_stage(recipe: Recipe, name: str) -> Stage:
    settings = recipe.merges[name]
    own = partial(settings.model_dump, mode="json")
    return Stage("merge", {"name": name}, settings.inputs, own)


def scored_rows(recipe: Recipe, arm: str) -> list[tuple[str, str]]:
    """(model, rows) of every table of log-probs that an arm reads, the initial policy's first.

    The model is "sft" or a source; rows are triples, pairs, or anchors: prompts of triples with
    responses to other prompts.
    """
    needed = preference(recipe, arm).logprob_tables(list(recipe.sources))
    if any(model != "sft" for model, _ in needed):
        for source, datasets in dataset_responses(recipe.prompts).items():
            raise RecipeError(
                f"{arm} needs the log-probs of every source, and {source} has no model: its "
                f"responses come with the dataset {', '.join(datasets)}. Take `responses` out of "
                "it, or train with an objective and a reference that read no log-probs of sources"
            )
    return needed
