"""Replicas: traffic against arXiv 1910.02054, equalities between stages, buckets, and the order of the axes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, check, memory, predict
from supertwin.training.case import ORDER
from supertwin.training.fabric import Fabric, axis_group, strides
from supertwin.training.frameworks import framework_named
from supertwin.training.sharding import (
    StageWeights,
    bucket_number,
    copied_bytes,
    full_shard_rounds,
    full_shard_sync,
    padding,
    replica_rounds,
    replica_sync,
)

FRAMEWORK = framework_named("torchtitan")
WEIGHTS = StageWeights(8e9, 0.0, 32.0, 8e9, 0.0)


class CountingFabric(Fabric):
    """Every byte that a rank sends takes one second: times are traffic (ring algorithms)."""

    def _priced(self, op: str, group: object, message_bytes: float) -> float:
        size = group.size  # type: ignore[attr-defined]
        return {"all_reduce": 2.0}.get(op, 1.0) * message_bytes * (size - 1) / size


def job(system: str = "dgx-h100:64", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model("llama3.1-8b"), system=load_system(system), layout=Layout(dp=64), micro_batch=1,
        global_batch=256, seq_len=4096, framework="torchtitan",
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def seconds(prediction: Prediction, prefix: str) -> float:
    return sum(part.time_s for part in prediction.breakdown if part.part.startswith(prefix))


def sent_bytes(case: TrainingCase) -> float:
    """Bytes that one rank sends to its replicas in a step."""
    fabric, rounds = CountingFabric(case), 1.0
    framework = replace(FRAMEWORK, reduce_bytes=2.0)
    microbatches = case.global_batch // (case.micro_batch * case.layout.dp)
    if case.sharding in ("zero3", "hsdp"):
        found = full_shard_rounds(case, framework, fabric, WEIGHTS)
        return microbatches * (found.gather_s * (2.0 if case.reshard else 1.0) + found.reduce_s)
    found = replica_rounds(case, framework, fabric, WEIGHTS)
    rounds = microbatches if case.sharding == "zero2" else 1.0
    return rounds * found.reduce_s + found.gather_s


@pytest.mark.parametrize(
    ("sharding", "changes", "psi"),
    [
        ("none", {}, 2.0),
        ("zero1", {}, 2.0),
        ("zero2", {"global_batch": 64}, 2.0),
        ("zero3", {"global_batch": 64}, 3.0),
        ("zero3", {"global_batch": 64, "reshard": False}, 2.0),
        ("zero2", {}, 5.0),
        ("zero3", {}, 12.0),
    ],
)
def test_traffic_of_the_stages(sharding: str, changes: dict[str, object], psi: float) -> None:
    """arXiv 1910.02054, section 7.2: 2 Psi for stages 0 to 2, 3 Psi for stage 3 (one microbatch, 2-byte gradients)."""
    sent = sent_bytes(job(sharding=sharding, **changes))
    assert sent == pytest.approx(psi * 2.0 * WEIGHTS.dense * 63 / 64)


def test_hsdp_over_all_ranks_is_fsdp() -> None:
    full, hybrid = predict(job(sharding="zero3")), predict(job(sharding="hsdp", hsdp_shard_size=64))
    assert hybrid.step_time_s == full.step_time_s
    assert hybrid.memory == full.memory


def test_hsdp_inside_a_node_trades_memory_for_network() -> None:
    full, hybrid = job(sharding="zero3", global_batch=64), job(sharding="hsdp", hsdp_shard_size=8, global_batch=64)
    assert sent_bytes(hybrid) > 0.0
    assert memory(hybrid).optimizer_bytes == pytest.approx(8.0 * memory(full).optimizer_bytes)
    gathers = [full_shard_rounds(c, FRAMEWORK, Fabric(c), WEIGHTS).gather_s for c in (full, hybrid)]
    assert gathers[1] < gathers[0]  # NVLink instead of InfiniBand


def test_resharding_trades_memory_for_a_gather() -> None:
    kept, dropped = job(sharding="zero3", reshard=False), job(sharding="zero3")
    assert sent_bytes(kept) < sent_bytes(dropped)
    assert memory(kept).workspace_bytes > memory(dropped).workspace_bytes + 0.9 * 2.0 * 8.03e9
    assert predict(kept).step_time_s <= predict(dropped).step_time_s


def test_prefetch_hides_gathers_and_takes_memory() -> None:
    none, one, two = (job(sharding="zero3", prefetch=k) for k in (0, 1, 2))
    assert predict(none).step_time_s > predict(one).step_time_s
    layer = 2.0 * 8.03e9 / 32
    assert memory(two).workspace_bytes - memory(one).workspace_bytes == pytest.approx(layer, rel=0.01)
    assert full_shard_sync(none, FRAMEWORK, Fabric(none), WEIGHTS, (10.0, 20.0))[0].hidden_s == 0.0


def test_parameters_cut_one_by_one_are_copied_and_padded() -> None:
    """FSDP2: gathered weights leave the flat buffer (2 x 2 bytes, twice), gradients enter it (2 + 4, once)."""
    flat, each = job(sharding="zero3", flat_parameters=True), job(sharding="zero3")
    assert copied_bytes(flat, FRAMEWORK, WEIGHTS) == (0.0, 0.0)
    assert copied_bytes(each, FRAMEWORK, WEIGHTS) == (4.0 * 8e9, (4.0 + 6.0) * 8e9)
    assert copied_bytes(replace(each, reshard=False), FRAMEWORK, WEIGHTS)[1] == 6.0 * 8e9
    assert predict(flat).step_time_s < predict(each).step_time_s
    assert padding(each, FRAMEWORK, 48) == pytest.approx(86 * 48 / 4096)  # 4,096 rows over 48 ranks
    assert (padding(each, FRAMEWORK, 64), padding(flat, FRAMEWORK, 48)) == (1.0, 1.0)


def test_gradients_sharded_every_microbatch_cost_more() -> None:
    """ZeRO-2 reduces at each micro step (DeepSpeed, runtime/engine.py); with one microbatch it is ZeRO-1."""
    for batch, same in ((64, True), (1024, False)):
        one, two = (job(sharding=s, global_batch=batch, overlap_dp=False) for s in ("zero1", "zero2"))
        times = [
            replica_sync(c, FRAMEWORK, Fabric(c), WEIGHTS, (0.1, 0.2)).exposed_s for c in (one, two)
        ]  # fmt: skip
        assert (times[0] == times[1]) is same
        assert times[1] >= times[0]


def test_buckets() -> None:
    """40 M weights of 4 bytes up to 40 replicas, 1 M per replica beyond (Megatron-Core); a stated size overrules."""
    assert bucket_number(job("dgx-h100:8", layout=Layout(dp=8)), 32e9, 4.0) == 200
    assert bucket_number(job(), 32e9, 4.0) == 125
    assert bucket_number(job(bucket_bytes=1e9), 32e9, 4.0) == 32
    assert bucket_number(job(), 0.0, 4.0) == 1


@settings(max_examples=20, deadline=None)
@given(small=st.floats(1e6, 1e8), factor=st.floats(1.0, 100.0), sharding=st.sampled_from(["none", "zero1", "zero2"]))
def test_a_bucket_never_beats_no_latency(small: float, factor: float, sharding: str) -> None:
    """Cutting a reduction into more buckets never makes the collectives themselves shorter."""
    cases = [job(sharding=sharding, bucket_bytes=size) for size in (small, small * factor)]
    times = [replica_rounds(c, FRAMEWORK, Fabric(c), WEIGHTS).reduce_s for c in cases]
    assert times[0] >= times[1] * (1.0 - 1e-9)


def test_formats_on_the_wire() -> None:
    narrow = job(sharding="zero3", gather_dtype="fp8", reduce_dtype="bf16")
    wide = job(sharding="zero3", gather_dtype="fp32", reduce_dtype="fp32")
    plain = full_shard_rounds(job(sharding="zero3"), FRAMEWORK, CountingFabric(job(sharding="zero3")), WEIGHTS)
    for case, factor in ((narrow, 0.5), (wide, 2.0)):
        found = full_shard_rounds(case, FRAMEWORK, CountingFabric(case), WEIGHTS)
        assert found.gather_s == pytest.approx(factor * plain.gather_s)
    assert predict(narrow).step_time_s < predict(wide).step_time_s


def test_default_order_is_megatrons() -> None:
    """--order tp-cp-ep-dp-pp: written out, it is the default; strides by hand for 2 x 2 x 8 x 4 with ep 8."""
    layout = Layout(tp=2, cp=2, dp=8, pp=4, ep=8)
    at = strides(layout, ORDER)
    assert [at[axis] for axis in ("tp", "cp", "dp", "pp")] == [1, 2, 4, 32]
    assert [at[axis] for axis in ("etp", "ep", "edp", "expert_pp")] == [1, 1, 8, 32]


@given(st.permutations(ORDER), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]))
def test_groups_fill_the_machine_in_any_order(order: list[str], tp: int, cp: int, pp: int) -> None:
    """Every device has one place: the ranks of the dense axes number the devices without gaps."""
    layout = Layout(tp=tp, cp=cp, pp=pp, dp=64 // (tp * cp * pp))
    at = strides(layout, tuple(order))
    sizes = {"tp": layout.tp, "cp": layout.cp, "dp": layout.dp, "pp": layout.pp}
    places = [sum(at[a] * i for a, i in zip(sizes, ranks, strict=True)) for ranks in
              itertools.product(*(range(size) for size in sizes.values()))]  # fmt: skip
    assert sorted(places) == list(range(64))


def test_what_is_innermost_is_fastest() -> None:
    """Eight ranks of an axis are neighbours in a node, or sit in eight nodes."""
    base = job(layout=Layout(tp=8, dp=8), model=load_model("llama3.1-70b"))
    near, far = predict(base), predict(replace(base, order=("dp", "tp", "cp", "ep", "pp")))
    assert seconds(near, "communication/tp") < 0.5 * seconds(far, "communication/tp")
    assert axis_group(replace(base, order=("dp", "tp", "cp", "ep", "pp")), "dp").stride == 1


def test_replicas_in_two_groups() -> None:
    """cp inside a node and dp beyond the stages: the inner group moves all bytes, the outer one its share."""
    case = job(layout=Layout(cp=4, pp=4, dp=4), order=("tp", "cp", "pp", "ep", "dp"), global_batch=64)
    counted = CountingFabric(case)
    whole = counted.time_s("all_reduce", "dp", 16.0)
    assert whole == pytest.approx(2.0 * 16.0 * 15 / 16)  # as one ring over all sixteen
    assert Fabric(case).time_s("all_gather", "dp", 1e9) > 0.0
    check(case)


def test_orders_that_cannot_be_are_refused() -> None:
    experts = job(model=load_model("mixtral-8x7b"), layout=Layout(tp=2, pp=2, dp=16, ep=8), global_batch=64)
    with pytest.raises(InputError, match=r"2 devices apart for dense weights \(tp\(2\)\) and 1 for experts"):
        check(replace(experts, order=("tp", "pp", "cp", "ep", "dp")))
    with pytest.raises(InputError, match="in any order, innermost first"):
        check(job(order=("tp", "dp")))


def test_hybrid_sharding_cuts_experts_over_the_ranks_that_share_a_copy() -> None:
    """8 experts' ranks over 64 devices: 8 replicas of an expert, in copies over 4 of them: 2 copies are summed."""
    case = job(sharding="hsdp", hsdp_shard_size=4, layout=Layout(dp=64, ep=8), model=load_model("mixtral-8x7b"))
    fabric = CountingFabric(case)
    sizes = {axis: fabric.group(axis).size for axis in ("shard", "replica", "expert_shard", "expert_replica")}
    assert sizes == {"shard": 4, "replica": 16, "expert_shard": 4, "expert_replica": 2}
    experts = replace(WEIGHTS, dense=0.0, trained_dense=0.0, experts=1e9, trained_experts=1e9)
    found = full_shard_rounds(case, replace(FRAMEWORK, reduce_bytes=2.0), fabric, experts)
    assert found.gather_s == pytest.approx(2e9 * 3 / 4)
    assert found.reduce_s == pytest.approx(2e9 * 3 / 4 + 2e9 / 4 * 2 * 1 / 2)
