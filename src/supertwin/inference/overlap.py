"""Two micro-batches in flight: what hides behind what.

Times are those of ONE micro-batch (half the sequences) in one layer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supertwin.cost.result import OperatorCost
from supertwin.workload.operators import ExpertMlp, Gemm, Vector
from supertwin.workload.shard import maximum, minimum

Real = float | npt.NDArray[np.float64]


MOST_DRAWN = 0.5
"""Of the memory bandwidth that one stream takes while the other wants it too."""

KERNEL_START_S = 5.0e-6
"""Part of a kernel that does not depend on its cores: what a captured graph needs to start it (910B operator timings of
aiconfigurator-npu: 5.1 us floor of a product in graph replay). The rest of an operator's fixed time is work of its
cores."""


PRODUCT_SHARPNESS = 2.2
"""Of the smooth maximum of arithmetic and traffic in matrix products of the 910C (data/calibration, gemm.json)."""

FIXED_EXPONENT = 0.38
"""How the fixed part of a kernel beyond its start goes with the share of its cores: attention of a small decode batch,
which is fixed time in the main, takes 118 us on 12 + 24 and 91.8 us on all 24 + 48 cores (LongCat-Flash in a running
model, cann-recipes-infer; kernels.csv): 1.30 times without the start."""


def on_cores(cost: OperatorCost, share: float, drawn: Real = 0.0, busy: Real = 1.0) -> Real:
    """Time of an operator on a share of the cores while others draw `drawn` (0..1) of the memory bandwidth.

    Compute slows by 1/share, memory traffic by 1/(1 - drawn), the fixed part by share^-0.38; that of vector work, cores
    which fetch one code in turn, shrinks with them. One core of a da-vinci die
    can draw more than its fair share of the bandwidth, so 8 of 24 cores still reach 2 x share of it (assumption: twice
    the fair share; products that stream weights take 1.34 to 1.43 times as long on half the cores beside another
    stream, as with 0.28 drawn: same source). busy: share of the cores that the operator finds work for; where it gets
    no fewer, its arithmetic slows as fixed parts do (attention of LongCat-Flash, 8 blocks: 91.8 us on 24 cores, 118 on
    12; same source).
    """
    memory = cost.memory_s / (min(1.0, 2.0 * share) * (1.0 - drawn))
    start = minimum(cost.overhead_s, KERNEL_START_S)
    fixed = cost.overhead_s - start
    alone = share if isinstance(cost.operator, Vector) else share**-FIXED_EXPONENT
    fits = busy <= share
    slower = (
        np.where(fits, share**-FIXED_EXPONENT, 1.0 / share)
        if isinstance(fits, np.ndarray)
        else (share**-FIXED_EXPONENT if fits else 1.0 / share)
    )
    own = cost.compute_s * slower + fixed * alone
    both = joined if isinstance(cost.operator, (Gemm, ExpertMlp)) else maximum
    before = maximum(both(cost.compute_s + fixed, cost.memory_s), 1e-15)
    slowed: Real = maximum(cost.time_s - start, 0.0) * both(own, memory) / before
    return slowed + start


def joined(compute_s: Real, memory_s: Real) -> Real:
    """Time of a product whose arithmetic and traffic overlap in part: between the longer of them and their sum."""
    found: Real = (compute_s**PRODUCT_SHARPNESS + memory_s**PRODUCT_SHARPNESS) ** (1.0 / PRODUCT_SHARPNESS)
    return found


def two_streams(attention_s: Real, experts_s: Real, memory_s: Real, wait_s: Real = 0.0) -> Real:
    """A layer of two micro-batches on two core groups (CM384 paper 4.2.3): each stream runs both of them in turn.

    memory_s: time that the traffic of both streams needs at full bandwidth; it bounds the sum. wait_s: wait for the
    last rank, which the stream with time left has to spare.
    """
    shorter = np.minimum(attention_s, experts_s) + wait_s
    return 2.0 * np.maximum(np.maximum(np.maximum(attention_s, experts_s), shorter), memory_s)


def two_batches(compute_s: tuple[Real, Real], exchange_s: tuple[Real, Real], cores_taken: float) -> Real:
    """A layer of two micro-batches A and B whose stages alternate: exchanges run beside the other one's compute.

    compute_s: (attention, experts), exchange_s: (dispatch, combine) of one micro-batch. Compute runs attention A,
    attention B, experts A, experts B; beside them run combine B of the layer before, dispatch A, dispatch B, combine A
    (DeepSeek profile data; SGLang operations_strategy, prefill without delay). A stage ends when both sides have ended.
    Exchange kernels take cores_taken of the cores while they run.
    """
    attention, experts = compute_s
    dispatch, combine = exchange_s
    pairs = ((attention, combine), (attention, dispatch), (experts, dispatch), (experts, combine))
    return sum((beside(*pair, cores_taken) for pair in pairs), start=0.0)


def beside(compute_s: Real, exchange_s: Real, cores_taken: float) -> Real:
    """Time until compute and an exchange that run side by side have both ended."""
    return np.maximum(slowed(compute_s, exchange_s, cores_taken), exchange_s)


def slowed(compute_s: Real, exchange_s: Real, cores_taken: float) -> Real:
    """Compute while an exchange kernel holds cores_taken of the cores for exchange_s."""
    lost = cores_taken / (1.0 - cores_taken) if cores_taken else 0.0
    return compute_s + np.minimum(exchange_s * cores_taken, compute_s * lost)
