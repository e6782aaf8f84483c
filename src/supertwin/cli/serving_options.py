"""Flags of `infer --phase serve`."""

from __future__ import annotations

from supertwin.cli.options import Option

_FREE = "balanced for the lengths"

SERVING_OPTIONS = (
    Option("--output-len", "int", "Serve: output tokens.", "1024", minimum=1),
    Option("--rate", "float", "Serve: requests per second (Poisson).", "most within limits", minimum=0, above=True),
    Option("--concurrency", "float", "Serve: requests in a closed loop.", minimum=0, above=True),
    Option("--prefill-devices", "int", "Serve: devices that prefill; 0: every instance does both.", _FREE, minimum=0),
    Option("--decode-devices", "int", "Serve: devices that decode.", _FREE, minimum=1),
    Option("--prefill-instance", "int", "Serve: devices of one prefill instance.", "fewest that hold it", minimum=1),
    Option("--decode-instance", "int", "Serve: devices of one decode instance.", "fewest that hold it", minimum=1),
    Option("--prefill-tp", "int", "Serve: tensor parallel size of prefill.", "as --tp, else chosen", minimum=1),
    Option("--hit-rate", "float", "Serve: share of prompts in the context cache.", "0", minimum=0, maximum=0.999),
    Option("--prefixes", "float", "Serve: prefixes in use; the cache keeps some.", "all are kept", minimum=1),
    Option("--zipf", "float", "Serve: exponent of their popularity.", "1", minimum=0, maximum=4),
    Option("--cache", "str", "Serve: where it lies.", "hbm", ("hbm", "host", "ub", "rdma", "vpc", "ssd")),
    Option("--plane", "str", "Serve: plane from prefill to decode.", "rdma where there is one", ("ub", "rdma")),
    Option("--kv-transfer", "str", "Serve: when the keys leave.", "after", ("after", "layerwise")),
    Option("--first-token", "str", "Serve: side that sends it.", "decode", ("decode", "prefill")),
    Option("--slo-ttft-ms", "float", "Serve: limit on the time to first token.", "none", minimum=0, above=True),
    Option("--slo-tpot-ms", "float", "Serve: limit on the time per output token.", "none", minimum=0, above=True),
    Option("--slo-stat", "str", "Serve: what the limits bound.", "mean", ("mean", "p99")),
)  # fmt: skip
