"""All checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator

from wrpo.doctor.checks import Finding, Patient, run_checks
from wrpo.doctor.environment import disk, gpus, packages
from wrpo.doctor.models import hub_token, templates
from wrpo.doctor.services import datasets, files, rewards, sandbox, servers
from wrpo.doctor.training import training

CHECKS = (
    packages,
    gpus,
    disk,
    hub_token,
    datasets,
    files,
    servers,
    templates,
    training,
    sandbox,
    rewards,
)


def examine(patient: Patient) -> Iterator[Finding]:
    """Findings as the checks make them."""
    yield from run_checks(CHECKS, patient)
