"""Rows of collectives.csv that say little, too little, or something odd."""

import pytest

from supertwin.network.rows import REFERENCE_BYTES, measured_collective_row, predict_collective_row, transfer_row

EMPTY = dict.fromkeys(
    [
        "id",
        "chip",
        "system",
        "op",
        "n_devices",
        "devices_per_node",
        "nodes",
        "message_bytes",
        "tokens_per_rank",
        "hidden",
        "topk",
        "dtype",
        "measured_us",
        "measured_algbw_gbps",
        "measured_busbw_gbps",
        "path",
        "source",
        "confidence",
        "notes",
    ],
    "",
)


def row(**values: str) -> dict[str, str]:
    return {**EMPTY, "chip": "h100-sxm", "op": "all_reduce", "n_devices": "8", "devices_per_node": "8", **values}


def test_bandwidth_becomes_time_of_the_block() -> None:
    given = row(measured_algbw_gbps="100", message_bytes="1000000", path="nvlink")
    assert measured_collective_row(given) == ("collective_time_s", pytest.approx(1e-5))
    plateau = row(op="p2p_copy", n_devices="2", measured_algbw_gbps="400", path="nvlink")
    assert measured_collective_row(plateau) == ("collective_time_s", pytest.approx(REFERENCE_BYTES / 400e9))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (row(), "no time and no bandwidth"),
        (row(op="dispatch", measured_us="10", tokens_per_rank="8"), "need hidden and topk"),
        (row(op="p2p", measured_algbw_gbps="1", notes="during 1T training"), "training job"),
        (row(measured_us="ten"), "expected a number"),
        (row(chip="h101", measured_us="10", message_bytes="8"), "unknown chip"),
        (row(op="all_educe", measured_us="10", message_bytes="8", n_devices="9" * 9), ""),
    ],
)
def test_rows_that_cannot_be_predicted_say_why(given: dict[str, str], reason: str) -> None:
    found = predict_collective_row(given)
    if reason:
        assert isinstance(found, str)
        assert reason in found


def test_hixl_notes_are_read() -> None:
    notes = "local host, remote device; block size 64K of 128 MiB total; dual-machine FabricMem (AICPU unfold)"
    path = transfer_row(row(op="p2p_write", nodes="2", notes=notes, source="HIXL benchmarks"))
    assert (path.engine, path.name) == ("fabricmem-aicpu", "inter/host-device/write")


def test_every_collective_has_a_prediction_for_a_new_row() -> None:
    for chip in ("a100-sxm-80gb", "h800-sxm", "b300", "mi355x", "tpu-v6e", "ascend-910b3", "ascend-950dt"):
        for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"):
            found = predict_collective_row(row(chip=chip, op=op, measured_us="10", message_bytes="1048576"))
            assert not isinstance(found, str), (chip, op, found)
            assert 1e-6 < found[1] < 1e-2
