"""Flags of `infer`."""

from __future__ import annotations

from supertwin.cli.options import Option, shorten
from supertwin.cli.serving_options import SERVING_OPTIONS
from supertwin.cli.steps import FORMATS
from supertwin.core.errors import InputError

_MOST_REQUESTS = 1e15
_FREE = "chosen to fit memory"
CP_METHODS = ("all-gather", "ring", "ulysses", "staged")

OPTIONS = (
    Option("--on", "str", "System, with :N for N devices of it.", "cm384"),
    Option("--phase", "str", "Which step; serve: a deployment.", "decode", ("prefill", "decode", "mixed", "serve")),
    Option("--tp", "int", "Tensor parallel size of attention.", _FREE, minimum=1),
    Option("--pp", "int", "Pipeline stages.", "1", minimum=1),
    Option("--ep", "int", "Expert parallel size; 1 shards the experts over tp x dp.", _FREE, minimum=1),
    Option("--dp", "int", "Data parallel attention ranks of one instance.", _FREE, minimum=1),
    Option("--cp", "int", "Context parallel size: own devices in prefill, of tp in decode.", "1", minimum=1),
    Option("--cp-method", "str", "Prefill: how cp ranks share keys or heads.", "all-gather", CP_METHODS),
    Option("--cp-balanced", "yesno", "Prefill: each cp rank has an early and a late part.", "yes"),
    Option("--prompt-cv", "float", "Prefill: spread of prompt lengths over mean.", "0", minimum=0, maximum=4),
    Option("--dp-attention", "yesno", "The dp ranks share one set of experts.", "yes for experts with dp > 1"),
    Option("--dense-tp", "int", "Attention ranks over which dense MLPs are cut.", "1", minimum=1),
    Option("--output-tp", "int", "Attention ranks over which the output projection is cut.", "1", minimum=1),
    Option("--head-tp", "int", "Attention ranks over which the LM head is cut.", "1", minimum=1),
    Option("--afd", "str", "xAyF: x attention and y feed-forward instances apart, such as 2A2F (decode).", "off"),
    Option("--afd-unit", "int", "With --afd: devices of one instance.", "those of a node", minimum=1),
    Option("--afd-microbatches", "int", "With --afd: micro-batches in ping-pong.", "3", minimum=1, maximum=64),
    Option("--batch", "str", "Requests per device; max: the most that fits.", "up to 32; prefill: one per rank"),
    Option("--input-len", "int", "New tokens of a prompt (prefill, mixed, serve).", "4096", minimum=1),
    Option("--prefix-len", "int", "Tokens in the cache before them, such as a shared prefix.", "0", minimum=0),
    Option("--chunk-tokens", "int", "Mixed: prompt tokens of one step on every attention rank.", "2048", minimum=0),
    Option("--kv-len", "int", "Context tokens per request (decode, mixed).", "4096", minimum=1),
    Option("--weight-dtype", "str", "Stored weights.", "the checkpoint's, else bf16", FORMATS),
    Option("--activation-dtype", "str", "Activations in products.", "as the weights, where the chip can", FORMATS),
    Option("--kv-dtype", "str", "Stored keys and values.", "bf16", FORMATS),
    Option("--mtp-tokens", "int", "Draft tokens per step.", "0", minimum=0, maximum=64),
    Option("--mtp-acceptance", "float", "Accepted drafts over drafts.", "0.7", minimum=0, maximum=1),
    Option("--microbatch-overlap", "yesno", "Overlap two micro-batches.", "no"),
    Option("--expert-balance", "str", "Load of the experts.", "natural", ("natural", "perfect", "eplb", "unknown")),
    Option("--redundant-experts", "int", "Replicated experts in all.", "0", minimum=0),
    Option("--exchange", "str", "Expert exchange: fused or apart.", "fused", ("fused", "separate")),
    Option("--kv-pool", "int", "Sparse attention: tokens kept here, all keys on the host.", "all here", minimum=1),
    Option("--framework", "str", "Serving engine.", "generic"),
    Option("--roofline", "path", "Draw the roofline of the operators (.svg or .png; needs matplotlib)."),
    Option("--trace", "path", "Write the step as a Perfetto trace (.json or .json.gz)."),
    *SERVING_OPTIONS,
)  # fmt: skip


def given_batch(value: object) -> float | None:
    """Requests per device; None where it is open or `max`. Raises InputError."""
    if value is None or str(value).strip().lower() == "max":
        return None
    try:
        batch = float(str(value))
    except ValueError:
        batch = 0.0
    if not 0.0 < batch <= _MOST_REQUESTS:
        raise InputError(f"--batch: expected a number above 0 or max, got {shorten(str(value))!r}")
    return batch
