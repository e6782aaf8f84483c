"""Options that name kernels: vocabulary and direction of their effect."""

from dataclasses import replace

import pytest

from supertwin.core.errors import UnknownName
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.training import TrainingCase, predict
from supertwin.training.case import Layout

CASE = TrainingCase(
    model=load_model("deepseek-v3"),
    system=load_system("dgx-h800:512"),
    layout=Layout(tp=1, pp=8, dp=64, ep=64),
    micro_batch=1,
    global_batch=1024,
    seq_len=4096,
    recompute="full",
)


@pytest.mark.parametrize("field", ["dispatcher", "launch", "attention_dtype"])
def test_unknown_kernels_are_refused_with_the_legal_names(field: str) -> None:
    with pytest.raises(UnknownName, match=field.replace("_", " ")):
        predict(replace(CASE, **{field: "dispatch"}))


def test_dispatch_kernels_between_nodes_beat_an_all_to_all_of_every_copy() -> None:
    """A token crosses to a node once, not once per expert there."""
    plain, kernels = (predict(replace(CASE, dispatcher=name)).step_time_s for name in ("all_to_all", "deepep"))
    assert kernels < plain


def test_graphs_never_wait_for_the_host() -> None:
    eager, graph = (predict(replace(CASE, launch=name)).step_time_s for name in ("eager", "graph"))
    assert graph <= eager
