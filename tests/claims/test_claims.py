"""Every claim gets an answer; those that follow from data sheets are pinned to hand calculations."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from supertwin.claims import claim_ids, evaluate
from supertwin.claims.ablation import serving_contributions
from supertwin.claims.result import over, ratio_range
from supertwin.claims.steps import LIKE_WITH_LIKE, LIMIT_S, within
from supertwin.core.errors import UnknownName
from supertwin.scenarios import load_scenario, run_scenario
from supertwin.scenarios.run import figure_of

ANSWERS = {c.statement.id: c.verdict for c in evaluate()}


def number(text: str) -> float:
    """The first number of a text."""
    found = re.search(r"-?\d+(?:\.\d+)?", text)
    assert found, text
    return float(found.group())


def test_every_row_of_the_table_is_answered() -> None:
    table = Path(__file__).parents[2] / "src" / "supertwin" / "data" / "claims.csv"
    with table.open(encoding="utf-8", newline="") as f:
        assert [row["id"] for row in csv.DictReader(f)] == claim_ids() == list(ANSWERS)


@pytest.mark.parametrize("name", claim_ids())
def test_verdict_is_one_of_four_and_has_a_reason(name: str) -> None:
    verdict = ANSWERS[name]
    assert verdict.verdict in {"holds", "fails", "depends", "open"}
    assert len(verdict.because) > 20
    assert verdict.computed


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("C01", 768 * 353.9 / 1000, "depends"),  # WP-A3 752T bin in BF16
        ("C03", 72 * 2.5, "holds"),  # NVIDIA GB200 NVL72 data sheet: 360 PFLOPS sparse
        ("C04", 2 * 353.9 / 2500, "holds"),
        ("C05", 49.2 / 13.8, "holds"),  # SemiAnalysis table: 49.2 TB against 13.8 TB
        ("C06", 1229 / 576, "holds"),  # the same table
        ("C15", 384, "holds"),
    ],
)
def test_claims_from_data_sheets(name: str, value: float, verdict: str) -> None:
    assert number(ANSWERS[name].computed) == pytest.approx(value, rel=0.04)
    assert ANSWERS[name].verdict == verdict


def test_open_claims_name_the_command_that_will_answer() -> None:
    for name, verdict in ANSWERS.items():
        if verdict.verdict == "open":
            assert re.search(r"`supertwin \w+`|does not run|unknown", verdict.because), name


def test_card_hours_per_day_of_one_supernode() -> None:
    # 384 packages x 24 h x 98 % availability
    assert number(ANSWERS["C10"].computed) == pytest.approx(384 * 24 * 0.98, abs=1)


def test_unknown_claim_names_its_neighbours() -> None:
    with pytest.raises(UnknownName, match="C01"):
        evaluate(["C0"])


@pytest.mark.parametrize("name", ["C08", "C09", "C10", "C11", "C12", "C13", "C14", "C22", "C24"])
def test_claims_about_steps_have_a_range_that_holds_their_value(name: str) -> None:
    verdict = ANSWERS[name]
    assert verdict.verdict != "open"
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < verdict.high
    assert verdict.value is None or verdict.low <= verdict.value <= verdict.high


def test_ranges_decide_the_verdict() -> None:
    assert over((0.5, 0.9), 1.0) == "holds"
    assert over((0.5, 1.1), 1.0) == "depends"
    assert over((1.1, 1.2), 1.0) == "fails"
    assert over((1.1, 1.2), 1.0, most=False) == "holds"
    low, high = ratio_range(2.0, (0.8, 1.25), (0.8, 1.25))  # equal spreads: sqrt(2) of one in the logarithm
    assert low * high == pytest.approx(4.0)
    assert high / 2.0 == pytest.approx(1.25**2**0.5)


def test_serving_is_part_of_the_ablation() -> None:
    """CM384 paper, 5.4: +23 to +31 % of micro-batches in prefill, +6 to +49 % of a draft token in decode."""
    worth = serving_contributions()
    assert 0.15 < worth["micro-batches in prefill"] < 0.40
    assert worth["the bus in decode"] > 0.1
    assert worth["fused dispatch and combine"] > 0.0
    assert worth["draft tokens"] == pytest.approx(0.25, abs=0.25)
    assert worth["INT8"] > 0.1


def test_the_claimed_decode_rate_lies_in_its_interval() -> None:
    verdict = ANSWERS["C11"]
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < 1943.0 < verdict.high  # CM384 paper, table 4


def test_the_decode_claim_is_judged_inside_its_limit() -> None:
    """The most requests that keep 50 ms: one more breaks it, or the paper's batch is reached."""
    prediction, batch = within("cm384-decode-4k", LIMIT_S)
    assert figure_of(prediction, "tpot_s") <= LIMIT_S
    more = run_scenario("cm384-decode-4k", batch=batch + 1).prediction
    assert batch == 48 or figure_of(more, "tpot_s") > LIMIT_S


def test_utilisation_compares_like_with_like() -> None:
    """Balance of the experts of all scenarios of a comparison of prefill."""
    for title, ours, rivals in LIKE_WITH_LIKE:
        balances = {load_scenario(name).options["expert_balance"] for name in (ours, *rivals.values())}
        assert len(balances) == 1 or title == "decode"
