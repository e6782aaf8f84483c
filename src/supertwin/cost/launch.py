"""What it costs to start kernels, by how the program is run.

eager: the host issues every kernel; graph: a captured graph is replayed (CUDA graph, NPU graph, ACL graph);
compiled: fused code that the host still issues. Kernel times of the operator models already hold what one kernel needs
to start in a replayed graph, so the graph gap is only what lies between two kernels beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from supertwin.core.errors import UnknownName
from supertwin.cost.calibration import Calibration, load_calibration
from supertwin.cost.geometry import Array
from supertwin.machine.chip import Chip

Real = TypeVar("Real", float, Array)
MODES = ("eager", "graph", "compiled")
# Documented priors. issue_s: host time per kernel; gap_s: idle time of the device between two kernels of a graph beyond
# what their own times hold; start_s: start of the graph (or of the step), once.
PRIORS: Mapping[str, Mapping[str, float]] = {
    "eager": {"issue_s": 6e-6, "gap_s": 1e-6, "start_s": 2e-5},
    "graph": {"issue_s": 0.0, "gap_s": 2e-7, "start_s": 1e-5},
    "compiled": {"issue_s": 4e-6, "gap_s": 5e-7, "start_s": 2e-5},
}


def launch_gap_s(chip: Chip, mode: str) -> float:
    """Seconds from the end of a short kernel to the start of the next: the host's issue time or the graph's gap.

    Raises UnknownName for a mode that is not eager, graph or compiled.
    """
    constants = launch_constants(chip, mode)
    return max(constants["issue_s"], constants["gap_s"])


def launch_start_s(chip: Chip, mode: str) -> float:
    """Seconds to start a step or a graph, once. Raises UnknownName."""
    return launch_constants(chip, mode)["start_s"]


def issued_time_s(chip: Chip, mode: str, busy_s: Real, kernels: Real) -> Real:
    """Seconds of `kernels` kernels that keep the device busy for busy_s: the host runs ahead, or holds the device up.

    max(busy + kernels x gap, kernels x issue) + start. Raises UnknownName.
    """
    c = launch_constants(chip, mode)
    longest: Real = np.maximum(busy_s + kernels * c["gap_s"], kernels * c["issue_s"])
    return longest + c["start_s"]


def launch_constants(chip: Chip, mode: str) -> dict[str, float]:
    """Calibrated constants of a mode over the priors. Raises UnknownName."""
    if mode not in MODES:
        raise UnknownName("launch mode", mode, MODES)
    return {**PRIORS[mode], **launch_calibration(chip).group(mode)}


def launch_calibration(chip: Chip) -> Calibration:
    """The calibration of family "launch" (for --explain)."""
    return load_calibration(chip, "launch")
