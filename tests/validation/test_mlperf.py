"""What rows of MLPerf Training take from the published scripts: sizes against names of config files."""

from __future__ import annotations

import math
from typing import Any

import pytest

from supertwin.machine.chips import load_chip
from supertwin.validation.predictors.mlperf import Submission, submission_of
from supertwin.validation.tables import Row

LORA, SMALL, LARGE, GPT3 = "llama2-70b", "llama3.1-8b", "llama3.1-405b", "gpt3-175b"


def row(chip: str, model: str, devices: int, batch: int, date: str = "2025-11", name: str = "x") -> Row:
    given = {"id": name, "source_group": "mlperf", "chip": chip, "model": model}
    return Row("training", 1, {**given, "n_devices": devices, "global_batch": batch, "source_date": date})


def script(given: Row) -> Submission:
    found = submission_of(given, load_chip(given.text("chip")))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("chip", "model", "devices", "batch", "date", "sizes"),
    [
        ("b200-sxm", LORA, 8, 8, "2025-06", (1, 1, 1)),  # config_DGXB200_1x8x1xtp1pp1cp1.sh
        ("b200-sxm", LORA, 64, 8, "2025-06", (1, 1, 8)),  # config_DGXB200_8x8x1xtp1pp1cp8.sh
        ("gb200", LORA, 512, 64, "2025-11", (1, 1, 8)),  # config_GB200_128x4x1xtp1pp1cp8.sh
        ("h100-sxm", LORA, 8, 8, "2024-11", (4, 1, 1)),  # config_DGXH100_1x8x4xtp4pp1cp1.sh
        ("h100-sxm", LORA, 1024, 128, "2024-11", (4, 1, 2)),  # config_DGXH100_128x8x1xtp4pp1cp2.sh
        ("h200-sxm", LORA, 8, 8, "2024-06", (2, 1, 1)),  # config_DGXH200_1x8x2xtp2pp1cp1.sh
        ("h200-sxm", LORA, 8, 8, "2024-11", (1, 1, 2)),  # config_DGXH200_1x8x2xtp1pp1cp2.sh
        ("h200-sxm", LORA, 32, 8, "2025-06", (4, 1, 1)),  # config_DGXH200_4x8x1xtp4pp1cp1.sh
        ("h200-sxm", LORA, 512, 64, "2025-06", (4, 1, 2)),  # config_DGXH200_64x8x1xtp4pp1cp2.sh
        ("l40s", LORA, 64, 8, "2024-06", (4, 1, 2)),  # config_L40S_16x4x2xtp4pp1cp2.sh
        ("mi300x", LORA, 16, 8, "2025-06", (1, 1, 2)),  # config_MI300X_2x8x1.sh
        ("gb300", LARGE, 512, 1152, "2025-11", (2, 8, 2)),  # config_GB300_128x4x72xtp2pp8cp2_cg_fp4.sh
        ("gb200", LARGE, 2560, 960, "2025-11", (4, 8, 2)),  # config_GB200_640x4x24xtp4pp8cp2_cg_fp4.sh
        ("h100-sxm", LARGE, 512, 1152, "2025-06", (8, 8, 2)),  # config_DGXH100_64x8x288xtp8pp8cp2.sh
        ("gb200", SMALL, 72, 36, "2025-11", (1, 1, 2)),  # config_GB200_18x4x1xtp1pp1cp2_8b.sh
        ("gb300", SMALL, 512, 64, "2025-11", (2, 1, 4)),  # config_GB300_128x4x1xtp2pp1cp4_8b.sh
        ("h100-sxm", SMALL, 128, 64, "2025-11", (2, 1, 1)),  # config_DGXH100_16x8x1xtp2pp1cp1.sh
        ("mi355x", SMALL, 8, 32, "2025-11", (1, 1, 1)),  # config_MI355X_1x8x1_8b.sh
        ("h100-sxm", GPT3, 8192, 4096, "2023-11", (4, 8, 1)),  # config_DGXH100_1024x8x16x4x8_mbs1.sh
    ],
)
def test_sizes_are_those_of_the_config_files(
    chip: str, model: str, devices: int, batch: int, date: str, sizes: tuple[int, int, int]
) -> None:
    found = script(row(chip, model, devices, batch, date)).sizes
    assert (found["tp"], found["pp"], found["cp"]) == sizes
    assert devices % math.prod(sizes) == 0


def test_only_scripts_that_source_the_four_bit_settings_run_in_nvfp4() -> None:
    own = script(row("gb300", LORA, 8, 8, name="mlperf-v5-1-nvidia-theia-ngpu8-ngc25-09-nemo-llama2-70b-lora"))
    wide = script(row("gb300", LORA, 72, 9, name="mlperf-v5-1-nvidia-theia-ngpu72-ngc25-09-nemo-llama2-70b-lora"))
    earlier = script(row("b200-sxm", LORA, 8, 8, "2025-06", "mlperf-v5-0-nvidia-tyche-ngpu8-nemo-llama2-70b-lora"))
    assert (own.precision, wide.precision, earlier.precision) == ("nvfp4", "", "")


def test_mi300x_alone_recomputes_twenty_one_layers() -> None:
    layers = {chip: script(row(chip, LORA, 8, 8)).recompute_layers for chip in ("mi300x", "mi325x", "mi355x")}
    assert layers == {"mi300x": 21, "mi325x": 0, "mi355x": 0}


def test_rows_of_other_groups_have_no_submission() -> None:
    other = Row("training", 1, {"source_group": "dgxc", "model": LORA, "n_devices": 8, "global_batch": 8})
    assert submission_of(other, load_chip("h100-sxm")) is None


def test_attention_is_in_eight_bits_where_the_scripts_say_so() -> None:
    """FP8_DPA=1: LoRA on Blackwell, on Hopper from v4.1 on without context parallelism, 8B in NVFP4."""

    def attention(*given: Any) -> object:
        return script(row(*given)).settings.get("attention_dtype", "")

    assert attention("b200-sxm", LORA, 8, 8, "2025-06") == "fp8"
    assert attention("h100-sxm", LORA, 8, 8, "2024-11") == "fp8"
    assert attention("h100-sxm", LORA, 8, 8, "2024-06") == ""
    assert attention("h100-sxm", LORA, 1024, 128, "2024-11") == ""
    assert attention("mi300x", LORA, 8, 8) == ""
    assert attention("gb300", LARGE, 512, 1152) == ""
