"""Pipeline stages of a step: hand-overs between them and the wait for the slowest."""

from __future__ import annotations

import math

import numpy as np

from supertwin.inference.exchange import communication_s
from supertwin.inference.placement import Placement, Real
from supertwin.inference.shape import Shape
from supertwin.inference.times import StepTimes
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.workload.operators import Communication


def add_handovers(out: StepTimes, model: ModelSpec, system: System, placement: Placement, shape: Shape) -> None:
    """A pipeline stage passes the hidden state of its tokens on: pp - 1 times per step."""
    if placement.pp == 1:
        return
    size = shape.all_tokens * model.hidden * 2.0 / (placement.tp * placement.token_split)
    operator = Communication(part="pp", op="p2p", axis="pp", message_bytes=size)
    out.add("pp p2p", "network", communication_s(system, placement, operator) * (placement.pp - 1))


def add_uneven_stages(out: StepTimes, model: ModelSpec, placement: Placement, shape: Shape) -> None:
    """With pp micro-batches in flight the slowest stage sets the pace. Engines cut the layers evenly, the remainder to
    the first stages, and put the head on the last one (vLLM get_pp_indices, TensorRT-LLM pp_layers).

    A round takes pp x that stage instead of the sum of all. A lone sequence on a rank fills no pipeline.
    """
    pp = placement.pp
    if pp == 1:
        return
    ends: Real = sum((t for (part, _), t in out.parts.items() if part.startswith(("head", "mtp"))), start=0.0)
    passed: Real = sum((t for (part, _), t in out.parts.items() if part == "pp p2p"), start=0.0)
    layer = np.asarray(out.time_s - ends - passed) / model.n_layers
    slowest = np.maximum(layer * math.ceil(model.n_layers / pp), layer * (model.n_layers // pp) + ends)
    wait = pp * slowest - layer * model.n_layers - ends
    out.add("pp wait", "latency", np.where(np.asarray(shape.sequences) > 1.0, wait, 0.0))
