"""Compiles the kernels while affectus is installed from source, where there is a C compiler; else it is pure Python."""

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = Path(__file__).parent / "src" / "affectus" / "nn" / "kernels" / "build.py"


class KernelsHook(BuildHookInterface):
    """Runs ``affectus/nn/kernels/build.py``; a wheel with kernels is of one platform, for any Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        if self.target_name != "wheel":
            return
        found = runpy.run_path(str(BUILD))["build"]()
        if not found:
            self.app.display_info("No kernels: a C compiler for x86-64 was not found. affectus works without.")
            return
        build_data["artifacts"] += [str(path.relative_to(self.root)) for path in found]
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
