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
_LEAST_WIDTH = 60  # tables of numbers need it; narrower terminals wrap
_ASCII = str.maketrans({"█": "#", **dict.fromkeys("▌▋▊▉", "#"), **dict.fromkeys("▏▎▍", ".")})


def write_json(command: str, fields: Mapping[str, Any]) -> None:
    """Print one object with its schema name; numbers that JSON cannot hold become null."""
    json.dump({"schema": f"supertwin.{command}/1", **_plain(dict(fields))}, sys.stdout, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def write_text(*parts: RenderableType) -> None:
    """Print rendered parts: as wide as the terminal, else 100 columns; colour on a terminal without NO_COLOR only.

    Lines that are wider than the terminal are left to it to wrap: a number is never cut. Where the encoding of stdout
    has no bars, they are drawn in ASCII.
    """
    from rich.console import Console

    if sys.stdout.isatty() and _holds("█"):
        console = Console(highlight=False, markup=False, emoji=False)
        console.width = max(console.width, _LEAST_WIDTH)
        console.print(*parts, sep="\n", crop=False)
        return
    page = io.StringIO()
    console = Console(file=page, width=_PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
    console.print(*parts, sep="\n", crop=False)
    text = "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"
    if not _holds(text):
        encoding = sys.stdout.encoding or "ascii"
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    sys.stdout.write(text)
    sys.stdout.flush()


def _holds(text: str) -> bool:
    """Whether the encoding of stdout can express the text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


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
