"""Bytes as flows that share links: max-min fair rates, event by event."""

from supertwin.network.flow.classes import FlowClasses

__all__ = ["FlowClasses"]
