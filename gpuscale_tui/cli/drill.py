"""`drill`: rehearse a job's move, to know before an expensive run that it resumes."""

from __future__ import annotations

import sys

import click

from gpuscale_tui.cli.common import JOB_ID, home_option, now_ms, read, unknown_job, user_name, verb, wake, writing
from gpuscale_tui.cli.errors import WrongInput
from gpuscale_tui.cli.formatting import clean, print_lines
from gpuscale_tui.model.errors import NotFound
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.model.states import Rehearsal
from gpuscale_tui.store.home import Home


@verb(example="gpuscale drill j17\ngpuscale drill j17 --elsewhere --yes")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option("--elsewhere", is_flag=True, help="Give its machine back for it, so that it must go on on another.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
def drill(job_id: int, elsewhere: bool, yes: bool, home: Home) -> None:
    """Rehearse a job's move.

    After its first snapshot it is saved, stopped and put back once on purpose, which counts as nobody's fault. It goes
    on on another machine where one is idle, else on its own. Where it goes on is compared with where it was: the job
    then carries "resume verified", or what was wrong. `gpuscale show` tells it."""
    from gpuscale_tui.engine import rehearsal

    if not home.database.exists():
        raise NotFound(unknown_job(job_id))
    if not yes:
        _confirm(read(home, rehearsal.forecast, job_id, elsewhere=elsewhere, now=now_ms()))
    with writing(home) as store:
        state = store.write(rehearsal.ask, job_id, elsewhere=elsewhere, user=user_name(), now=now_ms())
    wake(home)
    label = job_label(job_id)
    new = state == Rehearsal.WANTED
    print_lines([f"{label} is moved once after its next snapshot" if new else f"{label} is being rehearsed already"])


def _confirm(forecast: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongInput("it is not asked where there is no terminal: give --yes")
    click.confirm(f"{clean(forecast)}. Rehearse it?", abort=True, err=True)
