"""Writing results: one JSON object or rendered text on stdout."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_PLAIN_WIDTH = 100


def write_json(command: str, fields: Mapping[str, Any]) -> None:
    """Print one object with its schema name; numbers that JSON cannot hold become null."""
    json.dump({"schema": f"supertwin.{command}/1", **_plain(dict(fields))}, sys.stdout, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def write_text(*parts: RenderableType) -> None:
    """Print rendered parts: as wide as the terminal, else 100 columns; colour on a terminal without NO_COLOR only."""
    from rich.console import Console

    if sys.stdout.isatty():
        console = Console(highlight=False, markup=False, emoji=False)
        console.print(*parts, sep="\n")
        return
    page = io.StringIO()
    console = Console(file=page, width=_PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
    console.print(*parts, sep="\n")
    sys.stdout.write("\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n")
    sys.stdout.flush()


def silence_stdout() -> None:
    """Point stdout at nothing after the reader has gone, so that the flush at exit does not complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy numbers and arrays, without importing numpy
        return _plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    raise TypeError(f"a result field holds a {type(value).__name__}, which JSON has no form for")
