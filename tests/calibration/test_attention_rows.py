"""Reading kernels.csv as attention, and what the shipped files say of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from supertwin.calibration.attention_files import kernel_table
from supertwin.calibration.attention_rows import KERNELS, attention_row, counted_flop, host_floor_s, library_of
from supertwin.cost.engine import CostEngine
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder

FA3 = {
    "kernel": "attention",
    "chip": "h100-sxm",
    "dtype": "fp16",
    "batch": 1,
    "heads": 16,
    "kv_heads": 16,
    "head_dim": 128,
    "v_head_dim": 128,
    "seq_q": 16384,
    "seq_kv": 16384,
    "causal": 1,
    "direction": "fwd",
    "measured_tflops": 616.0,
    "measured_us": None,
    "flop_count": "causal-halved",
    "notes": "FA3",
    "source": "flash-attention",
}


def test_counted_flop_gives_the_printed_rate_back() -> None:
    row = attention_row(FA3)
    assert row.library == "fa3"
    assert row.measured_s == pytest.approx(2.0 * 16 * 16384**2 * 128 / 616e12)
    both = attention_row({**FA3, "direction": "fwd+bwd"})
    assert [o.direction for o in both.operators] == ["fwd", "bwd"]
    assert both.measured_s == pytest.approx(3.5 * row.measured_s)
    full = attention_row({**FA3, "flop_count": "full"})
    assert full.measured_s == pytest.approx(2.0 * row.measured_s)


def test_a_time_wins_over_a_rate() -> None:
    assert attention_row({**FA3, "measured_us": 1000.0}).measured_s == pytest.approx(1e-3)


def test_libraries() -> None:
    assert library_of({"notes": "cuDNN; batch", "source": "x"}) == "cudnn"
    assert library_of({"notes": "", "source": "github:MooreThreads/SimuMax configs"}) == "cudnn"
    assert library_of({"notes": "printed 65.4%", "source": "arXiv 2506.12708v2", "chip": "ascend-910c-die"}) == ""
    hopper = {"kernel": "mla_decode", "notes": "", "source": "arXiv 2506.12708v2", "chip": "h800-sxm"}
    assert library_of(hopper) == "flashmla"


def test_rows_that_cannot_be_compared_say_why() -> None:
    with pytest.raises(ValueError, match="not attention"):
        attention_row({**FA3, "kernel": "gemm"})
    with pytest.raises(ValueError, match="shape not stated"):
        attention_row({**FA3, "kernel": "attention_decode", "heads": None, "measured_us": 91.8, "notes": "shape"})
    with pytest.raises(ValueError, match="neither"):
        attention_row({**FA3, "measured_tflops": None})


def _errors() -> list[float]:
    engines: dict[tuple[str, str], CostEngine] = {}
    out = []
    for row in kernel_table():
        try:
            read = attention_row(row) if row["kernel"] in KERNELS else None
        except ValueError:
            continue
        if read is not None:
            key = (str(row["chip"]), read.library)
            engine = engines.setdefault(key, CostEngine(load_chip(key[0]), key[1]))
            total = sum(float(np.sum(c.time_s)) for c in engine.price(read.operators))
            out.append(max(total, host_floor_s(engine.attention(read.library), read)) / read.measured_s - 1.0)
    return out


def test_kernel_table() -> None:
    """Goal of the project: median 8 %, 90th percentile 25 %."""
    ape = np.abs(_errors())
    assert len(ape) > 150
    assert np.median(ape) < 0.04
    assert np.quantile(ape, 0.9) < 0.12


def test_printed_flop_of_every_row_is_consistent() -> None:
    """A printed rate and a printed time of one row agree with the way of counting that it names."""
    checked = 0
    for row in kernel_table():
        if row["kernel"] == "attention" and row["measured_us"] and row["measured_tflops"] and row["heads"]:
            read = attention_row(row)
            rate = counted_flop(read.operators[0], row) / read.measured_s / 1e12
            assert rate == pytest.approx(row["measured_tflops"], rel=0.02), row["id"]
            checked += 1
    assert checked > 100


def _residuals(family: str) -> dict[str, dict[str, Any]]:
    return {p.parent.name: json.loads(p.read_text()) for p in shipped_folder().glob(f"*/{family}.json")}


@pytest.mark.parametrize("family", ["attention", "attention-sglang", "vector"])
def test_shipped_files_are_within_ten_percent_on_held_out_rows(family: str) -> None:
    held = {chip: f["residual"] for chip, f in _residuals(family).items() if f["residual"].get("n_held_out", 0) > 50}
    assert held
    for chip, residual in held.items():
        assert residual["held_out_median_ape"] < 0.1, chip


def test_shipped_files_are_small() -> None:
    assert sum(p.stat().st_size for p in shipped_folder().glob("*/attention*.json")) < 2_500_000
