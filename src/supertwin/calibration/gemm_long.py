"""What long products in a low-precision format lose to the power limit, measured on the products themselves.

BF16 tables hold enough long products for the fit to see the fall of the clock (throttle). Tables of 8 and 4 bits end
where it begins: the fitted throttle stands at its bound, and the few long rows come out slower than the curve says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from supertwin.calibration.gemm_fit import GemmFit
from supertwin.core.formats import number_format
from supertwin.cost.calibration import Calibration
from supertwin.cost.gemm import gemm_cost

LONG_S = 5e-3  # the board meets its power limit within milliseconds (throttle_s of the BF16 fits: 0.5 to 5 ms)
_FEW_LONG = 5


def long_loss(fit: GemmFit) -> float | None:
    """Share of the rate that products of LONG_S and more lose against the fitted formula without throttle (geometric
    mean over rows); None for formats of 16 bits and where fewer than five such products were measured."""
    unit = fit.unit
    if unit.grouped or number_format(unit.parts[0].gemm.dtype).bytes_per_element >= 2.0:
        return None
    alone = Calibration("gemm", unit.chip.name, parameters={unit.key: _without_throttle(fit.parameters)})
    if fit.surface is not None:
        alone = Calibration("gemm", unit.chip.name, parameters=alone.parameters, surfaces={unit.key: fit.surface})
    ratios = []
    for part in unit.parts:
        slow = part.take(part.time_s >= LONG_S)
        if len(slow):
            ratios.append(np.log(gemm_cost(unit.chip, alone, slow.gemm, slow.conditions).time_s / slow.time_s))
    joined = np.concatenate(ratios) if ratios else np.zeros(0)
    if len(joined) < _FEW_LONG:
        return None
    return float(f"{max(1.0 - float(np.exp(joined.mean())), 0.0):.3g}")


def _without_throttle(parameters: Mapping[str, float]) -> dict[str, float]:
    return {**parameters, "throttle": 0.0}
