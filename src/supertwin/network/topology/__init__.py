"""The fabric as built from the catalogue by rules."""

from supertwin.network.topology.build import build
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.routes import Connection, Route, connect, routes

__all__ = ["Connection", "Graph", "Route", "build", "connect", "routes"]
