"""The cost engine: operators in, times out. One instance per chip and calibration; stateless otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.cost.result import OperatorCost
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Operator


class CostEngine:
    """Prices operators on one device.

    Operators of one kind and number format are stacked and priced in one vectorised call.
    """

    def __init__(self, chip: Chip) -> None:
        self.chip = chip

    def price(self, operators: Sequence[Operator]) -> list[OperatorCost]:
        """Cost of each operator, in order. Communication operators are refused (ValueError): see supertwin.network."""
        raise NotImplementedError
