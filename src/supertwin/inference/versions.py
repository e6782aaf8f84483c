"""Engines and their versions in framework strings."""

from __future__ import annotations

import re
from functools import lru_cache

_TRTLLM = re.compile(r"(?:tensorrt-llm|trt-?llm)\D{0,3}(\d+)\.(\d+)")
_VLLM = re.compile(r"vllm(?:-ascend)?[ (-]*v?(\d+)\.(\d+)(?:\.(\d+))?")
_SGLANG = re.compile(r"sglang[ (-]*v?(\d+)\.(\d+)(?:\.(\d+))?")


@lru_cache(maxsize=512)
def sglang_version(framework: str) -> tuple[int, int, int] | None:
    """(major, minor, patch) of SGLang; None where the string names no version of it."""
    found = _SGLANG.search(framework.lower())
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


@lru_cache(maxsize=512)
def vllm_version(framework: str) -> tuple[int, int, int] | None:
    """(major, minor, patch) of vLLM; None where the string names no version of it."""
    found = _VLLM.search(framework.lower())
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def trtllm_version(framework: str) -> tuple[int, int] | None:
    """(major, minor) of TensorRT-LLM; None where the string names no version."""
    found = _TRTLLM.search(framework.lower())
    return None if found is None else (int(found[1]), int(found[2]))


@lru_cache(maxsize=512)
def engine_name(text: str, npu: bool) -> str:
    """Name in engines.ENGINES of a framework in lower case; npu: on Ascend."""
    for mark, name in _NAMED:
        if mark in text:
            return name if name != "tensorrt-llm" else _trtllm_name(text)
    if "sglang" in text:
        return "sglang-ascend" if npu else "sglang-deepep" if "deepep" in text or "ep" in text.split() else "sglang"
    if "tensorrt" in text or text.startswith("cuda"):
        return "mlperf-tensorrt"
    if "vllm" in text or "llmboost" in text:
        return "vllm-ascend" if npu else _vllm_name(text)
    return "generic"


_NAMED = (
    ("cloudmatrix", "cloudmatrix-infer"),
    ("cann-recipes", "cann-recipes"),
    ("mindie", "mindie"),
    ("deepseek", "deepseek"),
    ("tensorrt-llm", "tensorrt-llm"),
    ("trtllm", "tensorrt-llm"),
    ("trt-llm", "tensorrt-llm"),
)


def _trtllm_name(text: str) -> str:
    """Versions before 0.19 ran compiled engines (perf-overview: "Starting with v0.19, testing was performed using the
    PyTorch backend"); later ones and those that are not named run the Python executor."""
    version = trtllm_version(text)
    return "tensorrt-llm" if version is not None and version < (0, 19) else "tensorrt-llm-pytorch"


def _vllm_name(text: str) -> str:
    if "rocm" in text or "llmboost" in text or "pytorch" in text:
        return "vllm-rocm-mlperf"
    digits = text.split("vllm", 1)[1].strip(" -(").split(".")
    try:
        major, minor = int(digits[0] or 0), int("".join(c for c in digits[1].split("/")[0] if c.isdigit()) or 0)
    except (IndexError, ValueError):
        return "vllm-async" if any(mark in text for mark in ("nightly", "wide", "p/d")) else "vllm"
    if major == 0 and minor < 8:
        return "vllm-v0"
    return "vllm-async" if (major, minor) >= (0, 14) else "vllm"
