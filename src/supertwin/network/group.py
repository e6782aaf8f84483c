"""Which devices talk to each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """`size` ranks whose device numbers are `stride` apart (tp: stride 1; dp: stride tp x cp ...).

    concurrent: groups of this kind that talk at the same time through the same devices' links (1 per device normally).
    """

    size: int
    stride: int = 1

    @property
    def span(self) -> int:
        """Devices from the first to the last rank, inclusive block."""
        return self.size * self.stride
