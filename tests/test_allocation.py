"""Memory that training keeps between its steps."""

import os
import subprocess
import sys

import pytest

from affectus.allocation import SETTINGS

CODE = """
import resource, numpy
from affectus.allocation import keeping_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        numpy.ones(4 << 20, dtype=numpy.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

with keeping_freed_memory():
    blocks = [numpy.ones(8 << 20, dtype=numpy.float32) for _ in range(4)]
    held = resident()
    del blocks
    faults()
    print(faults(), held - resident())
print(held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's C library")
def test_pages_are_kept_between_steps_and_given_back_afterwards() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    kept, within, after = map(int, subprocess.check_output([sys.executable, "-c", CODE], env=environment).split())
    assert within < 64
    assert after > 100
    environment["MALLOC_TRIM_THRESHOLD_"] = "131072"  # the user's own decision
    given_back, _, _ = map(int, subprocess.check_output([sys.executable, "-c", CODE], env=environment).split())
    assert given_back > 100 + 10 * kept  # pages of 4 KiB, of 20 times 16 MiB; or some of 2 MiB
