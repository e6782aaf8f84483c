"""What one device executes: operators with shapes, and the bytes it keeps. Nothing here knows a machine."""

from supertwin.workload.activations import MODULES, Recompute, activation_bytes
from supertwin.workload.backward import backward
from supertwin.workload.flops import model_flops_per_token
from supertwin.workload.layer import (
    embedding_operators,
    head_operators,
    layer_operators,
    model_operators,
    mtp_operators,
)
from supertwin.workload.memory import (
    Stage,
    device_parameters,
    kv_bytes,
    kv_bytes_per_token,
    weights_bytes,
)
from supertwin.workload.optimizer import StatePolicy, optimizer_operators
from supertwin.workload.shard import Shard, Step

__all__ = [
    "MODULES",
    "Recompute",
    "Shard",
    "Stage",
    "StatePolicy",
    "Step",
    "activation_bytes",
    "backward",
    "device_parameters",
    "embedding_operators",
    "head_operators",
    "kv_bytes",
    "kv_bytes_per_token",
    "layer_operators",
    "model_flops_per_token",
    "model_operators",
    "mtp_operators",
    "optimizer_operators",
    "weights_bytes",
]
