"""A Ray cluster of two nodes with one CPU each, on this machine, for all tests of this folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


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
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()
