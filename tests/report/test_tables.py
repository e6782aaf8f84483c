"""Tables on narrow terminals: bars shrink together, numbers are never cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from supertwin.report.tables import grid
from supertwin.report.text import bar

ROWS = [("a long first part", "1,234.5 ms", "50.0 %", bar(0.5, 20)), ("b", "9.1 ms", "100.0 %", bar(1.0, 20))]


@pytest.mark.parametrize("width", [30, 48, 60, 80, 120])
def test_rows_of_bars_stay_one_line_each(width: int) -> None:
    page = io.StringIO()
    Console(file=page, width=width).print(grid(("part", "time", "share", ""), ROWS, wrap=3), crop=False)
    lines = page.getvalue().splitlines()
    assert len(lines) == 1 + len(ROWS)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert all(cell in line for cell in row[:3])
    drawn = [sum(block in "█▏▎▍▌▋▊▉" for block in line) for line in lines[1:]]
    assert 0 < drawn[0] <= drawn[1] <= 20
    assert drawn[1] == 20 or width < 80
