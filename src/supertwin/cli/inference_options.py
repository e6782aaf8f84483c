"""Flags of `infer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from supertwin.cli.options import Option, shorten
from supertwin.cli.serving_options import SERVING_OPTIONS
from supertwin.cli.steps import FORMATS
from supertwin.core.errors import InputError, UnknownName

_MOST_REQUESTS = 1e15
_VERIFIED = 8  # SGLang: speculative_num_draft_tokens beside 4 branches
_ACCEPTANCE = 0.7  # of one draft: CloudMatrix384 paper, section 5; Ascend recipes
_FREE = "chosen to fit memory"
CP_METHODS = ("all-gather", "ring", "ulysses", "staged")

OPTIONS = (
    Option("--on", "str", "System, with :N for N devices of it.", "cm384", form="SYSTEM[:N]"),
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
    Option("--afd", "str", "Decode: x attention and y feed-forward instances apart, such as 2A2F.", "off", form="xAyF"),
    Option("--afd-unit", "int", "With --afd: devices of one instance.", "those of a node", minimum=1),
    Option("--afd-microbatches", "int", "With --afd: micro-batches in ping-pong.", "3", minimum=1, maximum=64),
    Option("--batch", "str", "Requests per device; max: what fits.", "up to 32; prefill: one per rank", form="N|max"),
    Option("--input-len", "int", "New tokens of a prompt (prefill, mixed, serve).", "4096", minimum=1),
    Option("--prefix-len", "int", "Tokens in the cache before them, such as a shared prefix.", "0", minimum=0),
    Option("--chunk-tokens", "int", "Mixed: prompt tokens of one step on every attention rank.", "2048", minimum=0),
    Option("--kv-len", "int", "Context tokens per request (decode, mixed).", "4096", minimum=1),
    Option("--shared-prefix", "int", "Tokens that all requests share, such as a system prompt.", "0", minimum=0),
    Option("--cascade", "yesno", "Attention reads the shared tokens once.", "yes"),
    Option("--weight-dtype", "str", "Weights, or by part: experts=int4/int8,mlp=fp8.", "the checkpoint's, else bf16"),
    Option("--activation-dtype", "str", "Activations in products.", "as the weights, where the chip can", FORMATS),
    Option("--kv-dtype", "str", "Stored keys and values.", "bf16", FORMATS),
    Option("--mtp-tokens", "int", "Draft tokens per step; levels of a tree.", "0", minimum=0, maximum=64),
    Option("--mtp-acceptance", "str", "Accepted over drafts, or at each position: 0.8,0.7,0.6.", "0.7"),
    Option("--draft", "str", "Who drafts: mtp, eagle, eagle3, ngram, suffix, or a model.", "mtp"),
    Option("--draft-topk", "int", "Nodes of a tree of drafts expanded per level.", "1", minimum=1, maximum=64),
    Option("--verify-tokens", "int", "Nodes of the tree checked, root included.", "8", minimum=2, maximum=1024),
    Option("--sampling", "list", "greedy, or topk, topp, sort, penalties, guided.", "greedy"),
    Option("--microbatch-overlap", "yesno", "Overlap two micro-batches.", "no"),
    Option("--expert-balance", "str", "Load of the experts.", "natural", ("natural", "perfect", "eplb", "unknown")),
    Option("--redundant-experts", "int", "Replicated experts in all.", "0", minimum=0),
    Option("--exchange", "str", "Expert exchange: fused or apart.", "fused", ("fused", "separate")),
    Option("--kv-pool", "int", "Sparse attention: tokens kept here, all keys on the host.", "all here", minimum=1),
    Option("--weight-prefetch", "yesno", "Ascend decode: weights go to L2 ahead of their products.", "no"),
    Option("--super-kernel", "yesno", "Ascend decode: kernels of a layer joined to one.", "no"),
    Option("--framework", "str", "Serving engine.", "generic"),
    Option("--host-cores", "float", "CPU cores of each node for one instance.", "enough", minimum=0.1, maximum=4096),
    Option("--roofline", "path", "Draw the roofline of the operators (.svg or .png; needs matplotlib)."),
    Option("--trace", "path", "Write the step as a Perfetto trace (.json or .json.gz)."),
    *SERVING_OPTIONS,
)  # fmt: skip


def given_formats(given: Mapping[str, str], usual: str, activation_of: Callable[[str], str]) -> dict[str, Any]:
    """Fields of a deployment: formats of weights and activations, and those of parts. Raises InputError, UnknownName.

    A part is name=weights or name=weights/activations; activations are else --activation-dtype, or what the weights
    usually run with. A word without part is the format of all others.
    """
    from supertwin.inference.checks import PARTS

    weight = usual
    parts: list[tuple[str, str, str | None]] = []
    for word in given.get("weight_dtype", "").lower().split(","):
        name, separator, formats = (x.strip() for x in word.partition("="))
        if not separator:
            weight = _format(name) if name else weight
            continue
        if name not in PARTS or name in (part for part, *_ in parts):
            raise InputError(f"--weight-dtype: part {name!r}; expected each of {', '.join(PARTS)} once at most")
        own, _, beside = formats.partition("/")
        parts.append((name, _format(own), _format(beside) if beside else given.get("activation_dtype")))
    whole = given.get("activation_dtype") or activation_of(weight)
    kept = tuple((name, own, beside or activation_of(own)) for name, own, beside in parts)
    return {"weight_dtype": weight, "activation_dtype": whole, "part_dtypes": kept}


def _format(word: str) -> str:
    if word not in FORMATS:
        raise UnknownName("value of --weight-dtype", word, FORMATS)
    return word


def given_drafts(given: Mapping[str, str], drafts: int) -> dict[str, Any]:
    """Fields of a deployment: who drafts, the tree, and accepted drafts over drafts. Raises InputError.

    One number is accepted drafts over drafts; in a tree, and in a list (its last number goes on), the acceptance of the
    first guess at each position given all before it.
    """
    from supertwin.inference.acceptance import expected_accepted, tree_nodes

    topk = int(given.get("draft_topk", 1))
    found: dict[str, Any] = {"draft": given.get("draft", "").strip(), "draft_topk": topk}
    found["draft"] = "" if found["draft"].lower() == "mtp" else found["draft"]
    verified = int(given.get("verify_tokens", min(_VERIFIED, 1 + tree_nodes(drafts, topk)) if topk > 1 else 0))
    if drafts:
        found["verify_tokens"] = verified
    chances = _chances(given.get("mtp_acceptance", str(_ACCEPTANCE)))
    if len(chances) > max(drafts, 1):
        raise InputError(f"--mtp-acceptance: {len(chances)} positions given, but --mtp-tokens is {drafts}")
    if drafts and (len(chances) > 1 or topk > 1):
        every = [*chances, *[chances[-1]] * (drafts - len(chances))]
        accepted = expected_accepted(every, topk, verified) / drafts
    else:
        accepted = chances[0] if drafts or "mtp_acceptance" in given else 0.0
    return {**found, "mtp_acceptance": accepted}


def _chances(text: str) -> list[float]:
    try:
        chances = [float(word) for word in text.split(",")]
    except ValueError:
        chances = [-1.0]
    if not all(0.0 <= chance <= 1.0 for chance in chances):
        raise InputError(
            "--mtp-acceptance: expected a number, or one per position such as 0.8,0.7, of at least 0 and at most 1, "
            f"got {shorten(text)!r}"
        )
    return chances


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
