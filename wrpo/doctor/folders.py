"""The finished folders of the run, whole: rows, keys and digests."""

from __future__ import annotations

from collections.abc import Iterator

from wrpo.doctor.checks import CheckContext, Finding
from wrpo.errors import DataError
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.integrity import check_folder
from wrpo.pipeline.pipeline import Pipeline


def finished_stages(patient: CheckContext) -> Iterator[Finding]:
    """What is finished holds what its manifest says."""
    pipeline = Pipeline(patient.recipe)
    whole = 0
    for name in pipeline.stages:
        folder = pipeline.folder(name)
        manifest = read_manifest(folder)
        if manifest is None or not manifest["complete"]:
            continue
        try:
            check_folder(folder, manifest, digests=True)
            whole += 1
        except DataError as error:
            yield Finding("problem", name, str(error), pipeline.shell_command(name))
    if whole:
        yield Finding("ok", "finished stages", f"{whole} hold what their manifests say")
