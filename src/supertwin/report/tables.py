"""Table and heading style shared by all views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def heading(text: str, note: str = "") -> Text:
    """A bold line with a dim remark."""
    return Text.assemble((text, "bold"), ("  " + note if note else "", "dim"))


def remarks(texts: Iterable[str]) -> list[Padding]:
    """Remarks on a result, one below the other; broken lines keep the indent."""
    return [Padding(Text("note: " + text, "yellow"), (0, 0, 0, 2), expand=False) for text in texts]


def grid(
    header: Sequence[str], rows: Iterable[Sequence[str | Text]], left: int = 1, wrap: int | None = None
) -> Padding:
    """A table without rules: the first `left` columns left-aligned, the others right; column `wrap` may break lines.

    Numbers keep their width where the page is too narrow for all columns.
    """
    rows = list(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=any(header))
    for index, name in enumerate(header):
        free = index == wrap
        table.add_column(
            name,
            justify="left" if index < left or free else "right",
            no_wrap=not free and (index >= left or wrap is not None or left > 1),
            overflow="fold",
            ratio=1 if free else None,
            min_width=None if free or index < left else max(len(str(row[index])) for row in (header, *rows)),
        )
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2), expand=False)


def pairs(rows: Iterable[tuple[str, str | Text]]) -> Padding:
    """Name and value, one per line."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return Padding(table, (0, 0, 0, 2), expand=False)


def sources_table(sources: Iterable[tuple[str, str, str, str]]) -> Padding:
    """The numbers a result stands on: name, value, source, layer (spec, calibration, assumption, not chosen)."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for title, ratio in (("number", None), ("value", 4), ("layer", None), ("source", 5)):
        table.add_column(title, overflow="fold", ratio=ratio, no_wrap=ratio is None)
    for row in _grouped(sources):
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2))


def _grouped(sources: Iterable[tuple[str, str, str, str]]) -> Iterator[tuple[str, str, str, str]]:
    """Dotted names of one chip, system or room below their owner."""
    last = ""
    for name, value, source, layer in sources:
        owner, dot, rest = name.partition(".")
        dotted = bool(dot) and " " not in name
        if dotted and owner != last:
            yield owner, "", "", ""
        last = owner if dotted else ""
        yield f"  {rest}" if dotted else name, value, layer, source
