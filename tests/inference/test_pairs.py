"""Shortcut experts of the Ascend recipes (LongCat-Flash) beside the dense path of their layer and the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.inference import Deployment, InferenceCase
from supertwin.inference.anatomy import anatomy, scalar
from supertwin.inference.lanes import lanes
from supertwin.inference.overlap import on_cores
from supertwin.inference.streams import shortcut_streams
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Attention

CASE = InferenceCase(
    load_model("longcat-flash"), load_system("cm384:128"),
    Deployment(
        dp=128, ep=128, dp_attention=True, weight_dtype="int8", activation_dtype="int8", mtp_tokens=2, dense_tp=8,
        mtp_acceptance=0.6, expert_balance="perfect", framework="cann-recipes",
    ),
    "decode", 4.0, kv_len=4608,
)  # fmt: skip
ON_OTHER = replace(CASE, deployment=replace(CASE.deployment, framework="sglang"))


def test_both_halves_of_a_layer_are_one_block() -> None:
    found = anatomy(CASE)
    (pair,) = (o for o in found.blocks if o.block.pair)
    assert pair.block.count == 28
    assert pair.name == "latent attention + dense + shortcut experts, then latent attention + dense"
    other = anatomy(ON_OTHER)
    assert not any(o.block.pair for o in other.blocks)
    parts = [sorted(o.part for b in x.blocks if b.block.layer for o, _ in b.operators) for x in (found, other)]
    assert parts[0] == parts[1]


def test_experts_run_beside_what_follows_the_first_attention() -> None:
    (pair,) = (o for o in anatomy(CASE).blocks if o.block.pair)
    found = shortcut_streams(pair.pieces, CASE.system.chip)
    names = {id(piece): operator.part for operator, piece in pair.operators}
    assert not any(names[id(p)].startswith(("moe", "mlp")) for p, _ in found.first)
    assert all(names[id(p)].startswith("moe") for p, _ in found.experts)
    assert sum(names[id(p)] == "attention/core" for p, _ in found.dense) == 1
    alone = [sum(scalar(p.time_s) for p, _ in stream) for stream in (found.dense, found.experts)]
    slowed = [sum(scalar(t) for _, t in stream) for stream in (found.dense, found.experts)]
    assert all(s > a for a, s in zip(alone, slowed, strict=True))
    assert max(slowed) <= scalar(found.beside_s) < sum(slowed)
    assert scalar(found.layer_s) == pytest.approx(lanes(pair, anatomy(CASE)).length_s)


def test_the_step_is_shorter_than_one_after_the_other() -> None:
    found = anatomy(CASE)
    (pair,) = (o for o in found.blocks if o.block.pair)
    serial = sum(scalar(p.time_s) for p in pair.pieces)
    assert scalar(found.alone(lambda o: o is pair).time_s) == pytest.approx(
        28.0 * scalar(shortcut_streams(pair.pieces, CASE.system.chip).layer_s), rel=1e-9
    )
    assert scalar(shortcut_streams(pair.pieces, CASE.system.chip).layer_s) < serial


def test_attention_that_leaves_cores_idle_slows_as_products_do() -> None:
    """FA of LongCat-Flash: 8 blocks of rows; 118 us on 12 cores, 91.8 on 24 (kernels.csv)."""
    (pair,) = (o for o in anatomy(CASE).blocks if o.block.pair)
    cost = next(p.cost for o, p in pair.operators if isinstance(o, Attention) and p.cost is not None)
    assert float(np.asarray(on_cores(cost, 0.5, busy=8 / 24) / cost.time_s)) == pytest.approx(118.0 / 91.8, rel=0.06)
    assert scalar(on_cores(cost, 0.5)) > 1.8 * scalar(cost.time_s)
    found = shortcut_streams(pair.pieces, CASE.system.chip)
    core, took = next((p, t) for p, t in found.dense if p.part == "attention core")
    assert scalar(took) < 1.3 * scalar(core.time_s)
