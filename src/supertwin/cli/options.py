"""Command-line options as data: one row per flag drives parsing, checking, defaults and the help text."""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from supertwin.core.errors import InputError, UnknownName

Value = str | int | float | bool | list[str] | None
Values = Mapping[str, Value]

_LARGEST = 10**15
_LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Option:
    """One `--flag`.

    kind: int | float | str | list (may be repeated; joined with commas) | path | switch (present or not) | yesno
    (--flag / --no-flag). choices: closed list.
    minimum (inclusive unless `above`) and maximum bound numbers. default: text for the help of what happens without it.
    form: what the help shows for the value where the kind does not say enough.
    """

    flag: str
    kind: str
    help: str
    default: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False
    form: str = ""

    @property
    def name(self) -> str:
        """Key among the values: the flag without dashes, `from_` for a word that Python reserves."""
        name = self.flag.removeprefix("--").replace("-", "_")
        return name + "_" if keyword.iskeyword(name) else name

    @property
    def metavar(self) -> str:
        """What the help shows for the value."""
        if self.form or self.choices:
            return self.form or "|".join(self.choices)
        return {"int": "N", "float": "X", "path": "PATH"}.get(self.kind, "NAME")

    def parse(self, given: str) -> Value:
        """Value of the text that was given. Raises InputError."""
        if self.choices:
            return self._choice(given)
        if self.kind == "int":
            return self._bounded(_whole(given), given, "a whole number")
        if self.kind == "float":
            return self._bounded(_real(given), given, "a number")
        if not given.strip():
            raise InputError(f"{self.flag}: expected a value, got an empty one")
        return given

    def _choice(self, given: str) -> str:
        """The choice in its own spelling; upper and lower case are the same."""
        found = {choice.lower(): choice for choice in self.choices}.get(given.strip().lower())
        if found is None:
            raise UnknownName(f"value of {self.flag}", given, self.choices)
        return found

    def _bounded(self, number: float | None, given: str, what: str) -> int | float:
        low = -_LARGEST if self.minimum is None else self.minimum
        high = _LARGEST if self.maximum is None else self.maximum
        if number is None or not low <= number <= high or (self.above and number == low):
            bounds = f"{'above' if self.above else 'of at least'} {low:g}"
            if self.maximum is not None or (number is not None and number > high):
                bounds += f" and at most {high:g}"
            raise InputError(f"{self.flag}: expected {what} {bounds}, got {shorten(given)!r}")
        return number


@dataclass(frozen=True, slots=True)
class Argument:
    """One positional word; many takes one or more; an optional one may be absent (None)."""

    name: str
    help: str
    many: bool = False
    least: int = 1
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: what it takes and the function that runs it and returns the exit code.

    brief: one line for the list of commands; help: the sentence of its own help.
    """

    name: str
    brief: str
    help: str
    examples: Sequence[str]
    run: Callable[[Values], int]
    arguments: Sequence[Argument] = ()
    options: Sequence[Option] = ()

    @property
    def all_options(self) -> Sequence[Option]:
        """Own options and those that every command has."""
        return (*self.options, JSON, EXPLAIN)

    def values(self, raw: Mapping[str, object]) -> dict[str, Value]:
        """Checked values from what the parser gives. Raises InputError."""
        values: dict[str, Value] = {}
        for argument in self.arguments:
            given = raw[argument.name]
            if given is None and argument.optional:
                values[argument.name] = None
                continue
            words = [str(word) for word in given] if isinstance(given, list | tuple) else [str(given)]
            if len(words) < argument.least:
                least = f"{argument.least} {argument.name.upper()}"
                raise InputError(f"{self.name}: expected at least {least}, got {len(words)}")
            if not all(word.strip() for word in words):
                raise InputError(f"{self.name}: expected a {argument.name.upper()}, got an empty one")
            values[argument.name] = words if argument.many else words[0]
        for option in self.all_options:
            given = raw[option.name]
            if isinstance(given, list | tuple):
                given = ",".join(str(word) for word in given) if given else None
            values[option.name] = (
                option.parse(given) if isinstance(given, str) else None if given is None else bool(given)
            )
        return values


JSON = Option("--json", "switch", "one JSON object on stdout")
EXPLAIN = Option("--explain", "switch", "show what bounds it and which numbers it stands on, with sources")


def shorten(text: str) -> str:
    """Text for a message, cut when long."""
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _whole(text: str) -> int | None:
    digits = text.strip().removeprefix("-").removeprefix("+")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def _real(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
