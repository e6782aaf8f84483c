"""How many prefill and decode instances: the split of N devices that serves most.

With a prefill instance of a devices that takes x_p requests/s and a decode instance of b devices that takes x_d inside
the limits, p : d = x_d : x_p balances both sides; of whole instances the best p a + d b <= N is searched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from supertwin.core.errors import InputError
from supertwin.inference.deploy.evaluate import Prepared, prepare
from supertwin.inference.deploy.service import Service
from supertwin.inference.deploy.slo import Limits, root
from supertwin.inference.residence import decode_steps


@dataclass(frozen=True, slots=True)
class Balance:
    """prefill_each, decode_each: requests/s of one instance; ideal: prefill instances per decode instance;
    requests_per_s: of the slower side; idle_devices: left over."""

    prefill_instances: int
    decode_instances: int
    prefill_each: float
    decode_each: float
    ideal: float
    requests_per_s: float
    idle_devices: int


def side_rates(prepared: Prepared, limits: Limits | None = None) -> tuple[float, float]:
    """Requests/s that one prefill and one decode instance take; decode within the TPOT limit, at most what fits."""
    c, load = prepared.curves, prepared.load
    steps = decode_steps(load)
    tokens = max(load.output_len - 1.0, 1e-12)
    limit = float("inf") if limits is None else limits.tpot_s
    residents = c.capacity
    if residents > 0 and steps * float(c.step(max(residents, 1.0))) / tokens > limit:
        residents = root(lambda n: steps * float(c.step(max(n, 1.0))) / tokens <= limit, 0.0, residents)
    decode = residents / max(steps * float(c.step(max(residents, 1.0))), 1e-12)
    return 1.0 / c.prefill_each_s, decode


def balance(service: Service, devices: int, limits: Limits | None = None) -> Balance:
    """The best split of `devices` into whole instances of the service's two kinds. Raises InputError."""
    if not service.disaggregated:
        raise InputError("balance needs prefill instances of their own: expected prefill_instances of at least 1")
    a, b = service.prefill.devices, service.decode.devices
    if a + b > devices:
        raise InputError(f"one prefill instance of {a} and one decode instance of {b} devices exceed {devices} devices")
    x, y = side_rates(prepare(replace(service, prefill_instances=1, decode_instances=1)), limits)
    best = max(
        ((p, (devices - p * a) // b) for p in range(1, (devices - b) // a + 1)),
        key=lambda split: (min(split[0] * x, split[1] * y), -split[0]),
    )
    p = best[0]
    d = min(best[1], max(1, -int(-(p * x) // y))) if y > 0 else best[1]
    return Balance(p, d, x, y, y / x, min(p * x, d * y), devices - p * a - d * b)
