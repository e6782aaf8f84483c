"""All claims: the statements from data/claims.csv joined with the functions that answer them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources

from supertwin.claims import ablation, fabric, later, machines, operations, scaling, steps, training
from supertwin.claims.result import Claim, Statement, Verdict
from supertwin.core.errors import UnknownName

_ANSWERS: dict[str, Callable[[], Verdict]] = {
    **machines.ANSWERS,
    **operations.ANSWERS,
    **steps.ANSWERS,
    **fabric.ANSWERS,
    **scaling.ANSWERS,
    **training.ANSWERS,
    **ablation.ANSWERS,
    **later.ANSWERS,
}


@cache
def _statements() -> dict[str, Statement]:
    text = resources.files("supertwin.data").joinpath("claims.csv").read_text(encoding="utf-8")
    names = ("id", "claim", "quantity", "claimed_value", "unit", "compare_with")
    return {row["id"]: Statement(**{n: row[n] for n in names}) for row in csv.DictReader(text.splitlines())}


def claim_ids() -> list[str]:
    """C01 ... C25."""
    return list(_statements())


def evaluate(only: Iterable[str] = ()) -> list[Claim]:
    """Answer all claims, or only those named. Raises UnknownName for an id that does not exist."""
    statements = _statements()
    wanted = [name.upper() for name in only] or list(statements)
    for name in wanted:
        if name not in statements:
            raise UnknownName("claim", name, statements)
    return [Claim(statements[name], _ANSWERS[name]()) for name in wanted]
