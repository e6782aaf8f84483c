"""Reading a config.json field by field: every field is checked when it is read, and every complaint names it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from supertwin.core.errors import ModelError

LARGEST = 1 << 24


class Config:
    """A config.json as a mapping of fields. JSON null counts as absent.

    Raises ModelError with the model, the field, what was given and what was expected.
    """

    def __init__(self, values: Mapping[str, object], name: str) -> None:
        self.values, self.name = values, name

    def has(self, *fields: str) -> bool:
        """Whether any of the fields is given."""
        return any(self.values.get(f) is not None for f in fields)

    def error(self, message: str) -> ModelError:
        """A ModelError about this model, to be raised by the caller."""
        return ModelError(f"model {self.name}: {message}")

    def _find(self, fields: Sequence[str]) -> tuple[str, object]:
        for field in fields:
            if self.values.get(field) is not None:
                return field, self.values[field]
        return fields[0], None

    def integer(self, *fields: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """The first of `fields` that is given, as a whole number in [least, most]; default None = required."""
        field, value = self._find(fields)
        if value is None:
            if default is None:
                raise self.error(f"field {' or '.join(fields)} is missing (a whole number)")
            return default
        return self._whole(field, value, least, most)

    def _whole(self, field: str, value: object, least: int, most: int) -> int:
        whole = not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
        )
        if not whole or not least <= value <= most:  # type: ignore[operator]
            raise self.error(f"{field} is {short(value)}, expected a whole number from {least} to {most}")
        return int(value)  # type: ignore[call-overload, no-any-return]

    def number(self, *fields: str, default: float) -> float:
        """A finite positive number."""
        field, value = self._find(fields)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise self.error(f"{field} is {short(value)}, expected a positive number")
        return float(value)

    def flag(self, *fields: str, default: bool) -> bool:
        """true or false."""
        field, value = self._find(fields)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(f"{field} is {short(value)}, expected true or false")
        return value

    def text(self, *fields: str, default: str = "") -> str:
        """A string."""
        field, value = self._find(fields)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(f"{field} is {short(value)}, expected a string")
        return value

    def whole_numbers(self, field: str, least: int = 0, most: int = LARGEST) -> list[int]:
        """A list of whole numbers; absent = empty."""
        return [self._whole(field, v, least, most) for v in self._list(field)]

    def texts(self, field: str) -> list[str]:
        """A list of strings; absent = empty."""
        values = self._list(field)
        if not all(isinstance(v, str) for v in values):
            raise self.error(f"{field} is {short(values)}, expected a list of strings")
        return [str(v) for v in values]

    def _list(self, field: str) -> Sequence[object]:
        value = self.values.get(field)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"{field} is {short(value)}, expected a list")
        return value

    def section(self, field: str) -> Config:
        """A nested object as a Config of its own; absent = empty."""
        value = self.values.get(field)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error(f"{field} is {short(value)}, expected an object")
        return Config(value, f"{self.name}, {field}")

    def divides(self, divisor: int, number: int, what: str) -> int:
        """number / divisor, or a ModelError that shows the arithmetic."""
        if number % divisor:
            raise self.error(f"{what}: {number} is not a multiple of {divisor}")
        return number // divisor


def short(value: object, most: int = 40) -> str:
    """A value as shown in messages, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."
