"""Kernels of dispatch and combine by vendor, size and kind of step (exchange.py)."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.inference.case import Deployment
from supertwin.inference.exchange import Routed, communication_s
from supertwin.inference.placement import Placement, place
from supertwin.machine import load_system
from supertwin.network.exchange import Exchange, price_exchange
from supertwin.network.group import Group
from supertwin.workload.operators import Communication

_RANKS = 48


def _placement() -> Placement:
    return place(Deployment(dp=_RANKS, ep=_RANKS, dp_attention=True))


def _call(tokens: float) -> Communication:
    return Communication(
        part="moe/dispatch", op="dispatch", axis="ep", message_bytes=tokens * 8 * 7168.0, tokens=tokens, hidden=7168.0,
        topk=8.0, dtype="fp8",
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [64.0, 512.0, 1408.0])
@pytest.mark.parametrize("decodes", [True, False])
def test_decode_on_nvidia_keeps_the_low_latency_kernels(tokens: float, decodes: bool) -> None:
    system = load_system(f"gb200-nvl72:{_RANKS}")
    found = communication_s(system, _placement(), _call(tokens), Routed(288.0, decodes=decodes))
    mode = "low-latency" if decodes else "normal"
    asked = Exchange("dispatch", tokens, 7168.0, 8.0, "fp8", mode, 288.0)
    assert np.ravel(found)[0] == pytest.approx(float(price_exchange(system, asked, Group(_RANKS, 1)).time_s))


def test_ascend_leaves_the_fused_kernels_beyond_512_tokens() -> None:
    system = load_system(f"cm384:{_RANKS}")
    times = [float(np.ravel(communication_s(system, _placement(), _call(n), Routed(288.0)))[0]) for n in (512.0, 513.0)]
    assert times[1] > 1.2 * times[0]
