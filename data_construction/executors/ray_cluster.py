"""Connection to a Ray cluster, and how many replicas it has room for."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data_construction.executors.job import Needs
from wrpo.errors import RecipeError, StageError
from wrpo.processes import keeping_signals
from wrpo.recipe.executor import RayExecutor

logger = logging.getLogger(__name__)

_CONNECT_S = 10.0


@contextmanager
def connected(executor: RayExecutor) -> Iterator[None]:
    """Connects this process to the cluster; a cluster of our own ends with the block.

    Raises:
        RecipeError: Ray is not installed, or nothing answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise RecipeError(
            f"executor.type: ray needs Ray ({error}); install it: pip install 'wrpo[ray]'"
        ) from error
    if ray.is_initialized():
        yield
        return
    _refuse_unreachable(executor.address)
    # Engines that outlive a killed worker would keep its GPU memory.
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A busy machine may need more than Ray's 60 seconds to start.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
    options: dict[str, Any] = {"logging_level": logging.WARNING}
    if executor.address is None:
        options["include_dashboard"] = False
    try:
        with keeping_signals():
            ray.init(address=executor.address or "local", **options)
    except ConnectionError as error:
        raise _no_cluster(executor.address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str | None) -> None:
    """Ray itself would try for minutes."""
    if address in (None, "auto"):
        return
    host, port = address.removeprefix("ray://").rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: OSError) -> RecipeError:
    return RecipeError(
        f"executor.address: no Ray cluster answers at {address} ({error}); start one "
        "(recipes/launch/), or set executor.address=null for one on this machine alone"
    )


def replica_needs(gpus: int, cpus: int) -> Needs:
    """What a replica asks Ray for: GPUs where the cluster has any, else as many times the CPUs."""
    import ray

    if gpus and not ray.cluster_resources().get("GPU"):
        logger.warning("the Ray cluster has no GPUs: replicas run on CPUs")
        return Needs(gpus=0, cpus=gpus * cpus)
    return Needs(gpus=gpus, cpus=cpus)


def room_for(needs: Needs) -> int:
    """How many replicas fit on the machines of the cluster; none spans two machines.

    Raises:
        StageError: not one.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(machine, needs) for machine in machines)
    if not room:
        has = ", ".join(
            f"{machine.get('GPU', 0):.0f} GPUs and {machine.get('CPU', 0):.0f} CPUs"
            for machine in machines
        )
        raise StageError(
            f"a replica needs {needs.gpus} GPUs and {needs.cpus} CPUs on one machine; the machines "
            f"of the Ray cluster have {has}. Lower engine.tensor_parallel_size x "
            "pipeline_parallel_size or executor.cpus_per_replica, or serve the model over several "
            "machines with vllm serve and sample it with engine.backend: openai"
        )
    return room


def _room(machine: dict[str, float], needs: Needs) -> int:
    by_gpu = machine.get("GPU", 0) // needs.gpus if needs.gpus else machine.get("CPU", 0)
    return int(min(by_gpu, machine.get("CPU", 0) // needs.cpus))
