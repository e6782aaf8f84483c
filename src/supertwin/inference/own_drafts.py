"""Draft passes of a model's own module (multi-token prediction)."""

from __future__ import annotations

from dataclasses import replace

from supertwin.inference.fused import in_kernels
from supertwin.inference.habits import Habits
from supertwin.inference.kept import with_kept_formats
from supertwin.model.spec import ModelSpec
from supertwin.workload.layer import mtp_operators
from supertwin.workload.operators import Operator
from supertwin.workload.shard import Shard, Step


def own_draft_passes(
    model: ModelSpec, drafts: tuple[int, int], sized: tuple[Step, Shard], about: Habits
) -> list[tuple[list[Operator], float]]:
    """(operators, executions) of the first pass, over all tokens of the step, and of the further ones, over one token
    per sequence, or the nodes that a tree expands, or with whole_drafts over all again. drafts: positions, nodes.

    A model without an MTP module drafts with one more layer of its first kind and the head (EAGLE-like), but for
    shortcut experts: LongCat's module is a dense layer (longcat_flash_nextn.py of sgl-project/sglang;
    LongcatFlashMTPDecoderLayer of cann-recipes-infer).
    """
    (positions, nodes), (step, shard) = drafts, sized
    drafting = model if model.mtp is not None else replace(model, mtp=replace(model.layers[0], count=1, shortcut=None))

    def made(one: Step) -> list[Operator]:
        ops = with_kept_formats(mtp_operators(drafting, one, shard), model, drafting.mtp, shard)
        block = drafting.mtp.attention if drafting.mtp is not None else None
        return in_kernels(ops, block, one, about)

    if about.whole_drafts or positions == 1:
        return [(made(step), float(positions))]
    return [(made(step), 1.0), (made(replace(step, q_len=float(nodes))), float(positions - 1))]
