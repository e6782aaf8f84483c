"""Bars of a waterfall and the colours of what bounds a part."""

from __future__ import annotations

from rich.text import Text

from supertwin.report.text import bar

COLOURS = {"compute": "green", "memory": "cyan", "network": "magenta", "latency": "yellow", "bubble": "red"}


def floating(start: float, share: float, bound: str, width: int) -> Text:
    """A bar as long as `share` of the width, pushed in by `start`; a negative share reaches back from there."""
    begin = max(0.0, min(start, start + share))
    return Text(" " * int(begin * width) + bar(abs(share), width), style=COLOURS.get(bound, "dim"))
