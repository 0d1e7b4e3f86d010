"""``python -m affectus.nn.kernels`` compiles the kernels."""

import sys

from affectus.nn.kernels.build import build


def main() -> int:
    """Compile, and say what came of it."""
    found = build()
    if not found:
        print(
            "The kernels were not compiled: they need Linux or macOS on x86-64, and a C compiler that can. Install one "
            "(or `pip install ziglang`) and run this again. affectus works without them.",
            file=sys.stderr,
        )
        return 2
    print("Compiled: " + ", ".join(path.name for path in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
