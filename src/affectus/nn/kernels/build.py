"""Compiles the kernels: ``python -m affectus.nn.kernels``. The installation does it where there is a compiler.

Nothing of affectus is imported here, since the package is not there yet while it is being built.
"""

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "kernels.c"
"""What is compiled; it includes the headers beside it."""
FLAGS = (
    *("-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-std=c11"),
    # what lets loops become vector instructions and keeps their results: no error numbers, no traps, fused products
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast"),
)
LEVELS = {
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "avx2": ("-march=x86-64-v3",),
}
"""Instructions of the processor that a library may use; with fewer, PyTorch's operators are faster."""


def stamp() -> str:
    """Return what tells the source of a library."""
    source = b"".join(path.read_bytes() for path in [SOURCE, *sorted(SOURCE.parent.glob("*.h"))])
    return hashlib.sha256(source).hexdigest()[:16]


def library(level: str) -> Path:
    """Return where the library of a level lies."""
    return HERE / f"kernels-{level}.so"


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler: ``CC``, the one that Python was built with, a usual one, that of ziglang."""
    named = [os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"]
    for command in filter(None, named):
        words = shlex.split(command)[:1]
        if words and shutil.which(words[0]):
            return words
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def build() -> list[Path]:
    """Compile the kernels next to their source.

    Returns:
        The libraries; none where there is no compiler, or not one that can.
    """
    compiler = find_compiler()
    if compiler is None or os.name != "posix" or platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    return [found for level, flags in LEVELS.items() if (found := _compile(compiler, level, flags))]


def _compile(compiler: list[str], level: str, flags: tuple[str, ...]) -> Path | None:
    target = library(level)
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".build-") as folder:
        made = Path(folder) / target.name
        if "ziglang" in compiler:  # which has names of its own for them
            flags = tuple(flag.replace("x86-64-", "x86_64_") for flag in flags)
        command = [*compiler, *FLAGS, *flags, f'-DSTAMP="{stamp()}"', str(SOURCE), "-o", str(made), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"The kernels for {level} were not compiled: {done.stderr.strip()[-400:]}", file=sys.stderr)
            return None
        made.replace(target)
    return target
