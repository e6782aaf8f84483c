"""Pages hold together: links lead somewhere, equations are numbered once, lines are short, every page is reachable."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = {"accuracy.md"}  # by the program, as one table after the other
WIDTH = 125

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NUMBERED = re.compile(r"^ {4}.*\S {2,}\((\d+)\)$", re.MULTILINE)
ELSEWHERE = re.compile(r"\((\d+)\) of \[[^\]]*\]\(([^)#\s]+)")


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Targets that headings make, by GitHub's rule: lower case, no punctuation, blanks to hyphens."""
    heads = re.findall(r"^#+ (.*)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def numbers(path: Path) -> list[int]:
    """Numbers of the equations of a page, in order."""
    return [int(number) for number in NUMBERED.findall(text_of(path))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(text_of(page)):
        name, _, anchor = target.partition("#")
        goal = (page.parent / name).resolve() if name else page
        assert goal.exists(), target
        assert not anchor or anchor in anchors(goal), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_equations_are_numbered_in_order_and_once(page: Path) -> None:
    assert numbers(page) == list(range(1, len(numbers(page)) + 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_equations_of_other_pages_exist(page: Path) -> None:
    for number, name in ELSEWHERE.findall(text_of(page)):
        assert int(number) in numbers(page.parent / name), (number, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_has_short_lines(page: Path) -> None:
    """Tables, code and pages that the program writes apart."""
    if page.name not in WRITTEN:
        prose = [line for line in text_of(page).splitlines() if not line.startswith(("|", "    ", "<", "!"))]
        assert [line for line in prose if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_and_code_stand_apart(page: Path) -> None:
    """Without a blank line before it, code is part of the paragraph and some readers miss a table; a row with other
    cells than its header loses some."""
    before, cells = "", 0
    for number, line in enumerate(text_of(page).splitlines(), 1):
        for mark in ("|", "    "):
            if line.startswith(mark) and not before.startswith(mark):
                assert not before.strip() or before.startswith(("#", "<!--")), f"line {number}"
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (found and cells) or found == cells, f"line {number}"
        before, cells = line, found


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        page = waiting.pop()
        named = {page.parent / target.partition("#")[0] for target in LINK.findall(text_of(page))}
        named |= {ROOT / path for path in re.findall(r"`(docs/[\w-]+\.md)`", text_of(page))}
        fresh = {path.resolve() for path in named if path.suffix == ".md"} - reached
        reached |= fresh
        waiting += fresh
    assert set(PAGES) <= reached
