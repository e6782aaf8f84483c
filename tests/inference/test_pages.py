"""What pages say of runs and rows do not: parts and options."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.inference import Deployment
from supertwin.inference.assumptions import EAGLE3_TREE
from supertwin.inference.curves import decode_time
from supertwin.inference.pages import DRAFT_TREES, PAGE_CHIP, chip_of, draft_tree, framework_of, options
from supertwin.inference.reading import read
from supertwin.machine import load_chip, load_system
from supertwin.model import load_model

_PAGE = "gpustack/gpustack (47277d79) performance-lab/"


def test_pages_whose_figures_show_another_part() -> None:
    for page in PAGE_CHIP:
        assert chip_of({"chip": "h100-sxm", "source": _PAGE + page}) == "h100-pcie"
    assert chip_of({"chip": "h100-sxm", "source": _PAGE + "qwen3-8b/h100-latency.md"}) == "h100-sxm"
    assert chip_of({"chip": "a100-sxm-80gb", "source": _PAGE + "qwen3-32b/a100.md"}) == "a100-sxm-80gb"


@pytest.mark.parametrize(("system", "within"), [("h100-pcie-8:1", True), ("dgx-h100:1", False)])
def test_one_long_request_tells_the_memory_of_the_part(system: str, within: bool) -> None:
    """Qwen3-32B in BF16, one request of 32,000 tokens, vLLM 0.11: 43.3 ms between tokens (GPUStack, median, printed on
    the page alone). HBM2e reads weights and cache in that time, HBM3 in little more than half."""
    one = Deployment(weight_dtype="bf16", activation_dtype="bf16", kv_dtype="bf16", framework="vLLM 0.11.0")
    step = float(decode_time(load_model("qwen3-32b"), load_system(system), one, np.array([1.0]), 32050.0)[0])
    assert (step == pytest.approx(43.3e-3, rel=0.1)) is within


def test_options_of_launch_commands() -> None:
    glm = {"source": _PAGE + "glm-5.2/h200.md", "framework": "SGLang 0.5.14", "notes": "KV Cache DType / fp8_e4m3; x"}
    found = options(glm)
    assert (found.memory_share, found.most_running, found.deepep) == (0.85, 256, True)
    assert framework_of(glm, found) == "SGLang 0.5.14 DeepEP"
    assert options({**glm, "notes": "DeepEP + Max Running Requests / max-running 64; x"}).most_running == 64
    assert options({**glm, "framework": "vLLM 0.24.0"}).memory_share == 0.0
    assert options({**glm, "notes": "Memory Fraction / auto; x"}).memory_share == 0.0
    assert options({**glm, "notes": "Memory Fraction / 0.8; x"}).memory_share == 0.8


@pytest.mark.parametrize(
    ("notes", "tokens"),
    [
        ("--max-num-batched-tokens 4096; 1000 requests", 4096),
        ("--max_num_tokens=16384", 16384),
        ("dynamic 32K chunks", 32768),
        ("", 0),
    ],
)
def test_tokens_of_a_step_that_a_row_names(notes: str, tokens: int) -> None:
    assert options({"notes": notes}).batched_tokens == tokens


def test_a_whole_mean_is_no_length_that_somebody_asked_for() -> None:
    """196.0 is the mean of 1,000 ShareGPT answers (gpustack-0199); 200, 128 and 1,024 are typed."""
    base = {
        "phase": "serving",
        "model": "qwen3-14b",
        "chip": "h100-sxm",
        "n_devices": 1.0,
        "tp": 1.0,
        "input_len": 217.4,
    }
    for length, varied in ((196.0, True), (199.9, True), (200.0, False), (128.0, False), (1024.0, False)):
        row = {**base, "output_len": length, "flags": "lengths-are-means", "source_group": "x"}
        assert read(row, load_model("qwen3-14b"), load_chip("h100-sxm"), 1e9).varied is varied


def test_trees_of_the_runs_of_a_page() -> None:
    assert draft_tree({"id": "gpustack-0282"}) == (8, 4, 16)
    assert draft_tree({"id": "gpustack-0279"}) == draft_tree({}) == EAGLE3_TREE
    assert all(nodes > 1 or checked == levels + 1 for levels, nodes, checked in DRAFT_TREES.values())
