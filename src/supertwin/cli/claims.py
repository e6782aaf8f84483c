"""`supertwin claims`."""

from __future__ import annotations

from supertwin.cli.options import Command, Option, Values


def _run(values: Values) -> int:
    from supertwin.claims import evaluate
    from supertwin.cli.output import write_json, write_text
    from supertwin.report.answers import claim_fields, claims_view

    only = str(values["only"] or "")
    claims = evaluate([name.strip() for name in only.split(",") if name.strip()])
    if values["json"]:
        write_json("claims", {"claims": [claim_fields(claim) for claim in claims]})
    else:
        write_text(*claims_view(claims, bool(values["explain"])))
    return 0


COMMAND = Command(
    name="claims",
    brief="What the press claims, computed",
    help="What the press claims about CloudMatrix 384: claimed, computed, verdict, because.",
    examples=("supertwin claims", "supertwin claims --only C01,C02 --explain", "supertwin claims --json"),
    run=_run,
    options=(Option("--only", "str", "Claims to answer, by id, with commas.", "all"),),
)
