"""`python -m benchmarks [NAME ...]` measures what the design promises and prints one table; `make bench`, all of it."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.common import Options, Outcome, Row
from benchmarks.report import Line, judged, show, write_json

STORE_LOG_BYTES = 2**27
"""Output that the store is measured with here: an eighth of what `python -m benchmarks.store` takes."""


def _with_options(module: str) -> Callable[[Options], Iterable[Outcome]]:
    """The measurements of a module, loaded when they are made."""

    def measure(options: Options) -> Iterable[Outcome]:
        found: Iterable[Outcome] = importlib.import_module(f"benchmarks.{module}").rows(options)
        return found

    return measure


def _store(options: Options) -> Iterable[Outcome]:
    from benchmarks import store

    return store.rows(STORE_LOG_BYTES // (4 if options.quick else 1))


def _policy(_: Options) -> Iterable[Outcome]:
    from benchmarks import policy

    return policy.rows()


MEASURES: Mapping[str, Callable[[Options], Iterable[Outcome]]] = {
    "cli_start": _with_options("cli_start"),
    "submit": _with_options("submit"),
    "store": _store,
    "policy": _policy,
    "dispatch": _with_options("dispatch"),
    "logs": _with_options("logs"),
    "transfer": _with_options("transfer"),
    "recovery": _with_options("recovery"),
    "lag": _with_options("lag"),
    "screen": _with_options("screen"),
    "screen_large": _with_options("screen_large"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 where something could not be measured for a reason that is a fault of ours."""
    chosen = _parser().parse_args(words)
    unknown = [name for name in chosen.names if name not in MEASURES]
    if unknown:
        _parser().error(f"{', '.join(unknown)}: choose from {', '.join(MEASURES)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs that are started here keep their compiled modules
    console = Console(width=max(140, Console().width))
    options = Options(live=chosen.live, quick=chosen.quick)
    lines: list[Line] = []
    notes: list[str] = []
    faults = 0
    for name in chosen.names or MEASURES:
        begin = time.monotonic()
        for outcome in _guarded(name, MEASURES[name](options)):
            if isinstance(outcome, str):
                faults += outcome.startswith("FAULT")
                notes.append(outcome)
            else:
                lines.append(judged(name, outcome))
        console.print(f"{name}: {time.monotonic() - begin:.0f} s", style="dim")
    show(lines, notes, console)
    if chosen.json is not None:
        write_json(lines, notes, chosen.json)
    return min(1, faults)


def _guarded(name: str, outcomes: Iterable[Outcome]) -> Iterator[Row | str]:
    """One measurement that breaks does not take the others with it."""
    try:
        yield from outcomes
    except Exception as error:  # noqa: BLE001 - told in the report and by the exit code
        yield f"FAULT in {name}: {type(error).__name__}: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASURES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--live", type=int, default=Options().live, metavar="N", help="live jobs of recovery and lag")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for a first look")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
