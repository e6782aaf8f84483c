"""Results kept by the identity of a large unchanging object: to hash it would take longer than the work."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import update_wrapper
from typing import Concatenate, Generic, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Rest = ParamSpec("Rest")
Result = TypeVar("Result")


class ByIdentity(Generic[Owner, Rest, Result]):
    """A function of an object and hashable arguments that remembers its last results; all are forgotten when there are
    too many. Keeping the object keeps its identity."""

    def __init__(self, function: Callable[Concatenate[Owner, Rest], Result], most: int) -> None:
        self._function, self._most = function, most
        self._known: dict[Hashable, tuple[Owner, Result]] = {}
        update_wrapper(self, function)

    def __call__(self, owner: Owner, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        key = (id(owner), args, *kwargs.items()) if kwargs else (id(owner), args)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            found = self._known[key] = (owner, self._function(owner, *args, **kwargs))
        return found[1]

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def by_identity(
    most: int,
) -> Callable[[Callable[Concatenate[Owner, Rest], Result]], ByIdentity[Owner, Rest, Result]]:
    """Decorator: keep at most so many results of a function by the identity of its first argument."""

    def decorate(function: Callable[Concatenate[Owner, Rest], Result]) -> ByIdentity[Owner, Rest, Result]:
        return ByIdentity(function, most)

    return decorate
