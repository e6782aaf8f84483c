"""What the options of a case allow: formats by part, ways to sample, a shared prefix."""

from __future__ import annotations

from supertwin.core.errors import InputError
from supertwin.core.formats import number_format
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.model.spec import ModelSpec

PARTS = ("attention", "mlp", "shared", "experts", "head")
MOST_CORES = 4096.0
WORDS = ("greedy", "topk", "topp", "sort", "penalties", "guided")


def check_options(case: InferenceCase) -> None:
    """Raise InputError or UnknownName for options that cannot be."""
    d = case.deployment
    if d.host_cores:
        check_cores(d)
    if d.part_dtypes:
        check_parts(case.model, d)
    if d.sampling:
        read_words(d.sampling)
    if d.shared_prefix:
        check_shared(case)


def check_cores(d: Deployment) -> None:
    """Raise InputError for cores that cannot be."""
    if not 0.0 <= d.host_cores <= MOST_CORES:
        raise InputError(
            f"host_cores = {d.host_cores:g}: expected physical cores of a node for one instance, above 0 and at most"
            f" {MOST_CORES:g} (0: enough)"
        )
    if d.host_cores and d.afd_instances:
        raise InputError("host_cores with attention and feed-forward apart is not modelled; expected enough cores (0)")


def check_parts(model: ModelSpec, deployment: Deployment) -> None:
    """Raise InputError or UnknownName for formats of parts that cannot be."""
    mixes = any(f is not None and f.experts > 0 for x in model.layers for f in (x.feed_forward, x.shortcut))
    for part, weight, activation in deployment.part_dtypes:
        if part not in PARTS:
            raise InputError(f"part {part!r} of the weights: expected one of {', '.join(PARTS)}")
        number_format(weight), number_format(activation)
        if part in ("shared", "experts") and not mixes:
            raise InputError(f"part {part} of the weights: {model.name} has no experts; legal: attention, mlp, head")
    if deployment.part_dtypes and deployment.afd_instances:
        raise InputError("formats by part with --afd are not modelled; expected one --weight-dtype")


def check_shared(case: InferenceCase) -> None:
    """Raise InputError for a prefix that no request can have."""
    shared = case.deployment.shared_prefix
    if shared < 0:
        raise InputError(f"shared_prefix = {shared}: expected 0 or more tokens")
    if shared and case.phase != "prefill" and shared >= case.kv_len:
        raise InputError(
            f"shared_prefix({shared}) leaves nothing of the {case.kv_len} tokens of context; expected less"
        )


def read_words(text: str) -> str:
    """Words of a way to sample, sorted and joined; "" for greedy. Raises InputError."""
    words = [word.strip().lower().replace("-", "") for word in text.split(",")]
    for word in words:
        if word not in WORDS:
            raise InputError(f"sampling {word[:40]!r}: expected one or more of {', '.join(WORDS)}")
    if "greedy" in words and {"topk", "topp", "sort"} & set(words):
        raise InputError(
            "sampling greedy takes the best token: topk, topp and sort do not go with it; expected it alone or with"
            " penalties, guided"
        )
    if "sort" in words and not {"topk", "topp"} & set(words):
        raise InputError("sampling sort is how topk or topp are found; expected one of them with it")
    return ",".join(sorted(set(words) - {"greedy"}))
