"""Single changes to a deployment or to its machine, as candidates of the what-if table of a step.

Options are what the owner of the deployment may turn: batch, drafts, micro-batches, experts, layout, formats. Machines
are what nobody can buy today (but for the scale-up that ends at the node: servers on RDMA) and what shows which part of
the machine the step waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from supertwin.core import change
from supertwin.core.formats import number_format
from supertwin.core.moves import twice_and_half
from supertwin.inference.acceptance import draft_acceptance
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.placement import moe
from supertwin.machine.doubled import doubled
from supertwin.machine.system import cut_to_the_node, has_bus_beyond_the_node

MORE_REPLICAS = 32
_NARROW = {"fp8": 1.0, "int8": 1.0, "nvfp4": 0.5}  # formats of weights and activations, bytes per value
_RATES = {"fp8": "fp8", "int8": "int8", "nvfp4": "fp4"}
_NARROW_CACHE = {"nvidia": "fp8", "amd": "fp8", "huawei": "int8"}


@dataclass(frozen=True, slots=True)
class Scale:
    """Factors on what a machine change touches: fixed and per-byte part of every exchange, and the host's gaps."""

    fixed: float = 1.0
    per_byte: float = 1.0
    host: float = 1.0


PLAIN = Scale()


Change = change.Change[InferenceCase, Scale]


def changes(case: InferenceCase) -> Iterator[Change]:
    """Every candidate, legal or not; the caller checks."""
    yield from _batch_changes(case)
    yield from _draft_changes(case)
    yield from _expert_changes(case)
    yield from _layout_changes(case)
    yield from _format_changes(case)
    if case.deployment.host_cores:
        yield _with(case, "a core for every process of the host", "--host-cores", host_cores=0.0)
    yield from _machine_changes(case)


def _with(case: InferenceCase, name: str, option: str, **fields: object) -> Change:
    """The case with other fields of its deployment."""
    deployment: Deployment = replace(case.deployment, **fields)  # type: ignore[arg-type]
    return Change(name, "option", replace(case, deployment=deployment), PLAIN, option)


def _batch_changes(case: InferenceCase) -> Iterator[Change]:
    for factor, word in ((2.0, "twice"), (0.5, "half")):
        size = case.batch * factor
        if case.phase == "decode" or size == int(size):
            yield Change(f"{word} the batch", "option", replace(case, batch=size), PLAIN, f"--batch {size:g}")


def _draft_changes(case: InferenceCase) -> Iterator[Change]:
    drafts = case.deployment.mtp_tokens
    if case.phase == "prefill" or case.deployment.verify_tokens:
        return
    for count in (drafts + 1, drafts - 1):
        if count < 0:
            continue
        accepted = draft_acceptance(count)
        name = "no draft tokens" if not count else f"{count} draft token{'s' * (count > 1)}"
        option = f"--mtp-tokens {count}" + (f" --mtp-acceptance {accepted:.2g}" if count else "")
        yield _with(case, name, option, mtp_tokens=count, mtp_acceptance=accepted)


def _expert_changes(case: InferenceCase) -> Iterator[Change]:
    d = case.deployment
    if moe(case.model) is None or d.ep < 2:
        return
    if d.dp > 1 and d.dp_attention:
        name = "no micro-batches" if d.microbatch_overlap else "two micro-batches"
        option = "--no-microbatch-overlap" if d.microbatch_overlap else "--microbatch-overlap"
        yield _with(case, name, option, microbatch_overlap=not d.microbatch_overlap)
    if d.expert_balance != "perfect":
        yield _with(case, "experts evenly loaded", "--expert-balance perfect", expert_balance="perfect")
        replicas = d.redundant_experts + MORE_REPLICAS
        yield _with(
            case, f"{replicas} replicas of experts", f"--redundant-experts {replicas}", redundant_experts=replicas
        )


def _layout_changes(case: InferenceCase) -> Iterator[Change]:
    """One size doubled or halved; the requests per device stay."""
    d = case.deployment
    if d.ep > 1 and d.dp_attention:
        for dp in twice_and_half(d.dp):
            ep = max(1, d.ep * dp // d.dp)
            yield _with(case, f"dp {dp}, ep {ep}", f"--dp {dp} --ep {ep}", dp=dp, ep=ep)
    if d.ep > 1:
        for ep in twice_and_half(d.ep):
            yield _with(case, f"ep {ep}", f"--ep {ep}", ep=ep)
    for tp in twice_and_half(d.tp):
        yield _with(case, f"tp {tp}", f"--tp {tp}", tp=tp)
        if tp > d.tp and d.dp % 2 == 0:
            yield _with(case, f"tp {tp}, dp {d.dp // 2}", f"--tp {tp} --dp {d.dp // 2}", tp=tp, dp=d.dp // 2)
        if tp < d.tp:
            yield _with(case, f"tp {tp}, dp {d.dp * 2}", f"--tp {tp} --dp {d.dp * 2}", tp=tp, dp=d.dp * 2)


def _format_changes(case: InferenceCase) -> Iterator[Change]:
    d, chip = case.deployment, case.system.chip
    own = number_format(d.weight_dtype).bytes_per_element
    for name, size in _NARROW.items():
        if _RATES[name] in chip.peak_flop_per_s and size < 0.75 * own:
            option = f"--weight-dtype {name} --activation-dtype {name}"
            yield _with(case, f"weights in {name}", option, weight_dtype=name, activation_dtype=name)
    cache = _NARROW_CACHE.get(chip.vendor, "fp8")
    if number_format(d.kv_dtype).bytes_per_element > 1.0:
        yield _with(case, f"keys and values in {cache}", f"--kv-dtype {cache}", kv_dtype=cache)


def _machine_changes(case: InferenceCase) -> Iterator[Change]:
    for name, system in doubled(case.system):
        yield Change(name, "machine", replace(case, system=system), PLAIN)
    yield Change("2x link bandwidth", "machine", case, Scale(per_byte=0.5))
    yield Change("no link latency", "machine", case, Scale(fixed=0.0))
    yield Change("no gaps of the host", "machine", case, Scale(host=0.0))
    if case.deployment.devices > case.system.devices_per_node and has_bus_beyond_the_node(case.system):
        cut = replace(case, system=cut_to_the_node(case.system))
        yield Change("RDMA between nodes, no bus", "machine", cut, PLAIN)
