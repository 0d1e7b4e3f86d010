"""A Ray cluster of two nodes on this machine, heard by it alone, shared by all tests of this folder."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affectus.cluster.session import quiet_environment

STORE = 100 * 2**20
FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests first: pytest-xdist hands out the first tests in long runs, so one process starts a cluster."""
    items.sort(key=lambda item: FOLDER not in item.path.parents)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Any]:
    """Yield the cluster: a head and a node, a core each."""
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # on a full machine it ends workers
    os.environ.setdefault("RAY_worker_niceness", "0")  # else other tests, on few cores, keep workers waiting
    quiet_environment(local=True)
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra 'cluster' is not installed")
    import ray
    from ray.cluster_utils import Cluster

    # the machines' own processes must find this source tree
    source = str(FOLDER.resolve().parents[1] / "src")
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    node = {"num_cpus": 1, "object_store_memory": STORE}
    found = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    found.add_node(**node)
    ray.init(address=found.address, log_to_driver=False, logging_level="error")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture
def second(nodes: Any) -> Any:
    """Return the second node; a test that removes it gets a new one for the next."""
    workers = list(nodes.worker_nodes)
    return workers[0] if workers else nodes.add_node(num_cpus=1, object_store_memory=STORE)
