"""Words of a training job: what the command line offers, and what a job is checked against."""

from __future__ import annotations

SCHEDULES = ("1f1b", "interleaved", "gpipe", "zb-h1", "zb-v", "dualpipe", "dualpipev")
SHARDING = ("none", "zero1", "zero2", "zero3", "hsdp")
RECOMPUTE = ("none", "selective", "full", "partial")
TASKS = ("pretrain", "sft", "lora", "rl")
BALANCES = ("weights", "time", "layers")
CP_METHODS = ("ring", "all_gather", "ulysses", "hybrid")
DISPATCHERS = ("all_to_all", "deepep", "hybridep")
LAUNCHES = ("eager", "graph", "compiled")
UPDATES = ("sequential", "pipelined", "delayed", "swapped")
"""How the optimizer's states on the host are updated (with offload)."""
