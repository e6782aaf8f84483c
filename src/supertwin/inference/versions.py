"""Versions of engines in framework strings."""

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
