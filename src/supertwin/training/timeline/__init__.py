"""One training step as it happens: streams of every role, event by event, with a trace to look at."""

from supertwin.training.timeline.build import play
from supertwin.training.timeline.result import Timeline
from supertwin.training.timeline.stragglers import Stragglers
from supertwin.training.timeline.trace import write_trace

__all__ = ["Stragglers", "Timeline", "play", "write_trace"]
