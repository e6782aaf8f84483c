"""Claims whose engine is not part of the program yet: the verdict is open and names the command that will answer."""

from __future__ import annotations

from collections.abc import Callable

from supertwin.claims.result import OPEN, Verdict


def _open(command: str, because: str) -> Callable[[], Verdict]:
    return lambda: Verdict("not computed", OPEN, f"`supertwin {command}` will answer: {because}")


ANSWERS: dict[str, Callable[[], Verdict]] = {
    "C20": _open("run", "unmodified PyTorch programs on the virtual supernode"),
    "C21": _open("cluster", "allocation rate, queue time and goodput on job traces with failures"),
    "C25": _open("run", "vision and speech models captured from PyTorch as well as language models"),
}
