"""Where the answers of a source go."""

from __future__ import annotations

from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline


def sampling_folder(pipeline: Pipeline, source: str, limit: int | None) -> StageFolder:
    """The folder of a sampling stage; with a limit on prompts, one beside it with its own key."""
    stage = f"sample/{source}"
    path, key = pipeline.folder(stage), pipeline.key(stage)
    if limit is None:
        return StageFolder(path, key)
    return StageFolder(path.with_name(f"{path.name}.limit-{limit}"), {**key, "limit": limit})
