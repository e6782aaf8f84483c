"""Chat requests at vLLM's server: versions that read the chat template for each of them.

The server is one asyncio process. It runs the handlers of a burst one after the other up to their first wait, which
comes after the template, so that the engine gets the first request when the templates of all have been read.
"""

from __future__ import annotations

from supertwin.inference.versions import vllm_version

COLLECT_S = 11e-3
"""Parsing the template and collecting its variables (jinja2 3.1.6), which vLLM 0.11.0 does for every request
(entrypoints/chat_utils.py, resolve_chat_template_kwargs; cached from 0.11.1). Timed on an EPYC core: Qwen3 10.9 ms,
Llama 3.1 10.8, DeepSeek-V3 14.1; 3.5 to 18 ms over the 23 templates that come with vLLM 0.11.0."""

DETECT_S = 7e-3
"""The same for vLLM 0.6.4 to 0.9.1, which parses it to detect the content format: "6-8 seconds delay before prompts
actually are started to process" with 1,000 requests (vllm-project/vllm PR 20065, which caches it in 0.9.2)."""

OWN_RENDERER = ("gpt-oss",)
"""Models whose requests have no template (entrypoints/openai/serving_chat.py: use_harmony)."""


def template_s(framework: str, model: str) -> float:
    """Host time on the template of one chat request of `model`, by the version of vLLM that `framework` names."""
    version = vllm_version(framework)
    if version is None or model.startswith(OWN_RENDERER):
        return 0.0
    if version == (0, 11, 0):
        return COLLECT_S
    return DETECT_S if (0, 6, 4) <= version < (0, 9, 2) else 0.0
