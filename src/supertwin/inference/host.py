"""The host when a server has few cores: processes that share a core take turns, and every step waits for the last one.

An engine runs a worker per device and, per attention rank, a process that schedules and polls while the workers work
(vLLM, docs/configuration/optimization.md, "CPU Resources for GPU Deployments": API server, engine core and N workers
compete, and fewer physical cores than processes significantly degrade throughput and latency). n busy processes (or
threads that spin) on c cores of a node get on like

    capacity(c) = min(n, (g - 1) n + (2 - g) c, g c),   g: of the two threads of a core over one alone               (1)

processes with a core each (the middle term: some cores run two of them), and the host needs for a step

    (n (step + operators x issue) + sequences x reply) / capacity(c)                                                 (2)

where that is twice what it is with a core each, or more; from there to c = n it falls linearly in 1 / capacity to what
the engine's own constants say of a host with enough cores (operators x issue, where these name it, beside the device).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supertwin.inference.case import Deployment
from supertwin.inference.engines import PYTHON_OPERATOR_S, Engine, engine
from supertwin.inference.placement import Placement, Real
from supertwin.machine.system import System

THREADS_GAIN = 1.3
"""Work of two hardware threads of a core over that of one alone (Marr et al., Intel Technology Journal 6(1), 2002: up
to 30 %)."""

STEP_S = 1.35e-3
"""Time per step beside that: schedule, inputs, attention metadata, start of the graph, sampling. Mean of 1.1 and 1.6
ms: with graphs GPT-2 takes 1.3 ms per token in vLLM on H200 (DeepSpeed pull request 8352), Llama-3.2-1B 2.7 in V1 (vLLM
pull request 17866), of which about 0.2 and 1.1 on the device. All processes hold a core through it, at work or
polling."""

REPLY_S = 45e-6
"""Time of the server process per token sent: vLLM's serves 55.99 requests/s of 200 tokens (pull request 11636), so 89
us are the most; half of them is an assumption."""

BESIDE_WORKERS = {"vllm-async": 2, "sglang": 0, "sglang-deepep": 0, "sglang-ascend": 0}
"""Busy processes and threads per attention rank beside its workers, one where the engine is not named: vLLM's engine
core polls, and with asynchronous scheduling a thread spins for the device's tokens (vLLM pull request 47081, which lets
it sleep); SGLang schedules in its workers."""

COMPILED = ("tensorrt-llm", "mlperf-tensorrt")
"""Engines whose steps run in C++: a worker needs launch_s per operator and step_gap_s per step."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """What too few cores add to the host's time of a step: seconds of each step, for each operator that is issued
    outside a graph, and for each sequence of a rank; instead: share of the engine's own time to issue kernels for which
    these stand."""

    step_s: float = 0.0
    operator_s: float = 0.0
    sequence_s: float = 0.0
    instead: float = 0.0

    def issue_s(self, usual_s: Real, operators: float) -> Real:
        """Time to issue the operators of a step outside a graph, which takes usual_s with enough cores."""
        return usual_s * (1.0 - self.instead) + operators * self.operator_s


NONE = Shortage()


def shortage(about: Engine, system: System, cores: float, placed: Placement) -> Shortage:
    """What `cores` of each node (0: enough) lack for an instance. A round of a pipeline is a step of each of its
    micro-batches; every stage issues its own operators in them."""
    if not cores:
        return NONE
    p, n = placed, float(processes(about, system, placed.devices, placed.dp))
    stretch = n / capacity(n, cores)
    instead = min(stretch - 1.0, 1.0)
    longer = stretch - 1.0 + instead
    compiled = about.name in COMPILED
    step, operator = (about.step_gap_s, about.launch_s) if compiled else (STEP_S, PYTHON_OPERATOR_S)
    sequence = REPLY_S * p.dp * longer / n + about.sequence_host_s * (stretch - 1.0)
    return Shortage(step * p.pp * longer, operator * longer, sequence * p.pp, instead)


def usual_issue_s(about: Engine, kernels: float, operators: float, tokens: Real) -> Real:
    """Host time to issue a step with prompts on enough cores. kernels: operators but exchanges; tokens: of prompts."""
    usual = kernels * about.launch_s
    return np.where(tokens > about.captured_tokens, operators * about.operator_s, usual) if about.operator_s else usual


def processes(about: Engine, system: System, devices: int, ranks: int) -> int:
    """What of an instance competes for the cores of its first node: a worker per device, and what runs beside them for
    each attention rank."""
    workers = min(devices, system.devices_per_node)
    return workers + BESIDE_WORKERS.get(about.name, 1) * max(1, ranks * workers // devices)


def capacity(processes: float, cores: float) -> float:
    """Equation (1): processes with a core each that get on as fast as these on so many cores."""
    g = THREADS_GAIN
    return min(processes, (g - 1.0) * processes + (2.0 - g) * cores, g * cores)


def host_note(d: Deployment, system: System) -> list[str]:
    """What a user should know about too few cores."""
    n = processes(engine(d.framework, system.chip), system, d.devices, d.dp)
    if not 0.0 < d.host_cores < n:
        return []
    return [
        f"{n} busy processes of an instance (workers and what schedules them) share {d.host_cores:g} of a node's cores"
        f" and take turns: {n} cores, and one for the server, are enough"
    ]


def host_rows(d: Deployment, about: Engine) -> list[tuple[str, str, str, str]]:
    """Rows for --explain where cores are given: (name, value, source, layer)."""
    if not d.host_cores:
        return []
    gain = "Intel Technology Journal 6(1), 2002"
    rows = [("two threads of a core over one", f"{THREADS_GAIN:g}", gain, "spec")]
    if about.name in COMPILED:
        return rows
    return [
        *rows,
        (
            "host per operator outside a graph",
            f"{PYTHON_OPERATOR_S * 1e6:.0f} us",
            "vLLM issue 45709, others",
            "assumption",
        ),
        ("host per process and step", f"{STEP_S * 1e3:.2f} ms", "vLLM pull request 17866", "assumption"),
        ("server per token sent", f"{REPLY_S * 1e6:.0f} us", "vLLM pull request 11636", "assumption"),
    ]
