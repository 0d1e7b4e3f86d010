"""``python -m affectus.nn.kernels`` compiles the kernels."""

import sys

from affectus.nn.kernels.build import HERE, build


def main() -> int:
    """Compile, and say what came of it."""
    try:
        found = build()
    except OSError as error:  # of a folder that is not ours to write to, or has no room
        print(f"The kernels were not compiled into {HERE}: {error.strerror}. affectus works without.", file=sys.stderr)
        return 2
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
