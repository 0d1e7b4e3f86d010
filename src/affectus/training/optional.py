"""Lightning, imported without what it only imports because it happens to be installed.

Lightning imports torchmetrics, which imports transformers, onnxruntime, librosa and others for measures that nothing
here uses, wherever it finds them: some 50 MB and two seconds in every process that trains. SciPy, which it imports to
give it back an old name, takes another 60 MB; affectus imports SciPy where it needs it.
"""

import contextlib
import sys
from collections.abc import Iterator

UNUSED = (
    "transformers",
    "onnxruntime",
    "librosa",
    "torchvision",
    "matplotlib",
    "nltk",
    "gammatone",
    "pystoi",
    "pesq",
    "scipy",
)
"""What torchmetrics looks for."""


@contextlib.contextmanager
def without_unused() -> Iterator[None]:
    """Within the block, let torchmetrics find none of :data:`UNUSED`; what was imported before stays as it is.

    Afterwards the packages are found again. torchmetrics asks once, when it is imported, so a program that wants those
    of its measures as well must import torchmetrics before.
    """
    from lightning_utilities.core import imports

    RequirementCache, installed = imports.RequirementCache, imports.package_available
    if "torchmetrics" in sys.modules:
        yield
        return
    asked = RequirementCache.__bool__

    def found(self: imports.RequirementCache) -> bool:
        wanted = str(self.requirement or self.module or "")
        return not wanted.startswith(UNUSED) and asked(self)

    RequirementCache.__bool__ = found  # type: ignore[method-assign]
    imports.package_available = lambda name: not name.startswith(UNUSED) and installed(name)  # type: ignore[assignment]
    try:
        yield
    finally:
        RequirementCache.__bool__ = asked  # type: ignore[method-assign]
        imports.package_available = installed
