"""`cancel`, `retry`, `clone` and `priority`: what a user changes about jobs that are there already."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from gpuscale_tui.cli.common import JOB_ID, home_option, note, now_ms, read, unknown_job, user_name, verb, wake, writing
from gpuscale_tui.cli.formatting import print_lines
from gpuscale_tui.model.errors import NotFound
from gpuscale_tui.model.jobs import JobSpec, job_label
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    import sqlite3

_SAID = {
    "cancelled": "cancelled",
    "cancelling": "is being saved and stopped",
    "done": "was done already",
    "failed": "had failed already",
}


@verb(example="gpuscale cancel j17 j18")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True, type=JOB_ID)
@home_option
def cancel(job_ids: tuple[int, ...], home: Home) -> None:
    """Cancel jobs, all or none.

    Waiting ones end at once, running ones after their checkpoints are saved."""
    from gpuscale_tui.engine import commands

    _must_exist(home, job_ids)
    with writing(home) as store:
        results = store.write(commands.cancel, job_ids, user=user_name(), now=now_ms())
    wake(home, needed=any(result == "cancelling" for _, result in results))
    print_lines(f"{job_label(job_id)} {_SAID.get(result, result)}" for job_id, result in results)


@verb(example="gpuscale retry j17")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True, type=JOB_ID)
@home_option
def retry(job_ids: tuple[int, ...], home: Home) -> None:
    """Put finished jobs back in the queue.

    Done, failed or cancelled ones alike; they resume from their last checkpoint. A waiting job that is held after
    faults, or because setting machines up for it has cost enough, goes on at once."""
    from gpuscale_tui.engine import commands

    _must_exist(home, job_ids)
    with writing(home) as store:
        results = store.write(commands.retry, job_ids, user=user_name(), now=now_ms())
    wake(home)
    print_lines(
        f"{job_label(job_id)} {'waits again' if again else 'waits or runs already'}" for job_id, again in results
    )


@verb(example="gpuscale priority j17 1")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.argument("number", metavar="N", type=click.IntRange(1, 10))
@home_option
def priority(job_id: int, number: int, home: Home) -> None:
    """Set a job's priority, from 1 (first) to 10 (last)."""
    from gpuscale_tui.engine import commands

    _must_exist(home, [job_id])
    with writing(home) as store:
        store.write(commands.set_priority, job_id, number, user=user_name(), now=now_ms())
    wake(home, needed=False)
    print_lines([f"{job_label(job_id)} has priority {number}"])


@verb(example="gpuscale clone j17")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@home_option
def clone(job_id: int, home: Home) -> None:
    """Submit a job once more as a new one.

    It begins anew; its id is printed."""
    from gpuscale_tui.engine import commands

    spec = _with_secrets(home, job_id, read(home, _spec, job_id))
    with writing(home) as store:
        (new,) = store.write(commands.submit, home, [replace(spec, user=user_name())], now=now_ms())
    wake(home)
    print_lines([job_label(new)])


def _spec(connection: sqlite3.Connection, job_id: int) -> JobSpec:
    from gpuscale_tui.store import jobs

    job = jobs.get(connection, job_id)
    if job is None:
        raise NotFound(unknown_job(job_id))
    return job.spec


def _with_secrets(home: Home, job_id: int, spec: JobSpec) -> JobSpec:
    """The specification with the values of its secrets, as far as they are still kept."""
    if not spec.secret_env:
        return spec
    from gpuscale_tui.store.secrets import read_job_secrets

    kept = read_job_secrets(home, job_id)
    gone = sorted(spec.secret_env.keys() - kept.keys())
    if gone:
        note(f"warning: no longer kept, so the new job lacks them: {', '.join(gone)}")
    return replace(spec, secret_env={name: kept[name] for name in spec.secret_env if name in kept})


def _must_exist(home: Home, job_ids: tuple[int, ...] | list[int]) -> None:
    """Refuse before a home is made for a store that was never used."""
    if not home.database.exists():
        raise NotFound(unknown_job(job_ids[0]))
