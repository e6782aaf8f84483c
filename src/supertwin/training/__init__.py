"""Training: one optimizer step in closed form."""

from supertwin.training.case import Layout, TrainingCase
from supertwin.training.check import check
from supertwin.training.predict import memory, predict

__all__ = ["Layout", "TrainingCase", "check", "memory", "predict"]
