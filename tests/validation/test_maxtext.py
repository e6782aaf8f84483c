"""What rows of MaxText recipes take from the recipes' own files."""

from __future__ import annotations

from supertwin.validation.predictors.reading import Reading
from supertwin.validation.predictors.scripts import readings_of
from supertwin.validation.tables import Row


def found(recipe: str) -> Reading:
    source = f"github:AI-Hypercomputer/gpu-recipes training/{recipe}/maxtext-pretraining-gke/README.md"
    (reading,) = readings_of(Row("training", 1, {"source": source, "model": "llama3.1-70b"}))
    return reading


def test_mesh_and_batch_are_those_of_the_recipe() -> None:
    """Tokens per step of the log: per-device batch x devices x 8192."""
    for recipe, batch in (("a3ultra/llama3-1-70b", 512), ("a4/llama3-1-405b", 512), ("a4/llama3-1-70b", 2048)):
        fills = found(recipe).fills
        assert int(str(fills["micro_batch"])) * int(str(fills["dp"])) == batch


def test_replicas_of_sharded_copies_where_the_outer_mesh_has_data_parallelism() -> None:
    assert found("a4/llama3-1-405b").fills["hsdp_shard_size"] == 128
    assert found("a4/llama3-1-70b").fills["sharding"] == "zero3"
