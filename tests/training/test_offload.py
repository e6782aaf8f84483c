"""Offload: transfers and host updates against hand counts, and what must hold for any host."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError, UnknownName
from supertwin.core.prediction import Prediction
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, memory, predict
from supertwin.training.offload import HostUpdate, host_adam_bytes, host_link, host_update
from supertwin.training.setting import setting_of


def job(system: str = "dgx-h100:8", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model("llama3.1-8b"), system=load_system(system), layout=Layout(dp=8), micro_batch=1,
        global_batch=16, seq_len=4096, framework="megatron-core",
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def seconds(prediction: Prediction, prefix: str) -> float:
    return sum(part.time_s for part in prediction.breakdown if part.part.startswith(prefix))


def test_host_links_are_those_of_the_machine() -> None:
    """PCIe 4 and 5, NVLink-C2C shared by two GPUs, UB of CloudMatrix 384 (110 GB/s out, 151 GB/s in, arXiv
    2506.12708 table 1): in this order, and never above what the node's host memory gives each device."""
    a100, h100, gb200 = (host_link(load_system(name)) for name in ("dgx-a100:8", "dgx-h100:8", "gb200-nvl72"))
    assert a100.out < 31.5e9 < h100.out < 63e9
    assert gb200.out == pytest.approx(0.72 * 1024e9 / 4)  # 191 GB/s of the link, 184 of the memory
    cm384 = host_link(load_system("cm384"))
    assert cm384.back == pytest.approx(0.72 * 1331e9 / 16)  # 16 dies share four sockets
    assert host_link(load_system("dgx-h100:1")).stream == pytest.approx(8 * h100.stream)


def test_update_by_hand() -> None:
    """8.03 G weights over 8 ranks, gradients of 4 bytes: 4.0 GB out, 2.0 GB back, 30 bytes of host traffic each."""
    case = job(offload_optimizer=1.0)
    setting = setting_of(case)
    update = host_update(case, setting.framework, setting.weights)
    link = host_link(case.system)
    own = 8.03e9 / 8
    assert host_adam_bytes(4.0) == 30.0
    assert update.out_s == pytest.approx(4.0 * own / link.out, rel=0.01)
    assert update.adam_s == pytest.approx(30.0 * own / (0.46 * 614.4e9 / 8), rel=0.01)
    assert update.back_s == pytest.approx(2.0 * own / link.back, rel=0.01)


def test_cpu_adam_of_the_paper() -> None:
    """arXiv 2101.06840, table 4: about 0.24 s per G weights and 2.6 s for 10 G (2-byte gradients, whole node)."""
    for weights, measured_s in ((1e9, 0.24), (10e9, 2.6)):
        assert weights * host_adam_bytes(2.0) / (0.46 * 12 * 21.33e9) == pytest.approx(measured_s, rel=0.1)


def test_pieces_overlap_all_but_one() -> None:
    update = HostUpdate(1.0, 3.0, 2.0, bytes_out=5e9)  # ten pieces
    assert update.sequential_s == 6.0
    assert update.pipelined_s() == pytest.approx(3.0 + 3.0 / 10)
    assert HostUpdate(1.0, 3.0, 2.0, bytes_out=1e6).pipelined_s() == 6.0


def test_updates_order_the_step() -> None:
    times = [predict(job(offload_optimizer=1.0, offload_update=u)) for u in ("sequential", "pipelined", "delayed")]
    assert times[0].step_time_s > times[1].step_time_s > times[2].step_time_s
    longer = [predict(job(offload_optimizer=s, offload_update="delayed", global_batch=64)) for s in (1.0, 0.0)]
    assert longer[0].step_time_s <= longer[1].step_time_s  # hidden, and the device has less to update


def test_partial_offload_is_between() -> None:
    whole, half, none = (predict(job(offload_optimizer=s)) for s in (1.0, 0.5, 0.0))
    assert whole.step_time_s > half.step_time_s > none.step_time_s
    assert none.memory.optimizer_bytes == pytest.approx(2.0 * half.memory.optimizer_bytes)
    assert whole.memory.optimizer_bytes == 0.0
    states = whole.figures["host_memory_bytes"]
    assert states == pytest.approx(12.0 * 8.03e9, rel=0.01)  # states of the whole node


def test_activations_hide_behind_a_long_pass_only() -> None:
    """A longer sequence computes quadratically and moves linearly: what is exposed shrinks against the step."""
    shares = []
    for seq_len in (2048, 65536):
        p = predict(job("dgx-a100:8", offload=1.0, seq_len=seq_len))
        shares.append(seconds(p, "offload/activations") / p.step_time_s)
    assert shares[0] > shares[1]
    assert memory(job(offload=1.0)).activations_bytes < 0.5 * memory(job()).activations_bytes


@settings(max_examples=20, deadline=None)
@given(
    factor=st.floats(1.0, 8.0),
    share=st.floats(0.0, 1.0),
    optimizer=st.floats(0.0, 1.0),
    update=st.sampled_from(["sequential", "pipelined", "delayed"]),
)
def test_a_better_host_is_never_slower(factor: float, share: float, optimizer: float, update: str) -> None:
    case = job(offload=share, offload_optimizer=optimizer, offload_update=update)
    better = replace(
        case.system,
        host_link_bytes_per_s=factor * case.system.host_link_bytes_per_s,
        host_memory_bytes_per_s_per_node=factor * case.system.host_memory_bytes_per_s_per_node,
    )
    slow, fast = predict(case), predict(replace(case, system=better))
    assert fast.step_time_s <= slow.step_time_s * (1.0 + 1e-9)
    assert fast.memory == slow.memory


def test_offload_that_is_off_changes_nothing() -> None:
    p = predict(job())
    assert seconds(p, "offload") == 0.0
    assert "host_memory_bytes" not in p.figures


def test_bad_values_are_refused() -> None:
    with pytest.raises(InputError, match=r"offload = 1\.5; expected a share of 0 to 1"):
        predict(job(offload=1.5))
    with pytest.raises(UnknownName, match="pipelined"):
        predict(job(offload_update="pipeline"))


def test_swapped_states_pass_through_the_device() -> None:
    """MindSpeed --swap-optimizer: 12 bytes per weight in, then out; a sixteenth of the states stays."""
    case = job("atlas-a2:8", offload_optimizer=1.0, offload_update="swapped", framework="mindspeed")
    link, p = host_link(case.system), predict(case)
    states = 12.0 * 8.03e9 / 8
    assert seconds(p, "offload/optimizer") == pytest.approx(states / link.out + states / link.back, rel=0.01)
    assert p.memory.optimizer_bytes == pytest.approx(states / 16, rel=0.01)
    assert seconds(p, "optimizer") == pytest.approx(seconds(predict(replace(case, offload_optimizer=0.0)), "optimizer"))


def test_narrow_states_move_less() -> None:
    """DeepSeek-V3 keeps both moments in BF16 (arXiv 2412.19437, section 3.3.3): 8 instead of 12 bytes of states."""
    wide = job("atlas-a2:8", offload_optimizer=1.0, offload_update="swapped", framework="megatron-core")
    narrow = replace(wide, moment_dtype="bf16")
    moved = [seconds(predict(case), "offload/optimizer") for case in (wide, narrow)]
    assert moved[1] == pytest.approx(moved[0] * 8 / 12)
    on_device = [seconds(predict(job(moment_dtype=dtype)), "optimizer") for dtype in ("fp32", "bf16")]
    assert on_device[1] < on_device[0]


def test_offloaded_modules_take_the_same_link() -> None:
    """Attention alone moves less than everything, and no byte is free."""
    slow = replace(load_system("dgx-a100:8"), host_link_bytes_per_s=1e8)
    changes: tuple[dict[str, object], ...] = ({}, {"offload_modules": ("attention",)}, {"offload": 1.0})
    none, part, whole = (seconds(predict(replace(job(**c), system=slow)), "offload/activations") for c in changes)
    assert 0.0 == none < part < whole
