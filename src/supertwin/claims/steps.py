"""Claims about training and serving: answered by running the step models on the published operating points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, LEAST_RULE, OPEN, Verdict, at_least, over, ratio_range
from supertwin.core.errors import SupertwinError
from supertwin.core.formats import number_format
from supertwin.core.prediction import Prediction
from supertwin.machine import load_system
from supertwin.scenarios import load_scenario, run_scenario
from supertwin.scenarios.run import figure_of

Range = tuple[float, float]
HOPPER_DECODE = {"H800": "h800-decode", "H100": "h100-decode"}
LIKE_WITH_LIKE = (
    ("prefill, experts even", "cm384-prefill-balanced", {"h800": "h800-prefill"}),
    ("prefill, experts as routed", "cm384-prefill", {"h100": "h100-prefill"}),
    ("decode", "cm384-decode-4k", {"h800": "h800-decode", "h100": "h100-decode"}),
)
"""Comparisons of claim C12: what, CloudMatrix 384's scenario, those of its rivals."""
LIMIT_S = 0.050
_LIMIT = f"{1e3 * LIMIT_S:.0f} ms"
NVL72_FORMATS = {"weight_dtype": "nvfp4", "activation_dtype": "nvfp4", "kv_dtype": "fp8"}


@cache
def _run(name: str) -> Prediction:
    return run_scenario(name).prediction


def _sources(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for s in (load_scenario(n).source for n in names) if s))


def _rate_range(p: Prediction) -> Range:
    """90 % factors on a rate: those of its step time, the other way round."""
    low, high = p.interval
    return 1.0 / high, 1.0 / low


def decode_rate() -> Verdict:
    """C11: 1,920 tokens/s per chip in decode under 50 ms."""
    p, batch = within("cm384-decode-4k", LIMIT_S)
    rate = p.tokens_per_s_per_chip
    low, high = (rate * factor for factor in _rate_range(p))
    full = _run("cm384-decode-4k")
    others = ", ".join(f"{name} {_at(_run(run))}" for name, run in HOPPER_DECODE.items())
    return Verdict(
        f"{rate:.0f} tokens/s per package with {2 * batch} requests on it (90 %: {low:.0f} to {high:.0f});"
        f" with the paper's 96 {_at(full)}; in FP8 {others}",
        at_least(rate, 1920, high),
        "DeepSeek-R1 in INT8, EP320, 4K context, one draft token accepted 70 % of the time, as many requests as"
        f" {_LIMIT} a token allow, up to the paper's 96 (the other chips at the 128 of their sources, H800 without"
        " drafts); accuracy is not simulated: the paper prints INT8 scores beside the API's",
        _sources("cm384-decode-4k", *HOPPER_DECODE.values()),
        rate,
        LEAST_RULE,
        low,
        high,
    )


def within(name: str, limit_s: float, most: int = 0, **changes: object) -> tuple[Prediction, int]:
    """A decode scenario with the most requests per device, up to its own or `most`, that keep a limit on TPOT and fit
    the memory, and how many; one request where none does."""

    def at(batch: int) -> Prediction:
        return run_scenario(name, **changes, batch=batch).prediction

    low, high = 1, (most or int(float(str(load_scenario(name).options["batch"])))) + 1
    while high - low > 1:
        middle = (low + high) // 2
        p = at(middle)
        kept = figure_of(p, "tpot_s") <= limit_s and p.memory.fits
        low, high = (middle, high) if kept else (low, middle)
    return at(low), low


def _at(p: Prediction) -> str:
    return f"{p.tokens_per_s_per_chip:.0f} at {1e3 * figure_of(p, 'tpot_s'):.1f} ms"


def _per_tflops(name: str) -> float:
    """Tokens/s over the dense peak of the format in which the scenario multiplies its weights."""
    p, scenario = _run(name), load_scenario(name)
    chip = load_system(scenario.system).chip
    peak = chip.peak(number_format(str(scenario.options["weight_dtype"])).rate)
    return p.tokens_per_s_per_device / (peak / 1e12)


def tokens_per_tflops() -> Verdict:
    """C12: best utilisation against H100 and H800."""
    shown, leads = [], []
    for title, ours, rivals in LIKE_WITH_LIKE:
        rival = max(rivals, key=lambda chip: _per_tflops(rivals[chip]))
        lead = _lead(_per_tflops(ours) / _per_tflops(rivals[rival]), ours, rivals[rival])
        leads.append(lead)
        rates = ", ".join(f"{chip} {_per_tflops(run):.2f}" for chip, run in {"cm384": ours, **rivals}.items())
        shown.append(f"{title} {rates}: {lead.ratio:.2f}x of {rival} (90 %: {lead.low:.2f} to {lead.high:.2f})")
    least = min(leads, key=lambda lead: lead.ratio)
    verdicts = {over((lead.low, lead.high), 1.0, most=False) for lead in leads}
    return Verdict(
        "; ".join(shown),
        verdicts.pop() if len(verdicts) == 1 else DEPENDS,
        "tokens/s per TFLOPS of the 8-bit peak, DeepSeek-R1, published operating points (benchmarks at 4K, not live"
        " traffic), like balance of the experts with like; the range is that of the lead",
        _sources(*(name for _, ours, rivals in LIKE_WITH_LIKE for name in (ours, *rivals.values()))),
        least.ratio,
        "holds when CloudMatrix 384 is ahead in every comparison over the whole range, fails when behind in every one",
        min(lead.low for lead in leads),
        max(lead.high for lead in leads),
    )


@dataclass(frozen=True, slots=True)
class Lead:
    """One rate over another with its 90 % range, errors taken as independent."""

    ratio: float
    low: float
    high: float


def _lead(ratio: float, ours: str, theirs: str) -> Lead:
    return Lead(ratio, *ratio_range(ratio, _rate_range(_run(ours)), _rate_range(_run(theirs))))


def where_it_leads() -> Verdict:
    """C22: workloads where the supernode leads."""
    rows: list[str] = []
    leads: list[Lead] = []
    for label, ours, others in (
        ("R1 prefill", "cm384-prefill", ("nvl72-prefill", "h800-prefill")),
        ("R1 decode", "cm384-decode-4k", ("nvl72-decode", "h800-decode")),
        ("718B training", "pangu-ultra-moe-cm384", ("pangu-ultra-moe-nvl72", "pangu-ultra-moe-h800")),
    ):
        for other in others:
            lead = _lead(_supernode_rate(ours) / _rival_rate(other), ours, other)
            leads.append(lead)
            rows.append(f"{label} {lead.ratio:.1f}x of {_rival(other)} ({lead.low:.1f} to {lead.high:.1f})")
    own, batch = within("nvl72-decode", LIMIT_S, 1024, **NVL72_FORMATS)
    fair = _supernode_rate("cm384-decode-4k") / (own.tokens_per_s_per_device * _rival_devices("nvl72-decode"))
    best = max(leads, key=lambda lead: lead.low)
    return Verdict(
        "; ".join(rows),
        HOLDS if best.low > 1.0 else DEPENDS if any(lead.ratio > 1.0 for lead in leads) else FAILS,
        "throughput of one CloudMatrix 384 against one NVL72 rack and against as many H800 (384), 90 % range of the"
        " ratio, the rack in FP8 with as many requests per package; in its own NVFP4 and with as many as"
        f" {_LIMIT} a token allow ({batch} on a GPU) decode is {fair:.1f}x of it; the bus: claim C16",
        _sources("cm384-prefill", "cm384-decode-4k"),
        best.ratio,
        "holds when all of the range of at least one workload lies above 1, depends when only its prediction does",
        best.low,
        best.high,
    )


def _supernode_rate(name: str) -> float:
    return _run(name).tokens_per_s_per_device * load_system("cm384").full_devices


def _rival_devices(name: str) -> int:
    """One full rack of a supernode; of servers, as many devices as CloudMatrix 384 has packages."""
    system = load_system(load_scenario(name).system)
    return system.full_devices if system.full_devices > system.devices_per_node else 384


def _rival(name: str) -> str:
    return f"{load_scenario(name).system.split(':')[0]}:{_rival_devices(name)}"


def _rival_rate(name: str) -> float:
    return _run(name).tokens_per_s_per_device * _rival_devices(name)


def guarded(answer: Callable[[], Verdict]) -> Callable[[], Verdict]:
    def run() -> Verdict:
        try:
            return answer()
        except SupertwinError as reason:
            return Verdict("not computed", OPEN, f"the case does not run: {reason}")

    return run


ANSWERS: dict[str, Callable[[], Verdict]] = {
    key: guarded(answer)
    for key, answer in {
        "C11": decode_rate,
        "C12": tokens_per_tflops,
        "C22": where_it_leads,
    }.items()
}
