"""The deployment of the CM384 paper (arXiv 2506.12708v2, section 5.1): DeepSeek-R1, prefill and decode apart."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from supertwin.inference.case import Deployment
from supertwin.inference.deploy import Service
from supertwin.machine import load_system
from supertwin.model import load_model

INT8 = Deployment(
    weight_dtype="int8", activation_dtype="int8", kv_dtype="bf16", framework="CloudMatrix-Infer", dp_attention=True,
    redundant_experts=32, microbatch_overlap=True, expert_balance="perfect",
)  # fmt: skip
PREFILL = replace(INT8, cp=32, cp_adds_devices=True, cp_method="staged", ep=32)
DECODE = replace(INT8, dp=320, ep=320, mtp_tokens=1, mtp_acceptance=0.7)


@cache
def cm384_service(input_len: float = 4096.0, output_len: float = 1024.0) -> Service:
    """Six prefill instances of 32 dies and one decode instance of 320."""
    return Service(
        load_model("deepseek-r1"), load_system("cm384:512"), PREFILL, DECODE, 6, 1, input_len, output_len
    )  # fmt: skip
