"""Fits find what made the data."""

import numpy as np
import pytest

from supertwin.calibration.links_exchange import ExchangeSample, fit_exchange, predict_exchange
from supertwin.calibration.links_fit import Fitted, Sample, Template, fit_protocols, predict
from supertwin.calibration.links_transfer import Block, fit_engine
from supertwin.machine.system import Tier
from supertwin.network.exchange import Exchange
from supertwin.network.group import Group
from supertwin.network.span import group_levels
from supertwin.network.transfer import evaluate_transfer

pytest.importorskip("scipy")
TIERS = (Tier("nvlink", "nvlink", 8, 450e9, 1e-6, reduction=True),)
TRUTH = {
    "ring/ll": {"fixed_s": 5e-6, "hop_s": 8e-7, "efficiency": 0.05, "own_share": 0.3},
    "ring/ll128": {"fixed_s": 8e-6, "hop_s": 1e-6, "efficiency": 0.4, "own_share": 0.3},
    "ring/simple": {"fixed_s": 3e-5, "hop_s": 1.5e-6, "efficiency": 0.82, "own_share": 0.3},
}


def samples(sizes: np.ndarray, noise: float) -> list[Sample]:
    template = Template("all_gather", tuple(TRUTH), {}, {})
    rng = np.random.default_rng(3)
    out = []
    for n in (2, 4, 8):
        empty = Sample(TIERS, Group(n), sizes, sizes)
        exact = predict([empty], template, Fitted(TRUTH, 0.0))
        out.append(Sample(TIERS, Group(n), sizes, exact * np.exp(noise * rng.standard_normal(len(sizes)))))
    return out


def test_protocols_are_found_again_and_carry_over_to_other_sizes() -> None:
    template = Template("all_gather", tuple(TRUTH), {}, {})
    found = fit_protocols(samples(np.geomspace(512, 2**30, 40), 0.03), template)
    fresh = samples(np.geomspace(700, 2**29, 33), 0.0)
    error = np.abs(predict(fresh, template, found) / np.concatenate([s.seconds for s in fresh]) - 1)
    assert np.median(error) < 0.02
    assert error.max() < 0.15
    assert found.groups["ring/simple"]["efficiency"] == pytest.approx(0.82, rel=0.1)


def test_outliers_do_not_bend_a_fit() -> None:
    template = Template("all_gather", tuple(TRUTH), {}, {})
    given = samples(np.geomspace(512, 2**30, 40), 0.02)
    for sample in given:
        sample.seconds[::11] *= 4.0
    found = fit_protocols(given, template)
    fresh = samples(np.geomspace(700, 2**29, 33), 0.0)
    error = np.abs(predict(fresh, template, found) / np.concatenate([s.seconds for s in fresh]) - 1)
    assert np.median(error) < 0.03


def test_engine_with_equal_paths_is_tied_and_found() -> None:
    truth = {"fixed_s": 2e-6, "bytes_per_s": 24e9, "sharpness": 3.0}
    blocks = [
        Block(ends, way, size, float(evaluate_transfer(truth, size)))
        for ends in ("device-device", "device-host", "host-host")
        for way in ("read", "write")
        for size in (2.0**14, 2.0**15, 2.0**17, 2.0**19, 2.0**21)
    ]
    found = fit_engine(blocks)
    assert np.median(found.left_out) < 0.01
    assert found.groups["host-host/write"]["bytes_per_s"] == pytest.approx(24e9, rel=0.02)
    assert found.groups["host-host/write"]["fixed_s"] == pytest.approx(2e-6, rel=0.05)


def test_exchange_constants_are_found_again() -> None:
    truth = {"fixed_s": 1.2e-5, "efficiency": 0.55, "sharpness": 1.2, "expert_bytes_per_s": 4e9, "expert_s": 1e-8}
    tokens, experts = (a.ravel() for a in np.meshgrid(np.geomspace(1, 2048, 12), [8.0, 64.0, 256.0]))
    call = Exchange("dispatch", tokens, 7168.0, 8.0, "fp8", "low-latency", experts)
    levels = group_levels(TIERS, Group(8))
    exact = predict_exchange([ExchangeSample(levels, call, tokens)], "low-latency", truth)
    found = fit_exchange([ExchangeSample(levels, call, exact)], "low-latency", list(truth), {})
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, rel=0.05), name
