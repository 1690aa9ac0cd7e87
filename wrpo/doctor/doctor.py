"""All checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator

from wrpo.doctor.checks import CheckContext, Finding, run_checks
from wrpo.doctor.environment import disk, gpus, packages
from wrpo.doctor.folders import finished_stages
from wrpo.doctor.models import context_lengths, hub_token, templates
from wrpo.doctor.services import datasets, files, rewards, sandbox, servers
from wrpo.doctor.training import training_checks

CHECKS = (
    packages,
    gpus,
    disk,
    hub_token,
    datasets,
    files,
    finished_stages,
    servers,
    templates,
    context_lengths,
    training_checks,
    sandbox,
    rewards,
)


def examine(context: CheckContext) -> Iterator[Finding]:
    """Findings as the checks make them."""
    yield from run_checks(CHECKS, context)
