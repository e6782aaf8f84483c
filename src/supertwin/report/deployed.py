"""Table of docs/deployments.md: the CM384 deployment in closed form beside its paper (arXiv 2506.12708 v2) and HIXL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from supertwin.inference.case import InferenceCase
from supertwin.inference.deploy import Limits, balance, economy, largest_rate, loading, prepare
from supertwin.inference.deploy.evaluate import at_rate, cache_load_s
from supertwin.inference.deploy.planes import line
from supertwin.inference.deploy.ratio import side_rates
from supertwin.inference.predict import predict
from supertwin.machine.systems import with_devices
from supertwin.report.published import markdown
from supertwin.scenarios.serving import PREFILL, cm384_service

CHIPS = 160
"""Packages of a decode instance."""

_IDLE_PER_S = 1e-6

Row = tuple[str, str, str]


def deployed_table() -> str:
    """Figure, printed, here."""
    parts: tuple[Callable[[], list[Row]], ...] = (_decode, _prefill, _split, _weights, _cache, _planes)
    return markdown(("Figure", "printed", "here"), "lll", [row for part in parts for row in part()])


def reused(share: float, place: str = "ub") -> float:
    """Seconds of a step of 16K prompt tokens per package of which a share is cached (figure 23 of the paper), the load
    of that share included. place: where the cache is, as `--cache`."""
    service = replace(cm384_service(), hit_rate=share, cache=place)
    measured = replace(PREFILL, expert_balance="natural")  # perfect balance is a projection of the paper
    case = InferenceCase(
        service.model, with_devices(service.system, 32), measured, "prefill", 2.0,
        input_len=round(4096 * (1.0 - share)), prefix_len=round(4096 * share),
    )  # fmt: skip
    prompts = 2.0 * service.prefill.token_split  # of one attention rank
    return predict(case).step_time_s + prompts * cache_load_s(service, service.cached_tokens)


def _decode() -> list[Row]:
    rates = [
        side_rates(prepare(cm384_service(prompt, output)), Limits(tpot_s=0.05))[1] * output / CHIPS
        for prompt, output in ((4096, 256), (2048, 256), (1024, 1024))
    ]
    service = cm384_service()
    sides = [replace(service, decode=replace(service.decode, microbatch_overlap=both)) for both in (True, False)]
    idle = [1e3 * at_rate(prepare(side), _IDLE_PER_S).tpot_s for side in sides]
    return [
        (
            "decode inside 50 ms, tokens/s per chip: 4K/256, 2K/256, 1K/1K",
            "1,943, 2,360, 2,733",
            ", ".join(f"{rate:,.0f}" for rate in rates),
        ),
        (
            "decode inside 15 ms, tokens/s per chip",
            "538",
            f"least TPOT of one request {idle[0]:.1f} ms with micro-batches, {idle[1]:.1f} without",
        ),
    ]


def _prefill() -> list[Row]:
    per_chip, per_tflops = [], []
    for balance_of in ("natural", "perfect"):
        service = replace(cm384_service(), prefill=replace(PREFILL, expert_balance=balance_of))
        found = economy(service, largest_rate(prepare(service), Limits(tpot_s=0.05)).point)
        per_chip.append(f"{found.prefill_tokens_per_s_per_chip:,.0f}")
        per_tflops.append(f"{found.prefill_tokens_per_s_per_tflops:.2f}")
    return [
        ("prefill, tokens/s per chip, natural and perfect balance", "5,655 and 6,688", " and ".join(per_chip)),
        ("prefill, tokens/s per TFLOPS", "3.76 and 4.45", " and ".join(per_tflops)),
    ]


def _split() -> list[Row]:
    found = balance(cm384_service(4096, 2000), 512, Limits(tpot_s=0.05))
    return [
        (
            "prefill instances of 32 dies per decode instance of 320",
            "6",
            f"{found.ideal:.1f} for 4K prompts, 2,000 output tokens; best split of 512 dies {found.prefill_instances}",
        )
    ]


def _weights() -> list[Row]:
    found = loading(cm384_service(), instances=8, models=8, readers=1)
    every = loading(cm384_service(), instances=8, models=8)
    return [
        (
            "cold start of 8 instances from a bucket of 2.5 GB/s: alone, with EMS",
            "2,560 s, 320 s",
            f"{found.cold_alone_s:,.0f} s, {found.cold_pool_s:,.0f} s",
        ),
        (
            "warm start (one stream per instance)",
            "about 5 s",
            f"{found.pool_s:.1f} s; {every.pool_s:.1f} s when all devices of 8 instances read",
        ),
        (
            "switch among 8 models: none, local, EMS",
            "320, 281, 5 s",
            f"{found.switch_cold_s:.0f}, {found.switch_local_s:.0f}, {found.switch_pool_s:.1f} s",
        ),
    ]


def _cache() -> list[Row]:
    none = reused(0.0)
    half, most = (f"{100 * (reused(share) / none - 1):+.0f}" for share in (0.5, 0.9))
    return [
        ("TTFT of 16K tokens per chip without reuse (inferred)", "2.53 s", f"{none:.2f} s"),
        ("prefill throughput at 50 % over 12.5 % reuse", "1.42", f"{reused(0.125) / reused(0.5):.2f}"),
        ("TTFT at 50 and 90 % reuse", "-34 and -59 %", f"{half} and {most} %"),
        (
            "UB over VPC",
            "up to 1.52",
            f"{reused(0.5, 'vpc') / reused(0.5):.2f} at 50 %, {reused(0.9, 'vpc') / reused(0.9):.2f} at 90 %",
        ),
    ]


def _planes() -> list[Row]:
    roce = line(cm384_service().system, "rdma").seconds(8784 * 1024, 40)
    times, shares = [], []
    for plane in ("rdma", "ub"):
        service = replace(cm384_service(), plane=plane)
        prepared = prepare(service)
        best = largest_rate(prepared, Limits(tpot_s=0.05))
        assert prepared.handover is not None
        times.append(f"{1e3 * prepared.handover.transfer_s:.1f}")
        shares.append(f"{100 * prepared.handover.link_shares(service, best.point.requests_per_s)[0]:.1f}")
    return [
        ("40 blocks of 8,784 KB over RoCE (HIXL)", "15.4 ms", f"{1e3 * roce:.1f} ms"),
        ("hand-over of a 4K prompt, 512 dies, over RDMA and UB", "", f"{times[0]} and {times[1]} ms"),
        ("share of the prefill links that hand-overs take", "", f"{shares[0]} and {shares[1]} %"),
    ]
