"""Vector operators and launches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import UnknownName
from supertwin.cost.engine import CostEngine
from supertwin.cost.launch import MODES, issued_time_s, launch_gap_s, launch_start_s
from supertwin.cost.result import OperatorCost
from supertwin.cost.vector import CLASSES
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Vector


def cost(chip: str, op: Vector) -> OperatorCost:
    return CostEngine(load_chip(chip)).price([op])[0]


def work(op: str, read: float, written: float, **changes: object) -> Vector:
    return Vector(part="v", op=op, bytes_read=read, bytes_written=written, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chip", "op", "tokens", "width", "passes", "measured_us"),
    [
        # operators/norm_elementwise: median of the repeats of one shape, kernel timings (H800) and Vidur (A100)
        ("h800-sxm", "activation", 8192, 53248, 3, 1327.2),
        ("h800-sxm", "rope", 8192, 17408, 2, 390.3),
        ("h800-sxm", "embedding", 16384, 16384, 2, 368.4),
        ("a100-sxm-80gb", "add", 8192, 8192, 3, 237.0),
    ],
)
def test_measured_shapes(chip: str, op: str, tokens: int, width: int, passes: int, measured_us: float) -> None:
    size = 2.0 * tokens * width
    got = cost(chip, work(op, (passes - 1) * size, size, rows=tokens)).time_s
    assert got == pytest.approx(measured_us * 1e-6, rel=0.1)


@given(op=st.sampled_from(sorted(CLASSES)), power=st.integers(10, 36), chip=st.sampled_from(["h100-sxm", "b200-sxm"]))
@settings(max_examples=100, deadline=None)
def test_bounds(op: str, power: int, chip: str) -> None:
    hardware = load_chip(chip)
    once = cost(chip, work(op, 2.0**power, 2.0**power))
    fastest = max(hardware.l2_bytes_per_s, hardware.memory_bytes_per_s)
    assert once.time_s > 2.0 ** (power + 1) / fastest
    if power > 30:
        assert once.time_s > 0.97 * once.bytes / hardware.memory_bytes_per_s
    more = cost(chip, work(op, 2.0 ** (power + 1), 2.0 ** (power + 1)))
    assert more.time_s >= 0.9 * once.time_s


@pytest.mark.parametrize(("fused_add", "measured_us"), [(False, 281.66), (True, 418.97)])
def test_norms_with_and_without_the_residual_add(fused_add: bool, measured_us: float) -> None:
    """operators/norm_elementwise, H800, 8192 rows of 16,384: input norm and norm after attention."""
    values = 8192.0 * 16384.0
    moved, flop = (4.0 * values, 5.0 * values) if fused_add else (2.0 * values, 4.0 * values)
    got = cost("h800-sxm", work("norm", moved, moved, flop=flop, rows=8192))
    assert got.time_s == pytest.approx(measured_us * 1e-6, rel=0.08)
    assert got.memory_s > got.compute_s


def test_fused_work_starts_nothing_and_moves_nothing() -> None:
    alone = cost("h100-sxm", work("activation", 1e8, 5e7, flop=1e8))
    fused = cost("h100-sxm", work("activation", 1e8, 5e7, flop=1e8, fused=True))
    assert fused.bytes == 0.0
    assert fused.overhead_s == 0.0
    assert fused.time_s < 0.2 * alone.time_s


def test_few_long_rows_leave_cores_idle() -> None:
    chip = "h800-sxm"
    one = cost(chip, work("activation", 2 * 2 * 53248.0, 2 * 53248.0, rows=1)).time_s
    spread = cost(chip, work("activation", 2 * 2 * 53248.0, 2 * 53248.0)).time_s
    assert one > 4 * spread
    assert one == pytest.approx(27.6e-6, rel=0.3)  # operators/norm_elementwise, one row of 53,248


def test_arrays_equal_scalars_and_unknown_classes_are_refused() -> None:
    sizes = np.array([1e3, 1e6, 1e9])
    together = cost("h100-sxm", work("norm", sizes, sizes)).time_s
    alone = [float(cost("h100-sxm", work("norm", s, s)).time_s) for s in sizes]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    with pytest.raises(UnknownName, match="softmax"):
        cost("h100-sxm", work("softmx", 1.0, 1.0))


def test_launch() -> None:
    chip = load_chip("h100-sxm")
    gaps = {mode: launch_gap_s(chip, mode) for mode in MODES}
    assert gaps["graph"] < gaps["compiled"] < gaps["eager"]
    # event minus kernel time of a small norm: operators/norm_elementwise, A800 and H800
    assert gaps["eager"] == pytest.approx(5.4e-6, rel=0.1)
    # a naive graph launch takes 0.6 to 0.8 ms: arXiv 2506.12708v2, section 4.2.4
    assert 6e-4 <= launch_start_s(load_chip("ascend-910c-die"), "graph") <= 8e-4
    with pytest.raises(UnknownName, match="eager"):
        launch_gap_s(chip, "eagre")


@given(kernels=st.integers(1, 2000), kernel_us=st.floats(0.5, 500.0))
def test_host_or_device_binds(kernels: int, kernel_us: float) -> None:
    chip = load_chip("h100-sxm")
    busy = kernels * kernel_us * 1e-6
    total = issued_time_s(chip, "eager", busy, float(kernels))
    assert total >= max(busy, kernels * launch_gap_s(chip, "eager"))
    assert issued_time_s(chip, "graph", busy, float(kernels)) <= total
