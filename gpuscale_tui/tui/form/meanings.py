"""What the rows of a sweep or of an environment mean, and what is wrong with them. Functions that change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpuscale_tui.engine.intake import MOST_JOBS
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import JobSpec, is_secret_name
from gpuscale_tui.model.sweep import count, expand, parse_sweep
from gpuscale_tui.tui.draft import Texts, joined, variables
from gpuscale_tui.tui.form.rows_editor import Row
from gpuscale_tui.tui.format import clean, plural
from gpuscale_tui.tui.look import Line

SHOWN = 4
"""Commands of a sweep that are shown."""
MOST_DATA = 7
"""Data sets that are explained."""


def sweep_rows(line: str) -> list[Row]:
    """A sweep as rows."""
    parts = [word.partition("=") for word in line.split()]
    return [Row(name, values) for name, _, values in parts]


def sweep_line(rows: Sequence[Row]) -> str:
    """Rows as a sweep; blanks after commas are not meant."""
    return " ".join(f"{row.name}={''.join(row.value.split())}" for row in rows)


def sweep_meaning(rows: Sequence[Row], texts: Texts) -> tuple[list[Line], str]:
    """How many jobs, and the first commands."""
    try:
        axes = parse_sweep(sweep_line(rows))
        jobs = count(axes)
        product = " x ".join(str(len(axis.values)) for axis in axes)
        head: list[Line] = [
            [(" " + plural(jobs, "job"), "strong"), (f" = {product}" if len(axes) > 1 else "", "muted")]
        ]
        if jobs > MOST_JOBS:
            return head, f"at most {MOST_JOBS:,} jobs at once"
        specs = expand(JobSpec(image="x", command=texts["command"] or "(no command yet)"), axes, SHOWN)
    except FieldError as error:
        return [], error.allowed
    lines = [*head, *([(f"   {clean(spec.command or '')}", "text")] for spec in specs)]
    lines += [[(f"   and {jobs - len(specs):,} more", "muted")]] if jobs > len(specs) else []
    absent = [axis.name for axis in axes if f"{{{axis.name}}}" not in texts["command"]]
    note = f" {{{absent[0]}}} is not in the command: the job sees it as {axes[0].variable}" if absent else ""
    return [*lines, [(note, "warn")]] if note else lines, ""


def data_rows(line: str) -> list[Row]:
    """Data sets as rows."""
    return [Row(name, path) for name, path in variables(line)]


def data_meaning(rows: Sequence[Row]) -> tuple[list[Line], str]:
    """Under which name a job finds each, and what is not there."""
    lines: list[Line] = []
    try:
        for row in rows:
            path = Path(row.value).expanduser().absolute()
            JobSpec(image="x", command="x", data={row.name: str(path)})
            there = path.exists()
            words = clean(str(path)) if there else f"{clean(str(path))} is not there"
            lines.append([(f" $DATA_{row.name.upper()}  ", "strong"), (words, "muted" if there else "warn")])
    except FieldError as error:
        return [], error.allowed
    names = [row.name.upper() for row in rows]
    return (lines[:MOST_DATA], "") if len(set(names)) == len(names) else ([], "each name once")


def env_rows(texts: Texts) -> list[Row]:
    """All variables, secret ones last."""
    plain = [Row(name, value) for name, value in variables(texts["env"])]
    return [*plain, *(Row(name, value, secret=True) for name, value in variables(texts["secret"]))]


def env_lines(rows: Sequence[Row]) -> tuple[str, str]:
    """The line that is shown and the one that is hidden."""
    secret = [(row.name, row.value) for row in rows if row.secret or is_secret_name(row.name)]
    return joined((row.name, row.value) for row in rows if (row.name, row.value) not in secret), joined(secret)


def env_meaning(rows: Sequence[Row]) -> tuple[list[Line], str]:
    """How many variables, and how many of them are secret."""
    hidden = [row for row in rows if row.secret or is_secret_name(row.name)]
    try:
        for row in rows:
            JobSpec(image="x", command="x", env={row.name: row.value})
    except FieldError as error:
        return [], error.allowed
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        return [], "each name once"
    words = f" {plural(len(rows), 'variable')}, {len(hidden)} secret: kept in a 0600 file, shown nowhere"
    return [[(words, "muted")]], ""
