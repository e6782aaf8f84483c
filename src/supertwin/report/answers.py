"""Claims with their verdicts, as text and as JSON fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from supertwin.claims import Claim
from supertwin.report.tables import heading

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {"holds": "green", "fails": "red", "depends": "yellow", "open": "dim"}


def claim_fields(claim: Claim) -> dict[str, Any]:
    """JSON fields of one claim."""
    statement, verdict = claim.statement, claim.verdict
    return {
        "id": statement.id,
        "claim": statement.claim,
        "claimed": _number(statement.claimed_value),
        "computed": verdict.computed if verdict.value is None else verdict.value,
        "computed_text": verdict.computed,
        "low": verdict.low,
        "high": verdict.high,
        "rule": verdict.rule,
        "unit": statement.unit,
        "verdict": verdict.verdict,
        "because": verdict.because,
        "sources": list(verdict.sources),
    }


def _number(text: str) -> float | str:
    """A claimed value as a number where it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def claims_view(claims: Sequence[Claim], explain: bool) -> list[RenderableType]:
    """One paragraph per claim: verdict, claimed against computed, reason; with explain also the sources."""
    counts = Counter(claim.verdict.verdict for claim in claims)
    note = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
    view: list[RenderableType] = [heading("Claims", note), Text()]
    for claim in claims:
        statement, verdict = claim.statement, claim.verdict
        colour = _COLOURS.get(verdict.verdict, "")
        view.append(Text.assemble((f"{statement.id} ", "bold"), (f"{verdict.verdict:<8}", colour), statement.claim))
        claimed = " ".join(filter(None, (statement.claimed_value, statement.unit))) or "no figure"
        figures = f"claimed {claimed}; computed {verdict.computed or 'nothing yet'}"
        view.append(Padding(Text(figures), (0, 0, 0, 4)))
        view.append(Padding(Text(verdict.because, style="dim"), (0, 0, 0, 4)))
        if explain and verdict.rule:
            view.append(Padding(Text(f"rule: {verdict.rule}", style="dim"), (0, 0, 0, 4)))
        if explain and verdict.sources:
            view.append(Padding(Text("sources: " + ", ".join(verdict.sources), style="dim"), (0, 0, 0, 4)))
    return view
