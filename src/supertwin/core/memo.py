"""Results kept by the identity of large unchanging objects: to hash them would take longer than the work."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class ByIdentity(Generic[Given, Result]):
    """A function that remembers its last results by the identity of its first arguments and the values of the others,
    which are hashable; all are forgotten when there are too many. Keeping the objects keeps their identity."""

    def __init__(self, function: Callable[Given, Result], most: int, owners: int) -> None:
        self._function, self._most, self._owners = function, most, owners
        self._known: dict[Hashable, tuple[tuple[Any, ...], Result]] = {}
        update_wrapper(self, function)

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        owners = args[: self._owners]
        key: tuple[Any, ...] = (*map(id, owners), *args[self._owners :])
        if kwargs:
            key += tuple(kwargs.items())
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            found = self._known[key] = (owners, self._function(*args, **kwargs))
        return found[1]

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def by_identity(most: int, owners: int = 1) -> Callable[[Callable[Given, Result]], ByIdentity[Given, Result]]:
    """Decorator: keep at most so many results by the identity of the first `owners` arguments."""

    def decorate(function: Callable[Given, Result]) -> ByIdentity[Given, Result]:
        return ByIdentity(function, most, owners)

    return decorate
