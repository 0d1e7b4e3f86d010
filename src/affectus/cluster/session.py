"""A connection to a Ray cluster: one that is there, or one of this machine's cores, heard by this machine alone."""

import contextlib
import importlib
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from affectus.errors import AffectusError

LOCAL, AUTO = "local", "auto"
STORE_BYTES = 150 * 2**20
"""Shared memory of a cluster that is started here. Results are files, so next to nothing goes through it."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would tell its makers of each cluster
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""The setting by which Ray's processes listen on the loopback address alone; in spite of its name it is for all."""
TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_ADDRESS = re.compile(r"(ray://)?[A-Za-z0-9_.\-\[\]:]+:\d+")


def parse_address(text: str) -> str:
    """Check the address of a cluster.

    Raises:
        AffectusError: it is none.

    >>> parse_address("10.0.0.7:6379")
    '10.0.0.7:6379'
    """
    if not is_address(text):
        raise AffectusError(
            "The address of the cluster is not right",
            got=repr(text),
            expected="local (this machine), auto (the one that runs here) or HOST:PORT",
        )
    return text


def is_address(text: str) -> bool:
    """Return whether a word may be the address of a cluster."""
    return text in (LOCAL, AUTO) or _ADDRESS.fullmatch(text) is not None


def quiet_environment(local: bool) -> Mapping[str, str]:
    """Set, where the user did not, what keeps Ray from telling others; it is read when Ray is imported."""
    for name, value in {**QUIET, **(LOOPBACK if local else {})}.items():
        os.environ.setdefault(name, value)
    if local and not any(name in os.environ for name in TOKEN):
        # else Ray would keep a token of its own making in the user's folder
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    return os.environ


def import_ray() -> Any:
    """Import Ray.

    Raises:
        AffectusError: it is not there.
    """
    quiet_environment(local=False)
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise AffectusError(
            "Work on a cluster needs the package ray", remedy="Install it with: pip install 'affectus[cluster]'"
        ) from None


@dataclass(frozen=True)
class Cluster:
    """A cluster to work on.

    Attributes:
        address: ``local`` starts one of this machine's cores, which ends with the work; ``auto`` takes the one that
            runs on this machine; else ``HOST:PORT``.
        workers: at most so many at once; None for as many as there are cores.
        threads: cores of each worker.
        gpus: of each worker, perhaps a share of one.
    """

    address: str = LOCAL
    workers: int | None = None
    threads: int = 1
    gpus: float = 0.0

    def check(self) -> None:
        """Find out early that Ray is missing, or that the address is none.

        Raises:
            AffectusError: so it is.
        """
        parse_address(self.address)
        quiet_environment(self.address == LOCAL)
        import_ray()

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Connect, and yield Ray; within a connection that is there already, use that.

        Raises:
            AffectusError: Ray is missing, or there is no cluster at the address.
        """
        self.check()
        ray = import_ray()
        if ray.is_initialized():
            yield ray
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address == LOCAL:
            options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
            if self.workers is not None:
                options["num_cpus"] = self.workers * self.threads
        try:
            ray.init(address=self.address, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise AffectusError(
                "No cluster answers",
                where=self.address,
                got=" ".join(str(error).split())[:200],
                remedy="Start one with: ray start --head, or use --cluster=local",
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()

    def places(self, ray: Any) -> int:
        """Return how many workers there is room for."""
        there = ray.cluster_resources()
        room = int(there.get("CPU", 1) // self.threads)
        if self.gpus:
            room = min(room, int(there.get("GPU", 0) // self.gpus))
        return max(1, min(room, self.workers or room))
