"""Nodes in order and names that are taken: in a graph of any size each change takes the same time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Order(Generic[T]):
    """Distinct items in a row: a linked list with an index, and a tuple of it that is kept until a change."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._before: dict[T | None, T | None] = {None: None}  # None stands before the first, after the last
        self._after: dict[T | None, T | None] = {None: None}
        self._row: tuple[T, ...] | None = ()
        for item in items:
            self.insert(item)

    def __iter__(self) -> Iterator[T]:
        return iter(self.row)

    def __contains__(self, item: object) -> bool:
        return item is not None and item in self._after

    @property
    def row(self) -> tuple[T, ...]:
        """The items, in order."""
        if self._row is None:
            found: list[T] = []
            item = self._after[None]
            while item is not None:
                found.append(item)
                item = self._after[item]
            self._row = tuple(found)
        return self._row

    def insert(self, item: T, before: T | None = None) -> None:
        """Put a new item before another, or at the end."""
        last = self._before[before]
        self._after[last] = self._before[before] = item
        self._before[item], self._after[item] = last, before
        self._row = None

    def remove(self, item: T) -> None:
        """Take an item out."""
        before, after = self._before.pop(item), self._after.pop(item)
        self._after[before], self._before[after] = after, before
        self._row = None


class Names:
    """Names that are taken. A name that is wanted again gets a suffix: `relu`, `relu.1`, `relu.2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}  # below are only suffixes that are taken

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def fresh(self, name: str) -> str:
        """`name`, or the first of its versions that is free."""
        if name not in self._taken:
            return name
        suffix = self._next.get(name, 1)
        while f"{name}.{suffix}" in self._taken:
            suffix += 1
        self._next[name] = suffix
        return f"{name}.{suffix}"

    def take(self, name: str) -> str:
        """Take `name`, or the first of its versions that is free, and return it."""
        found = self.fresh(name)
        self._taken.add(found)
        return found

    def free(self, name: str) -> None:
        """Give a name back."""
        self._taken.discard(name)
        stem, _, suffix = name.rpartition(".")
        if suffix.isdecimal() and stem in self._next:
            self._next[stem] = min(self._next[stem], int(suffix))
