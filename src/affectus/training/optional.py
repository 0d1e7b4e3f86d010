"""Lightning, imported without what it only imports because it happens to be installed.

Lightning imports torchmetrics, which imports transformers, onnxruntime, librosa and others for measures that nothing
here uses, wherever it finds them: some 50 MB and two seconds in every process that trains.
"""

import contextlib
import sys
from collections.abc import Iterator

UNUSED = ("transformers", "onnxruntime", "librosa", "torchvision", "matplotlib", "nltk", "gammatone", "pystoi", "pesq")
"""What torchmetrics looks for."""


@contextlib.contextmanager
def without_unused() -> Iterator[None]:
    """Within the block, let torchmetrics find none of :data:`UNUSED`; what was imported before stays as it is.

    Afterwards the packages are found again. torchmetrics asks once, when it is imported, so a program that wants those
    of its measures as well must import torchmetrics before.
    """
    from lightning_utilities.core.imports import RequirementCache

    if "torchmetrics" in sys.modules:
        yield
        return
    asked = RequirementCache.__bool__

    def found(self: RequirementCache) -> bool:
        wanted = str(self.requirement or self.module or "")
        return not wanted.startswith(UNUSED) and asked(self)

    RequirementCache.__bool__ = found  # type: ignore[method-assign]
    try:
        yield
    finally:
        RequirementCache.__bool__ = asked  # type: ignore[method-assign]
