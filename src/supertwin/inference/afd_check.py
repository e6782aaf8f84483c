"""What an attention-FFN split allows."""

from __future__ import annotations

from supertwin.core.errors import InputError
from supertwin.inference.case import Deployment


def check_afd(d: Deployment, phase: str, mixture: bool) -> None:
    """Raise InputError where the split cannot be laid out; the message shows the arithmetic and legal values."""
    x, y = d.afd
    if not d.afd_instances:
        return
    if x < 1 or y < 1 or d.afd_unit < 1 or d.afd_microbatches < 1:
        raise InputError(
            f"afd {x}A{y}F of {d.afd_unit} devices with {d.afd_microbatches} micro-batches: expected 1 or more of each"
        )
    if phase != "decode":
        raise InputError(f"afd splits decode steps, got phase {phase}; legal: decode")
    if d.sampling:
        raise InputError(f"sampling {d.sampling} with --afd is not modelled; legal: greedy")
    if d.pp > 1 or d.cp > 1 or d.microbatch_overlap:
        raise InputError(
            f"afd has micro-batches of its own and no other cut: expected pp 1, cp 1, no microbatch_overlap; got "
            f"pp({d.pp}), cp({d.cp})" + (", microbatch_overlap" if d.microbatch_overlap else "")
        )
    if d.afd_unit % d.tp:
        legal = ", ".join(str(i) for i in range(1, d.afd_unit + 1) if d.afd_unit % i == 0)
        raise InputError(f"tp({d.tp}) does not divide the {d.afd_unit} devices of an afd instance; legal: {legal}")
    if d.tp * d.dp != x * d.afd_unit:
        raise InputError(
            f"tp({d.tp}) x dp({d.dp}) != {x}A x {d.afd_unit} = {x * d.afd_unit} attention devices; legal dp: "
            f"{x * d.afd_unit // d.tp}"
        )
    there = y * d.afd_unit
    if mixture and (d.ep > there or there % d.ep):
        legal = ", ".join(str(i) for i in range(1, there + 1) if there % i == 0)
        raise InputError(f"ep({d.ep}) does not divide {y}F x {d.afd_unit} = {there} devices; legal: {legal}")
