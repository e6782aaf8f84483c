"""supertwin: a digital twin of AI supernodes."""

__version__ = "0.1.0"
