"""Job files: TOML with `[[jobs]]` tables, or JSON Lines with one job a line. All of a file is taken, or nothing."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuscale_tui.cli.errors import WrongInput
from gpuscale_tui.cli.jobspecs import MAX_JOBS, EntryError, Surroundings, specs_of
from gpuscale_tui.model.jobs import JobSpec

MAX_BYTES = 64 * 1024 * 1024
MOST_PROBLEMS = 20
STDIN = "-"

_ENTRY = re.compile(r"^[ \t]*\[\[\s*jobs\s*\]\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One job as the file has it, and where."""

    where: str
    fields: Any
    problem: str = ""


class JobFileError(WrongInput):
    """A job file that is refused; `problems` has a line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        shown = problems[:MOST_PROBLEMS]
        more = len(problems) - len(shown)
        super().__init__("\n".join([*shown, *([f"and {more} more"] if more else []), "no job was submitted"]))
        self.problems = tuple(problems)


def read_jobs(path: str, around: Surroundings) -> list[JobSpec]:
    """The jobs of a file (`-` is stdin), all of them checked. Raises JobFileError with everything that is wrong."""
    name = "stdin" if path == STDIN else path
    specs: list[JobSpec] = []
    problems: list[str] = []
    for entry in entries(name, _text(path, name)):
        try:
            specs += _specs(entry, around)
        except EntryError as error:
            problems += [f"{entry.where}: {wrong}" for wrong in error.errors]
        except ValueError as error:
            problems.append(f"{entry.where}: {error}")
    if len(specs) > MAX_JOBS:
        problems.append(f"{name}: found {len(specs):,} jobs; allowed are {MAX_JOBS:,} in one submission")
    if problems:
        raise JobFileError(problems)
    return specs


def _specs(entry: Entry, around: Surroundings) -> list[JobSpec]:
    """The jobs of an entry. Raises EntryError or ValueError."""
    if entry.problem:
        raise ValueError(entry.problem)
    if not isinstance(entry.fields, Mapping):
        raise ValueError("a job is a table of keys and values")  # noqa: TRY004 - what a file has is a value, not a type
    return specs_of(entry.fields, around)


def _text(path: str, name: str) -> str:
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if path == STDIN else _bytes(Path(path))
        if len(data) > MAX_BYTES:
            raise JobFileError([f"{name}: larger than {MAX_BYTES // 2**20} MiB"])
        return data.decode("utf-8-sig")
    except OSError as error:
        raise JobFileError([f"{name}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise JobFileError([f"{name}: byte {error.start} is no UTF-8"]) from error


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def entries(name: str, text: str) -> list[Entry]:
    """The entries of a file by its kind: JSON Lines where its name or its first character says so, else TOML."""
    as_lines = name.endswith((".jsonl", ".ndjson")) or (not name.endswith(".toml") and text.lstrip().startswith("{"))
    found = list(_json_lines(name, text) if as_lines else _toml(name, text))
    if not found:
        raise JobFileError([f"{name}: there are no jobs in it"])
    return found


def _json_lines(name: str, text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}: line {number}"
        try:
            yield Entry(where, json.loads(line, object_pairs_hook=_no_key_twice))
        except (ValueError, RecursionError) as error:
            yield Entry(where, None, f"no valid JSON: {error}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _toml(name: str, text: str) -> Iterator[Entry]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise JobFileError([f"{name}: no valid TOML: {error}"]) from error
    strangers = [key for key in document if key != "jobs"]
    if strangers:
        raise JobFileError([f"{name}: {key}: found an unknown key; allowed is [[jobs]]" for key in strangers])
    jobs = document.get("jobs", [])
    if not isinstance(jobs, list):
        raise JobFileError([f"{name}: jobs: found a single value; allowed is a table for each job: [[jobs]]"])
    lines = [text.count("\n", 0, match.start()) + 1 for match in _ENTRY.finditer(text)]
    for number, fields in enumerate(jobs, 1):
        line = f" (line {lines[number - 1]})" if len(lines) == len(jobs) else ""
        yield Entry(f"{name}: job {number}{line}", fields)
