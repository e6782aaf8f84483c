"""Models: a name, a folder or a config.json in, dimensions and weight counts out."""

from supertwin.model.load import load_model, model_names, spec_from_config
from supertwin.model.parameters import Parameters, parameter_count
from supertwin.model.spec import ModelSpec

__all__ = ["ModelSpec", "Parameters", "load_model", "model_names", "parameter_count", "spec_from_config"]
