"""Sweeps: one job for each combination of the values of some parameters."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import RESERVED_PREFIX, JobSpec

MAX_JOBS = 100_000
PARAM_PREFIX = f"{RESERVED_PREFIX}PARAM_"
ALLOWED = "NAME=VALUE,VALUE,... such as lr=1e-3,5e-4 or seed=1..5"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_RANGE = re.compile(r"(-?[0-9]{1,9})\.\.(-?[0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter of a sweep and the values that it takes, in the order given."""

    name: str
    values: tuple[str, ...]

    @property
    def variable(self) -> str:
        """The environment variable that tells the job its value."""
        return PARAM_PREFIX + self.name.upper()


def parse_axis(text: str) -> Axis:
    """`lr=1e-3,5e-4`, or `seed=1..5` for whole numbers from 1 to 5. Raises FieldError (field `sweep`)."""
    name, separator, listed = text.partition("=")
    name = name.strip()
    if not separator or not _NAME.fullmatch(name):
        raise FieldError("sweep", text, ALLOWED)
    values = tuple(itertools.chain.from_iterable(_values(part.strip(), text) for part in listed.split(",")))
    if len(set(values)) < len(values):
        raise FieldError("sweep", text, "values that differ")
    return Axis(name, values)


def _values(part: str, text: str) -> Iterable[str]:
    if not part or "\x00" in part:
        raise FieldError("sweep", text, f"{ALLOWED}, without empty values")
    numbers = _RANGE.fullmatch(part)
    if numbers is None:
        return (part,)
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < MAX_JOBS:
        raise FieldError("sweep", part, f"a range that rises, of at most {MAX_JOBS} values")
    return map(str, range(first, last + 1))


def parse_axes(texts: Iterable[str]) -> tuple[Axis, ...]:
    """Several parameters, each named once. Raises FieldError (field `sweep`), also for more jobs than MAX_JOBS."""
    axes = tuple(parse_axis(text) for text in texts)
    seen: set[str] = set()
    for axis in axes:
        if axis.variable in seen:
            raise FieldError("sweep", axis.name, "each parameter once, whatever the case of its letters")
        seen.add(axis.variable)
    if count(axes) > MAX_JOBS:
        raise FieldError("sweep", f"{count(axes)} combinations", f"at most {MAX_JOBS}")
    return axes


def parse_sweep(line: str) -> tuple[Axis, ...]:
    """Parameters written on one line, set apart by blanks: `lr=1e-3,5e-4 seed=1..3`. Raises FieldError."""
    return parse_axes(line.split())


def count(axes: Sequence[Axis]) -> int:
    """How many jobs the sweep makes; 1 without parameters."""
    return math.prod(len(axis.values) for axis in axes)


def expand(spec: JobSpec, axes: Sequence[Axis], most: int | None = None) -> list[JobSpec]:
    """One specification for each combination, the last parameter changing fastest; `[spec]` without parameters.

    With `most` only so many of the first.

    `{lr}` in the command and in the name is replaced by the value, and the environment has `GPUSCALE_PARAM_LR`. A name
    without any such place is followed by the values. Raises FieldError where a result is no valid specification.
    """
    if not axes:
        return [spec]
    combinations = itertools.product(*(axis.values for axis in axes))
    return [_chosen(spec, axes, values) for values in itertools.islice(combinations, most)]


def _chosen(spec: JobSpec, axes: Sequence[Axis], values: Sequence[str]) -> JobSpec:
    params = {axis.name: value for axis, value in zip(axes, values, strict=True)}
    return replace(
        spec,
        name=_named(spec.name, params)[:200],
        command=None if spec.command is None else fill(spec.command, params),
        argv=tuple(fill(word, params) for word in spec.argv),
        env={**spec.env, **{axis.variable: params[axis.name] for axis in axes}},
        params=params,
    )


def _named(name: str, params: dict[str, str]) -> str:
    """The name with the values in their places, else after it; the values alone where there is no name."""
    filled = fill(name, params)
    label = " ".join(f"{key}={value}" for key, value in params.items())
    return filled if filled != name else f"{name} {label}".lstrip()


def fill(text: str, params: dict[str, str]) -> str:
    """Replace `{name}` by its value for the names given, once: a shell's `${name}` and other braces stay."""
    if "{" not in text:
        return text
    return re.sub(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda match: params.get(match[1], match[0]), text)
