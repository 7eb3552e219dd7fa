"""Sweeps: every combination once, in order; placeholders, environment and names follow."""

from __future__ import annotations

import pytest

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.sweep import Axis, count, expand, parse_axes, parse_axis, parse_sweep


def test_each_combination_becomes_one_job_and_the_last_parameter_changes_fastest() -> None:
    """Command, environment, name and params all carry the values."""
    spec = JobSpec(image="img", command="train --lr {lr} --bs {bs} ${lr} {other}", name="base", env={"A": "1"})
    jobs = expand(spec, parse_axes(["lr=1e-3,5e-4", "bs=8,16"]))
    assert [dict(job.params) for job in jobs] == [
        {"lr": "1e-3", "bs": "8"}, {"lr": "1e-3", "bs": "16"}, {"lr": "5e-4", "bs": "8"}, {"lr": "5e-4", "bs": "16"},
    ]  # fmt: skip
    assert jobs[0].command == "train --lr 1e-3 --bs 8 ${lr} {other}"
    assert jobs[0].name == "base lr=1e-3 bs=8"
    assert jobs[0].env == {"A": "1", "GPUSCALE_PARAM_LR": "1e-3", "GPUSCALE_PARAM_BS": "8"}


def test_words_given_one_by_one_stay_words() -> None:
    """A value with blanks does not split an argument."""
    (job,) = expand(JobSpec(image="img", argv=("python", "t.py", "--text={text}")), [Axis("text", ("a b",))])
    assert job.argv == ("python", "t.py", "--text=a b")


def test_a_value_that_looks_like_a_placeholder_is_not_filled_again() -> None:
    """Filling happens once."""
    (job,) = expand(JobSpec(image="img", command="x {a} {b}"), [Axis("a", ("{b}",)), Axis("b", ("2",))])
    assert job.command == "x {b} 2"


def test_a_name_may_say_itself_where_the_values_go() -> None:
    """Else they follow it; without a name they are the name."""
    names = {"t-{lr}": "t-1", "t": "t lr=1", "": "lr=1", "{other}": "{other} lr=1"}
    for name, expected in names.items():
        (job,) = expand(JobSpec(image="img", command="x", name=name), [Axis("lr", ("1",))])
        assert job.name == expected


def test_without_parameters_the_job_stays_itself() -> None:
    """No parameters means one job, unchanged."""
    spec = JobSpec(image="img", command="x {lr}")
    assert expand(spec, ()) == [spec]
    assert count(()) == 1


def test_ranges_of_whole_numbers() -> None:
    """`1..4` stands for four values and may stand among others."""
    assert parse_axis("seed=1..4,9").values == ("1", "2", "3", "4", "9")
    assert count(parse_sweep("lr=1e-3,5e-4 seed=1..3")) == 6


@pytest.mark.parametrize(
    "texts",
    [["lr"], ["=1"], ["1r=1"], ["lr="], ["lr=1,,2"], ["lr=1,1"], ["lr=1", "LR=2"], ["s=5..1"],
     ["a=1..1000", "b=1..1000"], ["a=0..999999999"], ["l r=1"]],
)  # fmt: skip
def test_bad_sweeps_are_refused(texts: list[str]) -> None:
    """Names, values and the number of jobs are checked before anything is made."""
    with pytest.raises(FieldError) as refused:
        parse_axes(texts)
    assert refused.value.field == "sweep"
