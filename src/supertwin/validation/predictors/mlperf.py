"""What the published scripts of MLPerf Training submissions set (mlcommons/training_results_v3.1 to v5.1, config_*.sh).

Most submitters run the scripts of the chip's vendor unchanged, so a row follows from chip, devices and batch; systems
whose own script differs are listed. Packs are one causal sequence: `packed_sequence_return_cu_seqlen: False` (NVIDIA
v4.1, AMD v5.0 and v5.1) and `"return_cu_seqlen": False` (NVIDIA v5.1, train.py) give attention no sample boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supertwin.machine.chip import Chip
from supertwin.validation.tables import Row

GROUP = "mlperf"
_ROUND_41, _ROUND_51 = "2024-11", "2025-10"
_GRAPHS: dict[str, Any] = {"launch": "graph"}
_FP8_ATTENTION: dict[str, Any] = {"attention_dtype": "fp8"}  # FP8_DPA=1
_LORA, _GPT3, _LARGE, _SMALL = "llama2-70b", "gpt3-175b", "llama3.1-405b", "llama3.1-8b"
_WIDEST_CONTEXT = 8
_FEW = 8  # devices of one server
_EARLY_FP4 = ("-ngpu8-", "dell-1xxe9680lx8b200", "nebius-nebius-b")
# Systems on Blackwell whose script sources config_common_fp4.sh (v5.1), by model; "ngpu8" are NVIDIA's own.
_FP4 = {
    _LORA: _EARLY_FP4,
    _SMALL: (*_EARLY_FP4, "lenovo-", "as-4126gs-nbr", "sys-422gs-", "oracle-1x"),
    _LARGE: ("-nvidia-",),
}


@dataclass(frozen=True, slots=True)
class Submission:
    """Settings of a script. sizes: parallel sizes that it fixes; recompute_layers: fully recomputed ones per device;
    settings: further fields of the case."""

    sizes: dict[str, int] = field(default_factory=dict)
    micro_batch: int = 1
    precision: str = ""
    recompute_layers: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def submission_of(row: Row, chip: Chip) -> Submission | None:
    """The script behind a row; None for rows of other groups and for benchmarks that are not known.

    GPT-3 175B: config_DGXH100_1024x8x16x4x8_mbs1 (v3.1), DGXH100_64x8x128x4x8_mbs2 (v4.1): tp 4, pp 8, six chunks.
    """
    devices, batch = row.integer("n_devices") or 0, row.integer("global_batch") or 0
    if row.text("source_group") != GROUP or not devices or not batch:
        return None
    model = row.text("model")
    if model == _LORA:
        return _lora(row, chip, devices / batch)
    if model == _GPT3:
        return Submission({"tp": 4, "pp": 8, "cp": 1, "vpp": 6}, 1 if row.text("source_date") < "2024" else 2)
    if model == _LARGE:
        return _large(row, chip)
    return _small(row, chip, devices, batch) if model == _SMALL else None


def _lora(row: Row, chip: Chip, per_sample: float) -> Submission:
    """Llama 2 70B LoRA. Chips that hold the FP8 weights alone cut the sequence, Hopper the matrices.

    config_DGXB200_1x8x1xtp1pp1cp1, GB200_128x4x1xtp1pp1cp8, DGXH100_1x8x4xtp4pp1cp1, DGXH100_128x8x1xtp4pp1cp2,
    DGXH200_1x8x2xtp1pp1cp2, XD670_H200_2x8x1xtp2pp1cp1, DGXH200_4x8x1xtp4pp1cp1, L40S_16x4x2xtp4pp1cp2.
    MI300X: ACG=full, ACM=block, ACL=21; the larger parts set no recomputation.
    """
    devices = row.integer("n_devices") or 0
    wide = max(int(per_sample), 1)
    if chip.vendor == "amd":
        layers = 21 if chip.name == "mi300x" else 0
        return Submission({"tp": 1, "pp": 1, "cp": wide}, recompute_layers=layers)
    if chip.architecture.startswith("blackwell"):
        fp4 = "nvfp4" if _four_bit(row, chip) else ""
        cp = 2 if fp4 and "dell-1xxe9680l" in row.id else min(wide, _WIDEST_CONTEXT)
        spread = {"cp_method": "ulysses", **_FP8_ATTENTION, **(_GRAPHS if cp > 1 else {})}  # CP_COMM_TYPE: a2a
        return Submission({"tp": 1, "pp": 1, "cp": cp}, precision=fp4, settings=spread)
    if chip.architecture == "ada":
        return Submission({"tp": 4, "pp": 1, "cp": 2}, settings={"overlap_tp": False})  # TP_COMM_OVERLAP=False
    tp, cp = 4, max(wide // 4, 1)
    if chip.name.startswith("h200"):
        inside = devices <= _FEW and row.text("source_date") >= _ROUND_41
        tp, cp = (1, 2) if inside else (min(max(wide, 2), 4), cp)
    graphs = _GRAPHS if tp * cp > 4 else {}
    alone = (row.integer("cp") or cp) == 1 and row.text("source_date") >= _ROUND_41
    attention = _FP8_ATTENTION if alone else {}  # FP8_DPA=1 without context parallelism, from v4.1 on
    return Submission({"tp": tp, "pp": 1, "cp": cp}, settings={**graphs, **attention})


def _large(row: Row, chip: Chip) -> Submission:
    """Llama 3.1 405B: DGXH100_64x8x288xtp8pp8cp2, DGXH200_64x8x144xtp4pp8cp2, GB200_128x4x144xtp4pp8cp2_cg_fp4,
    GB300_128x4x72xtp2pp8cp2_cg_fp4; eight chunks."""
    tp = {"h100-sxm": 8, "gb300": 2}.get(chip.name, 4)
    graphs = _GRAPHS if chip.architecture.startswith("blackwell") else {}
    fp4 = "nvfp4" if _four_bit(row, chip) else ""
    return Submission({"tp": tp, "pp": 8, "cp": 2, "vpp": 8}, precision=fp4, settings=graphs)


def _small(row: Row, chip: Chip, devices: int, batch: int) -> Submission:
    """Llama 3.1 8B: DGXB200_1x8x2xtp1pp1cp1_8b (micro batch 2), GB200_18x4x1xtp1pp1cp2_8b, GB200_128x4x1xtp2pp1cp4_8b,
    DGXH100_16x8x1xtp2pp1cp1, XD670_8x8x1xtp1pp1cp2_8b; AMD: MI355X_1x8x1_8b (MBS=4)."""
    wide = max(devices // batch, 1)
    if chip.vendor == "amd":
        return Submission({"tp": 1, "pp": 1, "cp": 1}, micro_batch=4)
    if chip.name == "h100-sxm":
        sizes = {"tp": wide, "pp": 1, "cp": 1}
    else:
        sizes = {"tp": 1, "pp": 1, "cp": wide} if wide < 8 else {"tp": 2, "pp": 1, "cp": 4}
    together = 2 if batch >= 2 * devices and chip.architecture.startswith("blackwell") else 1
    if _four_bit(row, chip):
        return Submission(sizes, together, "nvfp4", settings={**_GRAPHS, **_FP8_ATTENTION})
    return Submission(sizes, together, settings=_GRAPHS)


def _four_bit(row: Row, chip: Chip) -> bool:
    if row.text("source_date") < _ROUND_51 or not chip.architecture.startswith("blackwell"):
        return False
    return any(name in row.id for name in _FP4[row.text("model")])
