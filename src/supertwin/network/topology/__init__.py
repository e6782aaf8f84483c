"""The fabric as built from the catalogue by rules."""

from supertwin.network.topology.build import build
from supertwin.network.topology.graph import Graph

__all__ = ["Graph", "build"]
