"""Name -> thing, with duplicate check, did-you-mean and entry points for third parties."""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from affectus.errors import AffectusError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A closed list of named things of one kind.

    Args:
        kind: What is registered, in the singular; it stands in error messages (``model``, ``reader``).

    Third parties add to it through the entry-point group ``affectus.<kind>s``: the entry's name is not used, its
    object is imported, and importing it registers.

    >>> fruit = Registry("fruit")
    >>> fruit.add("apple", 1)
    >>> fruit["apple"], fruit.names()
    (1, ['apple'])
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}
        self._entry_points_read = False

    def add(self, name: str, thing: T) -> None:
        """Register ``thing``; a name can be taken once."""
        if name in self._things:
            raise ValueError(f"the {self.kind} {name!r} is registered twice")
        self._things[name] = thing

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates."""

        def decorate(thing: T) -> T:
            self.add(name, thing)
            return thing

        return decorate

    def _read_entry_points(self) -> None:
        if not self._entry_points_read:
            # at once, since what is loaded may ask for names itself
            self._entry_points_read = True
            group = f"affectus.{self.kind}s"
            for point in entry_points(group=group):
                try:
                    point.load()
                except Exception as error:
                    self._entry_points_read = False
                    raise AffectusError(
                        f"A package's entry point in {group!r} cannot be loaded",
                        where=f"{point.dist.name if point.dist else 'unknown package'}, {point.name} = {point.value}",
                        got=f"{type(error).__name__}: {error}",
                        remedy="Mend that package, or uninstall it",
                    ) from error

    def names(self) -> list[str]:
        """Return the registered names, sorted."""
        self._read_entry_points()
        return sorted(self._things)

    def __getitem__(self, name: str) -> T:
        self._read_entry_points()
        try:
            return self._things[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._things) from None

    def __contains__(self, name: object) -> bool:
        self._read_entry_points()
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())
