"""Inference: prefill and decode steps, and deployments in closed form."""

from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.placement import check
from supertwin.inference.predict import predict
from supertwin.inference.sweep import sweep

__all__ = ["Deployment", "InferenceCase", "check", "predict", "sweep"]
