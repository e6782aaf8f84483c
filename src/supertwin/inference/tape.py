"""Numbers that write down what is done with them, so that the same arithmetic is done again for other sizes.

A Traced number carries a value and its place on a tape. Sums, products and the ufuncs of numpy that meet one are
written to the tape, each distinct one once; a comparison is written with its outcome, because the code that asked went
one way. Replaying gives the same results for other inputs as long as every comparison comes out the same. What would
lose the trace (float(), numpy arrays) raises Unrecorded.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

Function = Callable[[Any, Any], Any]
_FUNCTIONS: dict[str, Function] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "true_divide": operator.truediv,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "power": operator.pow,
    "maximum": lambda a, b: a if a > b else b,
    "minimum": lambda a, b: a if a < b else b,
    "ceil": lambda a, _: float(math.ceil(a)),
    "floor": lambda a, _: float(math.floor(a)),
    "negative": lambda a, _: -a,
    "sqrt": lambda a, _: math.sqrt(a),
    "exp": lambda a, _: math.exp(a),
    "expm1": lambda a, _: math.expm1(a),
    "log1p": lambda a, _: math.log1p(a),
    "log2": lambda a, _: math.log2(a),
}
_COMPARISONS: dict[str, Function] = {
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}


class Unrecorded(TypeError):
    """A traced number went where its trace would be lost."""


class Tape:
    """What is done with some inputs, in order. values: of every place, in the recording itself."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.inputs: list[int] = []
        self.steps: list[tuple[Function, int, int, int]] = []
        self.guards: dict[tuple[Function, int, int], bool] = {}
        self._constants: dict[float, int] = {}
        self._known: dict[tuple[str, int, int], int] = {}

    def entry(self, value: float) -> Traced:
        """A new input."""
        self.inputs.append(len(self.values))
        return self._put(float(value))

    def place(self, number: Any) -> int:
        """Place of a traced or plain number. Raises Unrecorded for anything else."""
        if type(number) is Traced:
            return number.place
        if not isinstance(number, (int, float)):
            raise Unrecorded(f"a {type(number).__name__} beside a traced number")
        found = self._constants.get(number)
        if found is None:
            found = self._constants[number] = len(self.values)
            self.values.append(float(number))
        return found

    def apply(self, name: str, *given: Any) -> Any:
        """The result of a function by its numpy name; of a comparison, its outcome."""
        first, second = self.place(given[0]), self.place(given[-1])
        if name in _COMPARISONS:
            test = _COMPARISONS[name]
            outcome = bool(test(self.values[first], self.values[second]))
            self.guards[(test, first, second)] = outcome
            return outcome
        if name not in _FUNCTIONS:
            raise Unrecorded(f"{name} of a traced number")
        key = (name, first, second)
        if key not in self._known:
            function = _FUNCTIONS[name]
            self._known[key] = len(self.values)
            self.steps.append((function, first, second, len(self.values)))
            self._put(function(self.values[first], self.values[second]))
        return Traced(self, self._known[key])

    def _put(self, value: float) -> Traced:
        self.values.append(value)
        return Traced(self, len(self.values) - 1)

    def cut(self, wanted: Iterable[int]) -> tuple[Replay, dict[int, int]]:
        """What is needed for some places and for all comparisons, and where those places are in it."""
        needed = {*wanted, *(place for _, *pair in self.guards for place in pair)}
        live = []
        for step in reversed(self.steps):
            if step[3] in needed:
                needed.update(step[1:3])
                live.append(step)
        made = {step[3] for step in live}
        fixed = sorted(needed - made - set(self.inputs))
        at = {old: new for new, old in enumerate([*self.inputs, *fixed, *(step[3] for step in reversed(live))])}
        steps = tuple((function, at[i], at[j]) for function, i, j, _ in reversed(live))
        guards = tuple((test, at[i], at[j], outcome) for (test, i, j), outcome in self.guards.items())
        return Replay(tuple(self.values[i] for i in fixed), steps, guards), at


@dataclass(frozen=True, slots=True)
class Replay:
    """A tape without what nobody needs. constants follow the inputs, results of the steps follow them."""

    constants: tuple[float, ...]
    steps: tuple[tuple[Function, int, int], ...]
    guards: tuple[tuple[Function, int, int, bool], ...]

    def values(self, inputs: Sequence[float]) -> list[float] | None:
        """All values for other inputs; None where a comparison comes out otherwise."""
        out = [*inputs, *self.constants]
        add = out.append
        for function, i, j in self.steps:
            add(function(out[i], out[j]))
        for test, i, j, outcome in self.guards:
            if test(out[i], out[j]) is not outcome:
                return None
        return out


def _binary(name: str) -> tuple[Any, Any]:
    def forward(self: Traced, other: Any) -> Any:
        return self.tape.apply(name, self, other)

    def backward(self: Traced, other: Any) -> Any:
        return self.tape.apply(name, other, self)

    return forward, backward


class Traced:
    """A number on a tape."""

    __slots__ = ("place", "tape")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tape: Tape, place: int) -> None:
        self.tape, self.place = tape, place

    __add__, __radd__ = _binary("add")
    __sub__, __rsub__ = _binary("subtract")
    __mul__, __rmul__ = _binary("multiply")
    __truediv__, __rtruediv__ = _binary("true_divide")
    __floordiv__, __rfloordiv__ = _binary("floor_divide")
    __pow__, __rpow__ = _binary("power")
    __lt__, _ = _binary("less")
    __le__, _ = _binary("less_equal")
    __gt__, _ = _binary("greater")
    __ge__, _ = _binary("greater_equal")
    __eq__, _ = _binary("equal")
    __ne__, _ = _binary("not_equal")

    def __neg__(self) -> Any:
        return self.tape.apply("negative", self)

    def __bool__(self) -> bool:
        return bool(self != 0.0)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *given: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise Unrecorded(f"{ufunc.__name__}.{method} of a traced number")
        return self.tape.apply(ufunc.__name__, *given)

    def _lost(self, *_: Any, **__: Any) -> NoReturn:
        raise Unrecorded("a traced number as a plain one")

    __float__ = __int__ = __index__ = __round__ = __array__ = __len__ = __iter__ = _lost
