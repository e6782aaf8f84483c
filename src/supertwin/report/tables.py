"""Table and heading style shared by all views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from supertwin.report.text import bar

_EIGHTHS = "▏▎▍▌▋▊▉█"
_BLOCKS = frozenset(_EIGHTHS + " ")
_LEAST_BAR, _LEAST_TEXT = 4, 24  # columns of a bar; of text that breaks, where a word is longer


def is_bar(cell: str | Text) -> bool:
    """Whether a cell is a bar, perhaps pushed in, and no text."""
    text = str(cell)
    return bool(text.strip()) and _BLOCKS.issuperset(text)


class Shrinking:
    """A bar that is drawn to scale where its column is narrower than the longest one."""

    def __init__(self, cell: str | Text, longest: int) -> None:
        self.cell = cell if isinstance(cell, Text) else Text(cell)
        self.longest = longest

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(_LEAST_BAR, len(self.cell)), len(self.cell))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        text = self.cell.plain
        if options.max_width < self.longest:
            by = options.max_width / self.longest
            pushed = int((len(text) - len(text.lstrip(" "))) * by)
            eighths = sum(1 + _EIGHTHS.index(block) for block in text.strip())
            text = " " * pushed + bar(eighths / 8.0 * by / options.max_width, options.max_width)
        yield Text(text, style=self.cell.style, no_wrap=True, overflow="crop")


class Whole(Padding):
    """A table, indented, that is never narrower than its numbers need: the terminal breaks longer lines."""

    def __init__(self, table: Table, need: int) -> None:
        super().__init__(table, (0, 0, 0, 2), expand=False)
        self.need = need

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return super().__rich_console__(console, options.update(width=max(options.max_width, self.need)))


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

    Numbers keep their width where the page is too narrow for all columns; bars in column `wrap` shrink together.
    """
    rows = list(rows)
    longest = max((len(str(row[wrap])) for row in rows if is_bar(row[wrap])), default=0) if wrap is not None else 0
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]
    kept = [i != wrap and (i >= left or wrap is not None or left > 1) for i in range(len(header))]
    words = [
        min(_LEAST_TEXT, max((len(word) for row in rows for word in str(row[i]).split()), default=1))
        for i in range(len(header))
    ]
    least = [widths[i] if keep else _LEAST_BAR if i == wrap and longest else words[i] for i, keep in enumerate(kept)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=any(header))
    for index, name in enumerate(header):
        breaks = index == wrap
        table.add_column(
            name,
            justify="left" if index < left or breaks else "right",
            no_wrap=kept[index],
            overflow="fold",
            ratio=1 if breaks else None,
            min_width=None if breaks or index < left else widths[index],
        )
    for row in rows:
        table.add_row(*(Shrinking(cell, longest) if i == wrap and is_bar(cell) else cell for i, cell in enumerate(row)))
    return Whole(table, 2 + sum(least) + 2 * len(least))


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
