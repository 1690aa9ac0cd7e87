"""What of a response the target is trained on: the answer, or thought and answer where the target
itself thinks."""

from __future__ import annotations

from functools import cached_property

from wrpo.chat.thoughts import Tags, split_thoughts, with_thought
from wrpo.errors import ModelError, RecipeError
from wrpo.pipeline.tables import Row, answer_of
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.prompts import dataset_responses
from wrpo.recipe.revise import revised_source
from wrpo.recipe.thinking import Thinking


class TrainedText:
    """Texts for training rows of one recipe; `thoughts` counts the responses that have some."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.thoughts = 0

    def __call__(self, response: Row) -> str:
        """The text of a row of responses that is trained on.

        Raises:
            ModelError: whether the target thinks is not known without its tokenizer, which cannot
                be loaded.
            RecipeError: its tags are control tokens, which no text may spell.
        """
        if response.get("answer_start") is None:
            return str(response["text"])
        self.thoughts += 1
        answer = answer_of(response)
        if self.tags is None:
            return answer
        theirs = self._tags_of(response["source"])
        if theirs == self.tags:
            return str(response["text"])
        thought, _, closed = split_thoughts(response["text"], theirs)
        return with_thought(thought, answer, self.tags) if closed else f"{self.tags[0]}\n{thought}"

    @cached_property
    def tags(self) -> Tags | None:
        """The target's own; None where it does not think."""
        thinking = self._recipe.target.thinking
        if thinking.thinks is False:
            return None
        from wrpo.chat.tokenizer import load_chat_tokenizer
        from wrpo.chat.tokens import added_tokens

        try:
            tokenizer = load_chat_tokenizer(self._recipe.target.model, self._recipe.target)
        except ModelError as error:
            raise ModelError(
                f"responses have thoughts, and whether the target thinks is read off its chat "
                f"template. {error} Or set target.thinking to off"
            ) from error
        style = thinking.style(tokenizer)
        if style is None:
            return None
        added = added_tokens(tokenizer)
        for tag in style.tags:
            if added.ids.get(tag) in added.special_ids:
                raise RecipeError(
                    f"target.thinking: {tag} is a control token of {self._recipe.target.model}, "
                    "which the text of a training row cannot spell; set target.thinking to off, to "
                    "train on answers only"
                )
        return style.tags

    def _tags_of(self, source: str) -> Tags:
        recipe, source = self._recipe, revised_source(source) or source
        given = dataset_responses(recipe.prompts).get(source, {}).values()
        found: list[Thinking] = [one.responses.thinking for one in given if one.responses]
        if source == TARGET:
            found = [recipe.target.thinking]
        elif source in recipe.sources:
            found = [recipe.sources[source].thinking]
        elif source in recipe.fusions:
            found = [Thinking()]
        return found[0].tags
