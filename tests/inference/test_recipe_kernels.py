"""Kernels and layouts of the Ascend recipes for sparse attention and hyper-connections."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.calibration.ascend_mixing import VECTORS
from supertwin.cost.engine import CostEngine
from supertwin.inference.case import Deployment
from supertwin.inference.hyper import with_mixing_kernels
from supertwin.inference.pieces import pieces_of
from supertwin.inference.plan import engine_of, plan_of
from supertwin.inference.recipe_kernels import KEYS, QUERIES, STREAMS, WEIGHTS
from supertwin.inference.recipe_layout import local_widths
from supertwin.inference.shape import Shape
from supertwin.machine.chips import load_chip
from supertwin.machine.systems import load_system
from supertwin.model import load_model
from supertwin.workload.layer import hyper_operators
from supertwin.workload.operators import Communication, Vector


def _layer(framework: str, model: str = "deepseek-v3.2") -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """(part, seconds) of the largest kind of layer as shown, and as every kernel takes alone."""
    system = load_system("cm384:64")
    deployment = Deployment(
        dp=64, ep=64, dp_attention=True, weight_dtype="int8", activation_dtype="int8", kv_dtype="int8",
        mtp_tokens=3, mtp_acceptance=0.48, expert_balance="perfect", framework=framework,
    )  # fmt: skip
    shape = Shape("decode", 1.0, 64.0, 4.0, 65536.0)
    plan = plan_of(load_model(model), system.chip, deployment, shape)
    block = max(plan.blocks, key=lambda b: b.count)
    compute = [o for o in block.operators if not isinstance(o, Communication)]
    costs = engine_of(system.chip, deployment).price(compute)
    alone = [(o.part, float(c.time_s)) for o, c in zip(compute, costs, strict=True)]
    pieces = pieces_of(block, plan, system, iter(costs))
    return [(o.part, float(np.ravel(p.time_s)[0])) for o, p in zip(block.operators, pieces, strict=True)], alone


def _sums(parts: list[tuple[str, float]]) -> dict[str, float]:
    return {stream: sum(time for part, time in parts if part == stream) for stream in STREAMS}


def test_the_longest_stream_of_the_indexer_shows() -> None:
    shown, alone = (_sums(found) for found in _layer("cann-recipes"))
    assert min(alone[KEYS], alone[QUERIES]) > 40e-6
    assert alone[WEIGHTS] > 5e-6
    assert sum(shown.values()) == pytest.approx(max(alone.values()))


def test_kernels_of_a_layer_are_those_of_the_code() -> None:
    """Seven for queries, eleven for keys beside their map (indexer.py), and a shared expert added apart."""
    shown, _ = _layer("cann-recipes")
    counts = {stream: sum(part == stream for part, _ in shown) for stream in STREAMS}
    assert counts == {QUERIES: 7, KEYS: 11, WEIGHTS: 1}
    added = next(time for part, time in shown if part == "moe/add")
    assert added > 2e-6
    assert dict(_layer("vllm-ascend 0.18")[0])["moe/add"] < added


def test_other_engines_start_no_such_kernels() -> None:
    parts = {part for part, _ in _layer("vllm-ascend 0.18")[0]}
    assert not parts & {*STREAMS, "attention/join"}


def test_layers_without_sparse_attention_stay_as_they_are() -> None:
    parts = {part for part, _ in _layer("cann-recipes", "deepseek-r1")[0]}
    assert not parts & {*STREAMS, "attention/join"}


@pytest.mark.parametrize("op", sorted(VECTORS))
def test_mixing_kernels_take_what_their_guide_prints(op: str) -> None:
    """cann-recipes-infer, deepseek_v4_mHC_guide.md."""
    engine = CostEngine(load_chip("ascend-910c-die"), "serving")
    for tokens, values, measured_us in VECTORS[op]:
        moved = tokens * values * 2.0
        kernel = Vector(part="norm/hyper", op=op, bytes_read=0.5 * moved, bytes_written=0.5 * moved)
        assert float(engine.price([kernel])[0].time_s) * 1e6 == pytest.approx(measured_us, rel=0.12)


def test_mixing_kernels_move_what_their_guide_measures() -> None:
    """Values of a token as measured: four streams in and one out; four and what the block gave in, four out."""
    model = load_model("deepseek-v4-flash")
    for kernel in with_mixing_kernels(hyper_operators(model, 8.0)):
        assert isinstance(kernel, Vector)
        _, values, _ = VECTORS[kernel.op][0]
        assert kernel.bytes_read + kernel.bytes_written == pytest.approx(8.0 * values * 2.0)


def test_recipes_cut_what_their_configuration_says() -> None:
    sizes = {"tp": 1, "dp": 128}
    row = {"framework": "cann-recipes (torchair)", "phase": "decode", "chip": "ascend-910c-die", "model": "glm-5"}
    assert local_widths(row, frozenset(), sizes) == {"dense_tp": 4, "output_tp": 4, "head_tp": 16}
    assert local_widths({**row, "framework": "vllm-ascend"}, frozenset(), sizes) == {}
    assert local_widths({**row, "chip": "ascend-950dt"}, frozenset(), sizes) == {}
    assert local_widths({**row, "model": "deepseek-v4-flash"}, frozenset(), sizes) == {"head_tp": 4}
    assert local_widths({**row, "model": "glm-5.2"}, frozenset({"kv-offload-host"}), sizes) == {"head_tp": 32}
    assert local_widths(row, frozenset({"dense-tp8"}), sizes)["output_tp"] == 8
