"""Every further flag of `train` sets a field of the case, and what it sets shows in the result."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from supertwin.cli.app import COMMANDS
from supertwin.cli.training_options import OPTIONS, ROWS, given_fields
from supertwin.core import words
from supertwin.training.case import TrainingCase
from tests.cli.run import assert_refused, supertwin

TRAIN = ("train", "llama3.1-8b", "--on", "dgx-h100:8", "--tp", "2", "--pp", "2", "--json")


def layout(*arguments: str) -> dict[str, Any]:
    result = supertwin(*TRAIN, *arguments)
    assert result.code in (0, 3), result.err
    return json.loads(result.out)["layout"]  # type: ignore[no-any-return]


def test_flags_are_fields_of_the_case() -> None:
    names = {item.name for item in fields(TrainingCase)}
    assert {row.field for row in ROWS} <= names
    assert len({row.option.flag for row in ROWS}) == len(ROWS)


def test_flags_offer_the_words_that_a_job_is_checked_against() -> None:
    train = next(command for command in COMMANDS if command.name == "train")
    offered = {option.flag: option.choices for option in train.options}
    assert offered["--schedule"] == words.SCHEDULES
    assert offered["--sharding"] == words.SHARDING
    assert offered["--recompute"] == words.RECOMPUTE
    assert offered["--task"] == words.TASKS
    assert offered["--balance"] == words.BALANCES
    assert offered["--cp-method"] == words.CP_METHODS
    assert offered["--dispatcher"] == words.DISPATCHERS
    assert offered["--launch"] == words.LAUNCHES
    assert offered["--offload-update"] == words.UPDATES


def test_flags_not_given_set_nothing() -> None:
    assert given_fields({option.name: None for option in OPTIONS}) == {}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--order", "cp,tp,ep,dp,pp"), {"order": "cp,tp,ep,dp,pp"}),
        (("--stages", "17,15"), {"stages": "17,15"}),
        (("--bucket-mb", "80"), {"bucket_bytes": 8e7}),
        (("--no-reshard", "--sharding", "zero3"), {"reshard": 0}),
        (("--offload-optimizer", "0.5", "--offload-update", "delayed"), {"offload_optimizer": 0.5}),
        (("--packed", "--sample-len", "512"), {"packed": 1, "sample_len": 512.0}),
        (("--task", "lora", "--lora-modules", "attention"), {"task": "lora", "lora_modules": "attention"}),
        (("--offload-modules", "attention"), {"offload_modules": "attention"}),
        (("--task", "rl", "--logprob-passes", "1"), {"task": "rl", "logprob_passes": 1}),
    ],
)
def test_stated_options_show_in_the_layout(arguments: tuple[str, ...], shown: dict[str, object]) -> None:
    assert shown.items() <= layout(*arguments).items()


def test_order_best_is_no_slower() -> None:
    plain, best = (json.loads(supertwin(*TRAIN, *more).out) for more in ((), ("--order", "best")))
    assert best["step_time_s"] <= plain["step_time_s"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stages", "16,a"), "layers per stage such as 15,16,16,14"),
        (("--offload", "2"), "at most 1"),
        (("--cp-method", "rings"), "ring"),
    ],
)
def test_bad_values_name_the_legal_ones(arguments: tuple[str, ...], words: str) -> None:
    result = supertwin(*TRAIN, *arguments)
    assert_refused(result)
    assert words in result.err
