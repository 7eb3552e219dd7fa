"""What a job may be asked to be: each wrong field is refused by its name, with what was found and what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gpuscale_tui.model.errors import FieldError, nearest
from gpuscale_tui.model.jobs import EMPTY, Attempt, JobSpec, is_secret_name
from gpuscale_tui.model.offers import Market, Need
from gpuscale_tui.model.states import AttemptState

GOOD: dict[str, Any] = {"image": "img", "command": "python train.py"}
LONE = "\udcff"
"""What Python makes of the byte 0xff in an argument."""

WRONG = [
    ("command", {"command": None}),
    ("command", {"command": "a", "argv": ("a",)}),
    ("command", {"command": ""}),
    ("command", {"command": " \n\t"}),
    ("command", {"command": "a\x00b"}),
    ("command", {"command": None, "argv": ("a", "\x00")}),
    ("command", {"command": None, "argv": ("",)}),
    ("command", {"command": None, "argv": ("a", LONE)}),
    ("command", {"command": f"echo {LONE}"}),
    ("name", {"name": "a\nb"}),
    ("name", {"name": "\x1b[31mred"}),
    ("name", {"name": "\x9b31m"}),
    ("name", {"name": "x" * 201}),
    ("name", {"name": LONE}),
    ("image", {"image": ""}),
    ("image", {"image": "-rm"}),
    ("image", {"image": "a b"}),
    ("image", {"image": "a;b"}),
    ("image", {"image": "a" * 256}),
    ("image", {"image": "img\n"}),
    ("gpu", {"gpu_type": ""}),
    ("gpu", {"gpu_type": "-4090"}),
    ("gpu", {"gpu_type": "RTX\n4090"}),
    ("gpu", {"gpu_type": "x" * 64}),
    ("gpus", {"gpu_count": 0}),
    ("gpus", {"gpu_count": 65}),
    ("max_price", {"max_price": 0}),
    ("max_price", {"max_price": -1}),
    ("max_price", {"max_price": 10**12 + 1}),
    ("max_price", {"max_price": 10**300}),
    ("priority", {"priority": 0}),
    ("priority", {"priority": 11}),
    ("max_runtime", {"max_runtime_sec": 0}),
    ("max_runtime", {"max_runtime_sec": 365 * 86_400 + 1}),
    ("retries", {"retries": -1}),
    ("retries", {"retries": 10_001}),
    ("env", {"env": {"1A": "x"}}),
    ("env", {"env": {"A-B": "x"}}),
    ("env", {"env": {"": "x"}}),
    ("env", {"env": {"A\n": "x"}}),
    ("env", {"env": {"A": "x\x00"}}),
    ("env", {"env": {"A": LONE}}),
    ("env", {"env": {"GPUSCALE_JOB_ID": "1"}}),
    ("env", {"secret_env": {"A=B": "x"}}),
    ("env", {"secret_env": {"A": "x\x00"}}),
    ("env", {"secret_env": {"A": LONE}}),
    ("params", {"params": {"lr": LONE}}),
    ("workdir", {"workdir": "relative"}),
    ("workdir", {"workdir": ""}),
    ("workdir", {"workdir": "/a\x00"}),
    ("workdir", {"workdir": f"/{LONE}"}),
    ("checkpoint_dir", {"checkpoint_dir": ""}),
    ("checkpoint_dir", {"checkpoint_dir": "/tmp"}),
    ("checkpoint_dir", {"checkpoint_dir": "../up"}),
    ("checkpoint_dir", {"checkpoint_dir": "a/../../b"}),
    ("checkpoint_dir", {"checkpoint_dir": "a\x00"}),
    ("project", {"project": ""}),
    ("project", {"project": "a b"}),
    ("project", {"project": "p" * 64}),
    ("provider", {"provider": "-x"}),
    ("provider", {"provider": "a/b"}),
    ("user", {"user": LONE}),
]


@pytest.mark.parametrize(("field", "changes"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_refused_by_name(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(FieldError) as caught:
        JobSpec(**{**GOOD, **changes})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: found ")
    assert "; allowed is " in str(caught.value)


def test_the_value_of_a_secret_is_not_in_its_refusal() -> None:
    for bad in ("hunter2\x00", f"hunter2{LONE}"):
        with pytest.raises(FieldError) as caught:
            JobSpec(**GOOD, secret_env={"A_KEY": bad})
        assert "hunter2" not in str(caught.value)


RIGHT: list[dict[str, Any]] = [
    {"command": None, "argv": ("python", "a b", "")},
    {"name": "naïve Übung 4 \N{SNOWMAN}"},
    {"image": "ghcr.io/o/i:1.2-x@sha256:00ff"},
    {"gpu_type": "RTX 4090", "gpu_count": 64},
    {"max_price": 1},
    {"max_price": 10**12},
    {"priority": 1},
    {"priority": 10},
    {"max_runtime_sec": 365 * 86_400},
    {"retries": 0},
    {"env": {"_A1": "", "B": "line\nline"}},
    {"env": {"GPUSCALE_PARAM_LR": "1e-3"}},
    {"checkpoint_dir": "out/..ckpt"},
    {"workdir": "/home/ann/my work"},
    {"project": "p.1-x_y"},
]


@pytest.mark.parametrize("changes", RIGHT, ids=lambda value: str(value)[:40])
def test_the_limits_themselves_are_allowed(changes: dict[str, Any]) -> None:
    made = JobSpec(**{**GOOD, **changes})
    assert all(getattr(made, name) == value for name, value in changes.items())


def test_a_job_without_a_gpu_needs_none() -> None:
    assert JobSpec(**GOOD, gpu_count=4).need == Need("img", None, 0, None)


def test_equal_needs_form_a_group_and_others_do_not() -> None:
    base = JobSpec(**GOOD, gpu_type="RTX 4090")
    assert base.need.key == dataclasses.replace(base, name="b", priority=1, command="x", user="u").need.key
    changes: list[dict[str, Any]] = [
        {"image": "img2"}, {"gpu_type": "H100"}, {"gpu_type": None}, {"gpu_count": 2}, {"max_price": 5},
        {"provider": "ssh"}, {"market": Market.SPOT},
    ]  # fmt: skip
    keys = {dataclasses.replace(base, **change).need.key for change in changes}
    assert len(keys | {base.need.key}) == len(changes) + 1


def test_the_command_line_is_for_reading() -> None:
    assert JobSpec(image="img", argv=("a", "b c")).command_line == "a b c"
    assert JobSpec(image="img", command="a | b").command_line == "a | b"


def test_secrets_do_not_show() -> None:
    assert "hunter2" not in repr(JobSpec(**GOOD, secret_env={"HF_TOKEN": "hunter2"}))


@pytest.mark.parametrize("name", ["HF_TOKEN", "API_KEY", "my_secret", "Db_Password", "KEYS"])
def test_names_that_say_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["PATH", "LR", "EPOCHS", "TOKE"])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)


def test_nothing_shared_can_be_changed() -> None:
    with pytest.raises(TypeError):
        EMPTY["a"] = "b"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        JobSpec(**GOOD).priority = 3  # type: ignore[misc]


def test_an_attempts_directory_is_named_after_job_and_number() -> None:
    assert Attempt(17, 2, 3, AttemptState.ASSIGNED, 0, None, None, None, None, 0, None).remote_name == "j17-2"


def test_the_nearest_name_is_offered_when_it_is_near() -> None:
    assert nearest("max_worker", ["max_workers", "min_workers"]) == "; did you mean 'max_workers'?"
    assert not nearest("zzz", ["max_workers"])
