"""Exploration: prompts that a model makes up for a domain, sub-task by sub-task."""

from __future__ import annotations

from pydantic import Field

from wrpo.settings import Section, Share


class Explore(Section):
    """Prompts of a domain by active exploration (Explore-Instruct, arXiv 2310.09168)."""

    judge: str = Field(description="Name under `judges`: who explores; give it a temperature.")
    task: str = Field(min_length=3, description="What the prompts are about, in a few words.")
    prompts: int = Field(ge=1, description="How many prompts are drawn from what is found.")
    depth: int = Field(2, ge=0, le=6, description="Levels of sub-tasks below the task.")
    children: int = Field(6, ge=1, description="Most sub-tasks of a task.")
    examples: int = Field(20, ge=1, description="Most prompts that are kept of a sub-task.")
    tries: int = Field(3, ge=1, description="How often one task is asked for more of either.")
    max_requests: int = Field(
        500, ge=1, description="Most requests to the judge; what is found by then is taken."
    )
    similarity: Share = Field(
        0.7, description="ROUGE-L above which one of two sub-tasks, or two prompts, is left out."
    )
    min_words: int = Field(3, ge=1, description="Shorter prompts are left out.")
    max_words: int = Field(150, ge=1, description="Longer prompts are left out.")
