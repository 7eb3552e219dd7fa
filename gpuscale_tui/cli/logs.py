"""`logs`: what a job's command printed, byte for byte."""

from __future__ import annotations

import codecs
import contextlib
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpuscale_tui.cli.common import (
    JOB_ID,
    NO_ENGINE_NOTE,
    engine_alive,
    home_option,
    note,
    open_store,
    unknown_job,
    verb,
)
from gpuscale_tui.cli.formatting import clean_lines, on_terminal
from gpuscale_tui.model.errors import NotFound
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.model.jobs import Attempt

POLL_SEC = 0.2


@verb(example="gpuscale logs j17 -f\ngpuscale logs j17 --attempt 1 > first.log")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=click.IntRange(min=1), help="The output of this attempt; else of the newest.")
@home_option
def logs(job_id: int, follow: bool, attempt: int | None, home: Home) -> None:
    """Print a job's output.

    The exact bytes to a pipe or a file, cleaned text to a terminal."""
    with contextlib.closing(open_store(home)) as store, contextlib.closing(_Watch(home, store, job_id)) as watch:
        first = _first_attempt(watch, attempt, follow=follow)
        if first is None:
            return
        if follow and not engine_alive(home):
            note(f"{NO_ENGINE_NOTE}; until then nothing new comes")
        _print(watch, first, follow=follow, only=attempt is not None)


class _Watch:
    """A job and its output as the store has them now."""

    def __init__(self, home: Home, store: sqlite3.Connection, job_id: int) -> None:
        self.job_id = job_id
        self._home = home
        self._store = store
        self._logs: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file of the logs."""
        if self._logs is not None:
            self._logs.close()

    def job(self) -> tuple[bool, int]:
        """Whether the job has ended for good, and the number of its newest attempt. Raises NotFound."""
        from gpuscale_tui.model.states import FINAL_JOB_STATES
        from gpuscale_tui.store import jobs

        job = jobs.get(self._store, self.job_id)
        if job is None:
            raise NotFound(unknown_job(self.job_id))
        return job.state in FINAL_JOB_STATES, job.attempt

    def attempt(self, number: int) -> Attempt | None:
        """One of its attempts."""
        from gpuscale_tui.store import jobs

        return jobs.get_attempt(self._store, self.job_id, number)

    def parts(self, number: int, start: int) -> Iterator[bytes]:
        """What an attempt has printed from byte `start` to now."""
        from gpuscale_tui.store import logs as log_store

        if self._logs is None and self._home.logs.exists():
            self._logs = log_store.connect_logs(self._home.logs, readonly=True)
        return iter(()) if self._logs is None else log_store.stream(self._logs, self.job_id, number, start)


def _first_attempt(watch: _Watch, asked: int | None, *, follow: bool) -> int | None:
    """The attempt to begin with; waits for the first one when following. None when there will be none."""
    ended, newest = watch.job()
    label = job_label(watch.job_id)
    if asked is not None and asked > max(newest, 1):
        raise NotFound(f"{label} has had {newest} attempts; `gpuscale show {label}` lists them")
    if newest == 0:
        note(f"{label} has not run yet; `gpuscale why {label}` says why")
    while newest == 0 and follow and not ended:
        time.sleep(POLL_SEC)
        ended, newest = watch.job()
    return (asked or newest) if newest else None


def _print(watch: _Watch, number: int, *, follow: bool, only: bool) -> None:
    """Print attempts, from this one on, until there is nothing more to come."""
    printer = _Printer()
    while True:
        ended, newest = watch.job()  # first: what is stored of an attempt by the time that another began is printed
        over = _print_attempt(watch, printer, number, follow=follow)
        if not follow or only or (over and ended and newest == number):
            break
        if newest > number:
            number += 1
            printer.end_attempt()
            _announce(watch, number)
        else:
            time.sleep(POLL_SEC)
    printer.end_attempt()


def _print_attempt(watch: _Watch, printer: _Printer, number: int, *, follow: bool) -> bool:
    """Print an attempt's output, to its end when following; whether the attempt has ended."""
    while True:
        attempt = watch.attempt(number)
        over = attempt is None or attempt.ended_at is not None
        printer.print(watch.parts(number, printer.position))
        if over or not follow:
            return over
        time.sleep(POLL_SEC)


def _announce(watch: _Watch, number: int) -> None:
    attempt = watch.attempt(number)
    where = f" on {worker_label(attempt.worker_id)}" if attempt else ""
    note(f"--- {job_label(watch.job_id)}: attempt {number}{where} ---")


class _Printer:
    """Writes output to stdout: bytes as they are, or text that a terminal can bear."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if on_terminal() else None
        self._held = ""
        self.position = 0
        """From which byte of the attempt's output to go on."""

    def print(self, parts: Iterator[bytes]) -> None:
        """Write parts as they come."""
        for part in parts:
            self.position += len(part)
            if self._decoder is None:
                sys.stdout.buffer.write(part)
            else:
                self._show(self._decoder.decode(part))
        sys.stdout.flush()

    def _show(self, text: str) -> None:
        """Write whole lines only, so that no escape sequence is cut in two; very long lines are cut."""
        text = self._held + text
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        if not end and len(text) > 65_536:
            end = len(text)
        self._held = text[end:]
        sys.stdout.write(clean_lines(text[:end]))

    def end_attempt(self) -> None:
        """Write what was held back; the next attempt's output begins at its first byte."""
        if self._decoder is not None:
            text = clean_lines(self._held + self._decoder.decode(b"", final=True))
            sys.stdout.write(text + ("\n" if text and not text.endswith("\n") else ""))
            self._decoder.reset()
        self._held, self.position = "", 0
        sys.stdout.flush()
