"""A Ray cluster of two nodes with one CPU each, on this machine, for all tests of this folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_server import FAST_PYTHON
from tests.support.commands import FORKED_PYTHON, start_server


@pytest.fixture(scope="session")
def toy_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where toys remember that they have died; workers inherit it from the cluster."""
    return tmp_path_factory.mktemp("once")


@pytest.fixture(scope="session")
def two_nodes(toy_once: Path) -> Iterator[str]:
    """Address of the cluster."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ |= {
        "TOY_ONCE": str(toy_once),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_process_group_cleanup_enabled": "true",
        "RAY_raylet_start_wait_time_s": "300",
    }
    start_server()
    subprocess.run([*FORKED_PYTHON.split(), "-c", "pass"], check=True)  # Ray waits less long
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(FAST_PYTHON))  # of which workers become forks
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()
