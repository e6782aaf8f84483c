"""Versions of vLLM that read the chat template for each request."""

from __future__ import annotations

import pytest

from supertwin.inference.chat import COLLECT_S, DETECT_S, template_s

_CASES = [
    ("vLLM 0.6.3", 0.0),
    ("vLLM 0.9.1", DETECT_S),
    ("vLLM-Ascend 0.9.1", DETECT_S),
    ("vLLM 0.9.2", 0.0),
    ("vLLM 0.11.0", COLLECT_S),
    ("vLLM 0.11.1", 0.0),
    ("vLLM 0.17.1", 0.0),
    ("vLLM", 0.0),
    ("SGLang 0.5.3", 0.0),
]


@pytest.mark.parametrize(("framework", "expected"), _CASES)
def test_templates_are_read_per_request_by_some_versions(framework: str, expected: float) -> None:
    """Content format detected per request until PR 20065 (0.9.2), variables of the template collected in 0.11.0 alone;
    gpt-oss has a renderer of its own."""
    assert template_s(framework, "qwen3-14b") == expected
    assert template_s(framework, "gpt-oss-120b") == 0.0
