"""Lightning, imported without what it only imports because it happens to be installed.

Lightning imports torchmetrics, which imports transformers, onnxruntime, librosa and others for measures that nothing
here uses, wherever it finds them: some 50 MB and two seconds in every process that trains. SciPy, which it imports to
give it back an old name, takes another 60 MB; affectus imports SciPy where it needs it. PyTorch's compiler, which
Lightning imports to recognise compiled modules and PyTorch's optimisers to tell it where to stop, takes 70 MB and more
than a second.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

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

COMPILER = "torch._dynamo"


class _Compiled(type):
    """The class of a class that compiled modules belong to, of which there are none without the compiler."""

    def __instancecheck__(cls, instance: object) -> bool:
        loaded = sys.modules.get(COMPILER)
        return loaded is not None and not isinstance(loaded, _Compiler) and isinstance(instance, loaded.OptimizedModule)


class _Compiler(ModuleType):
    """Stands for PyTorch's compiler until more is asked of it than it can say that is not at work."""

    class OptimizedModule(torch.nn.Module, metaclass=_Compiled):
        """What Lightning compares with."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing: nothing is being compiled."""

    @staticmethod
    def disable(fn: Any = None, *_: Any, **__: Any) -> Any:
        """Return a function as it is; without one, what does so."""
        same: Callable[[Any], Any] = lambda function: function  # noqa: E731
        return same if fn is None else fn

    def __getattr__(self, name: str) -> Any:
        # who goes through all modules that there are asks each for names like __warningregistry__
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
            del torch._dynamo
        return getattr(importlib.import_module(COMPILER), name)


def use_compiler() -> None:
    """Put PyTorch's compiler in the place of its stand-in, for what has to find all of it from the start."""
    loaded = sys.modules.get(COMPILER)
    if isinstance(loaded, _Compiler):
        _ = loaded.config  # or whatever else it lacks


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Let its stand-in be imported in the block, and stay until the compiler is used."""
    spec = None if COMPILER in sys.modules else importlib.util.find_spec(COMPILER)
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    compiler = _Compiler(COMPILER)
    compiler.__spec__, compiler.__file__ = spec, spec.origin
    # where it is set, names can be imported from the module; where it is not, whoever imports a part of it asks for it
    compiler.__path__ = spec.submodule_search_locations
    sys.modules[COMPILER] = torch._dynamo = compiler
    try:
        yield
    finally:
        del compiler.__path__


@contextlib.contextmanager
def without_unused() -> Iterator[None]:
    """Within the block, let torchmetrics find none of :data:`UNUSED`; what was imported before stays as it is.

    Afterwards the packages are found again. torchmetrics asks once, when it is imported, so a program that wants those
    of its measures as well must import torchmetrics before. PyTorch's compiler stays away until it is used.
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
        with _without_compiler():
            yield
    finally:
        RequirementCache.__bool__ = asked  # type: ignore[method-assign]
        imports.package_available = installed
