"""Claims about training and serving: answered by running the step models on the published operating points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from supertwin.claims.result import DEPENDS, FAILS, HOLDS, LEAST_RULE, OPEN, Verdict, at_least
from supertwin.core.errors import SupertwinError
from supertwin.core.prediction import Prediction
from supertwin.machine import load_system
from supertwin.scenarios import load_scenario, run_scenario
from supertwin.scenarios.run import figure_of


@cache
def _run(name: str) -> Prediction:
    return run_scenario(name).prediction


def _sources(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for s in (load_scenario(n).source for n in names) if s))


def decode_rate() -> Verdict:
    """C11: 1,920 tokens/s per chip in decode under 50 ms."""
    p = _run("cm384-decode-4k")
    rate, tpot = p.tokens_per_s_per_chip, figure_of(p, "tpot_s")
    low, high = (rate / f for f in reversed(p.interval))
    in_time = tpot <= 0.050 or tpot * p.interval[0] <= 0.050
    verdict = at_least(rate, 1920, high) if in_time else FAILS
    return Verdict(
        f"{rate:.0f} tokens/s per package at {1e3 * tpot:.1f} ms (90 %: {low:.0f} to {high:.0f})",
        verdict,
        "DeepSeek-R1 in INT8, EP320, 96 requests per package at 4K context, one draft token accepted 70 % of the time;"
        " accuracy is not simulated: the paper prints INT8 scores beside the API's",
        _sources("cm384-decode-4k"),
        rate,
        LEAST_RULE,
    )


def _per_tflops(name: str, rate: str) -> float:
    p = _run(name)
    system = load_system(load_scenario(name).system)
    peak = system.chip.peak(rate) * system.chip.devices_per_package / 1e12
    return p.tokens_per_s_per_chip / peak


def tokens_per_tflops() -> Verdict:
    """C12: best utilisation against H100 and H800."""
    cases = {
        "cm384": ("int8", "cm384-prefill-balanced", "cm384-decode-4k"),
        "h800": ("fp8", "h800-prefill", "h800-decode"),
    }
    cases["h100"] = ("fp8", "h100-prefill", "h100-decode")
    prefill = {k: _per_tflops(p, rate) for k, (rate, p, _) in cases.items()}
    decode = {k: _per_tflops(d, rate) for k, (rate, _, d) in cases.items()}
    best = [max(x, key=lambda k: x[k]) == "cm384" for x in (prefill, decode)]
    text = "; ".join(
        f"{label} " + ", ".join(f"{k} {v:.2f}" for k, v in x.items())
        for label, x in (("prefill", prefill), ("decode", decode))
    )
    verdict = HOLDS if all(best) else DEPENDS if any(best) else FAILS
    return Verdict(
        text,
        verdict,
        "tokens/s per TFLOPS of the 8-bit peak, DeepSeek-R1, published operating points",
        _sources(*(n for _, p, d in cases.values() for n in (p, d))),
        rule="holds when CloudMatrix 384 is ahead in both phases, depends when in one",
    )


def where_it_leads() -> Verdict:
    """C22: workloads where the supernode leads."""
    rows: list[str] = []
    wins = 0
    for label, ours, others in (
        ("R1 prefill", "cm384-prefill", ("nvl72-prefill", "h800-prefill")),
        ("R1 decode", "cm384-decode-4k", ("nvl72-decode", "h800-decode")),
        ("718B training", "pangu-ultra-moe-cm384", ("pangu-ultra-moe-nvl72", "pangu-ultra-moe-h800")),
    ):
        for other in others:
            lead = _supernode_rate(ours) / _rival_rate(other)
            wins += lead > 1
            rows.append(f"{label} {lead:.1f}x of {_rival(other)}")
    return Verdict(
        "; ".join(rows),
        HOLDS if wins else FAILS,
        "throughput of one CloudMatrix 384 against one NVL72 rack and against as many H800 (384)",
        _sources("cm384-prefill", "cm384-decode-4k"),
        rule="holds when it leads in at least one workload",
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
