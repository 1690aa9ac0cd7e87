"""Whether a model of the recipe thinks before it answers, and how it writes that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from wrpo.chat.thoughts import THINK, Tags, ThinkingStyle, style_of
from wrpo.settings import Section

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHORT: dict[Any, dict[str, Any]] = {
    "auto": {},
    "on": {"thinks": True},
    "off": {"thinks": False},
    True: {"thinks": True},
    False: {"thinks": False},
}


class Thinking(Section):
    """Thoughts of a model; in short `thinking: auto`, `on` or `off`."""

    thinks: bool | None = Field(
        None,
        description="Whether it writes thoughts. Unset: where its chat template has one of the "
        "tags, and the generation prompt does not close a thought.",
    )
    tags: Tags = Field(THINK, description="What opens a thought, and what closes it.")
    opened: bool | None = Field(
        None,
        description="Whether the generation prompt opens the thought, so that responses lack the "
        "opening tag. Unset: as the chat template does, or, with `api: chat`, no.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Variables of the chat template, e.g. enable_thinking: false; in training and "
        "evaluation too.",
    )

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, given: Any) -> Any:
        if isinstance(given, str | bool):
            if given not in _SHORT:
                raise ValueError(f"must be auto, on or off, or a section, not {given!r}")
            return _SHORT[given]
        return given

    @field_validator("tags")
    @classmethod
    def _distinct(cls, tags: Tags) -> Tags:
        if not all(tag.strip() for tag in tags) or tags[0] == tags[1]:
            raise ValueError(f"must be two different texts, not {list(tags)}")
        return tags

    @field_validator("chat_template_kwargs")
    @classmethod
    def _names_of_variables(cls, variables: dict[str, Any]) -> dict[str, Any]:
        for name in variables:
            if not name.isidentifier() or name in ("messages", "add_generation_prompt"):
                raise ValueError(f'"{name}" is no variable of a chat template that can be set')
        return variables

    def style(self, tokenizer: PreTrainedTokenizerBase | None) -> ThinkingStyle | None:
        """How the model writes its thoughts; None: it writes none.

        Args:
            tokenizer: the model's, with the template that makes the prompts; None where a server
                renders them: then a model thinks if its settings say so.

        Raises:
            TemplateError: the tokenizer has no chat template.
        """
        if tokenizer is None:
            thinks = self.opened if self.thinks is None else self.thinks
            found = ThinkingStyle(self.tags) if thinks else None
        else:
            found = style_of(tokenizer, self.tags, thinks=self.thinks)
        if found is None or self.opened in (None, bool(found.opened)):
            return found
        return found._replace(opened=f"{self.tags[0]}\n" if self.opened else "")

    def settings(self) -> dict[str, Any]:
        """What is set, for keys; nothing where all is unset."""
        return self.model_dump(mode="json", exclude_defaults=True)
