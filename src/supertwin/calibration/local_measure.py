"""Time numpy on this machine. Runs as a process of its own, so that the number of threads holds from the start.

    python -m supertwin.calibration.local_measure < effort.json > timings.json

Every point is timed in several rounds that sweep over all points: a disturbance of some milliseconds hits one round of
a few points, and how far the rounds of a point differ says how far its time can be believed.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import SupertwinError
from supertwin.cost.surface import Array

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
MLP_BATCH = 64
_MOST_CALLS = 200
_LONG_S = 1e-4
_TIMEOUT_S = 600.0
Call = Callable[[], object]
Single = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure.

    rows, widths: m and n = k of products; cold_rows, cold_widths: of those whose weights come from memory; sizes:
    elements of streams; seconds: per point and round; mlp: widths of the network that checks the result.
    """

    rows: tuple[int, ...]
    widths: tuple[int, ...]
    cold_rows: tuple[int, ...]
    cold_widths: tuple[int, ...]
    sizes: tuple[int, ...]
    mlp: tuple[int, ...]
    seconds: float
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds by kind [points, rounds]; points say what they are, in the order of `points(effort)`."""

    threads: int
    seconds: Mapping[str, Array]

    def best(self, kind: str) -> Array:
        """Median over rounds [points]: one disturbed round does not move it."""
        return np.asarray(np.median(self.seconds[kind], axis=1))

    def noise(self) -> float:
        """90th percentile over points of the ratio, minus 1, between the upper and the lower quartile of rounds."""
        rounds = np.concatenate([np.sort(s, axis=1) for s in self.seconds.values() if s.size])
        quarter = rounds.shape[1] // 4
        return float(np.quantile(rounds[:, -1 - quarter] / rounds[:, quarter], 0.9) - 1.0)


def measure(effort: Effort, threads: int) -> Timings:
    """Time everything in a process with this number of threads. Raises SupertwinError when it fails."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    command = [sys.executable, "-m", "supertwin.calibration.local_measure"]
    given = json.dumps(asdict(effort))
    try:
        done = subprocess.run(
            command, input=given, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SupertwinError(f"the measuring process failed: {error}") from None
    found = json.loads(done.stdout)
    return Timings(threads, {kind: np.array(rounds, dtype=np.float64) for kind, rounds in found.items()})


def points(effort: Effort) -> dict[str, list[tuple[int, ...]]]:
    """What is timed, by kind: (m, n, k) of products, (elements,) of streams, (batch,) of the network."""
    products = [(m, n, k) for m in effort.rows for n in effort.widths for k in effort.widths]
    streams: dict[str, list[tuple[int, ...]]] = {name: [(size,) for size in effort.sizes] for name in STREAMS}
    cold: list[tuple[int, ...]] = [(m, width, width) for m in effort.cold_rows for width in effort.cold_widths]
    return {"gemm": [*products], "cold": cold, **streams, "mlp": [(MLP_BATCH,)]}


def cold_copies(width: int, cache_bytes: float) -> int:
    """Weights that take turns so that each comes from memory: four caches full."""
    return max(2, int(np.ceil(4.0 * cache_bytes / (4.0 * width * width))))


def cache_bytes() -> float:
    """Size of the last-level cache as the operating system reports it; 32 MiB where it does not."""
    names = ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE")
    known = [os.sysconf(name) for name in names if name in os.sysconf_names]
    return float(next((size for size in known if size > 0), 32 * 2**20))


def time_all(effort: Effort) -> dict[str, list[list[float]]]:
    """Seconds by kind, [points][rounds]. One point's arrays live at a time."""
    found: dict[str, list[list[float]]] = {kind: [[] for _ in every] for kind, every in points(effort).items()}
    alone = os.environ.get(THREAD_VARIABLES[0]) == "1"
    for _ in range(effort.rounds):
        for kind, every in points(effort).items():
            for index, point in enumerate(every):
                found[kind][index].append(timed(_call(kind, point, effort), effort.seconds, alone))
    return found


def timed(call: Call, seconds: float, alone: bool = False) -> float:
    """Shortest of the calls made in about `seconds`, at least three, after one to warm up.

    alone: the call runs in this thread only. Then calls longer than _LONG_S take the processor time of the thread: a
    call near the length of a time slice is interrupted in every repetition when other programs want the core.
    """
    begin = time.perf_counter()
    call()
    clock = time.thread_time if alone and time.perf_counter() - begin > _LONG_S else time.perf_counter
    best, start = np.inf, time.perf_counter()
    for calls in range(1, _MOST_CALLS + 1):
        before = clock()
        call()
        best = min(best, clock() - before)
        if calls >= 3 and time.perf_counter() - start > seconds:
            break
    return float(best)


def _call(kind: str, point: tuple[int, ...], effort: Effort) -> Call:
    if kind in STREAMS:
        shape = (max(point[0] // 512, 1), min(point[0], 512))
        x, y, out = (_array(name, shape) for name in ("x", "y", "out"))
        return lambda: STREAMS[kind].call(x, y, out)
    if kind == "mlp":
        return _network(effort.mlp)
    m, n, k = point
    a, product = _array("x", (m, k)), _array("out", (m, n))
    copies = cold_copies(n, cache_bytes()) if kind == "cold" else 1
    weights = _array("cold" if kind == "cold" else "y", (copies, k, n))
    turn = itertools.cycle(range(copies))
    return lambda: np.matmul(a, weights[next(turn)], out=product)


def _array(name: str, shape: tuple[int, ...]) -> Single:
    """The start of one of a few large arrays, which are filled only once: filling takes longer than timing."""
    size = math.prod(shape)
    if name not in _ARRAYS or _ARRAYS[name].size < size:
        tile = np.random.default_rng(len(_ARRAYS)).standard_normal(2**16, dtype=np.float32)
        _ARRAYS[name] = np.resize(tile, max(size, 2**22))
    return _ARRAYS[name][:size].reshape(shape)


_ARRAYS: dict[str, Single] = {}


def _network(widths: Sequence[int]) -> Call:
    """Forward pass of a network of products and rectifiers."""
    random = np.random.default_rng(0)
    weights = [
        random.standard_normal((k, n), dtype=np.float32) / np.float32(np.sqrt(k)) for k, n in itertools.pairwise(widths)
    ]
    x = _array("x", (MLP_BATCH, widths[0]))
    layers = [np.empty((MLP_BATCH, width), dtype=np.float32) for width in widths[1:]]

    def forward() -> None:
        hidden = x
        for weight, out in zip(weights, layers, strict=True):
            np.matmul(hidden, weight, out=out)
            np.maximum(out, 0.0, out=out)
            hidden = out

    return forward


@dataclass(frozen=True, slots=True)
class Stream:
    """An elementwise operation: what it does, FP32 values moved and FLOP per element."""

    call: Callable[[Single, Single, Single], object]
    moved: float
    flop: float


def _norm(x: Single, y: Single, out: Single) -> None:
    scale = 1.0 / np.sqrt(np.einsum("ij,ij->i", x, x) / x.shape[1] + 1e-6)
    np.multiply(x, scale[:, None], out=out)
    np.multiply(out, y[0], out=out)


def _softmax(x: Single, _y: Single, out: Single) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    np.divide(out, out.sum(axis=1, keepdims=True), out=out)


STREAMS: Mapping[str, Stream] = {
    "copy": Stream(lambda x, _y, out: np.copyto(out, x), 2.0, 0.0),
    "add": Stream(lambda x, y, out: np.add(x, y, out=out), 3.0, 1.0),
    "activation": Stream(lambda x, _y, out: np.maximum(x, 0.0, out=out), 2.0, 1.0),
    "norm": Stream(_norm, 2.0, 4.0),
    "softmax": Stream(_softmax, 2.0, 8.0),
}


def main() -> None:
    """Effort as JSON on stdin, seconds as JSON on stdout."""
    given = json.load(sys.stdin)
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    effort = Effort(**fields)
    json.dump(time_all(effort), sys.stdout)


if __name__ == "__main__":
    main()
