"""A Ray cluster of two nodes on this machine, heard by it alone, shared by all tests of this folder."""

import contextlib
import importlib.util
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from affectus.cluster.session import quiet_environment
from affectus.corpus import save_corpus
from affectus.corpus.embedded import make_embedded

MARK = "AFFECTUS_TEST_CLUSTER"
"""In the environment of the cluster's own processes, so that no other is killed."""
STORE = 100 * 2**20
FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests first: pytest-xdist hands out the first tests in long runs, so one process starts a cluster."""
    items.sort(key=lambda item: FOLDER not in item.path.parents)


@pytest.fixture(scope="package")
def nodes() -> Iterator[Any]:
    """Yield the cluster: a head and a node, a core each."""
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # on a full machine it ends workers
    os.environ.setdefault("RAY_worker_niceness", "0")  # else other tests, on few cores, keep workers waiting
    quiet_environment(local=True)
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra 'cluster' is not installed")
    import ray
    from ray.cluster_utils import Cluster

    os.environ[MARK] = secrets.token_hex(8)
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


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small corpus."""
    folder = tmp_path_factory.mktemp("corpus") / "embedded"
    save_corpus(make_embedded(videos=24, emotion_labels=1.0), folder)
    return folder


def workers_named(title: str) -> list[int]:
    """Return the cluster's processes whose title has this in it."""
    mark, found = f"{MARK}={os.environ[MARK]}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            if words.startswith(b"ray::") and title.encode() in words and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


@pytest.fixture
def find_workers() -> Callable[[str], list[int]]:
    """Return what lists the cluster's processes of a title."""
    return workers_named


@pytest.fixture
def kill_worker() -> Callable[..., bool]:
    """Return what kills a worker, once there is one of a title and something is so."""

    def kill(title: str, ready: Callable[[], bool], seconds: float = 120.0, place: int = 0) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if ready():
                there = workers_named(title)
                if len(there) > place:
                    os.kill(there[place], signal.SIGKILL)
                    return True
            time.sleep(0.02)
        return False

    return kill
