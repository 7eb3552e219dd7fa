"""`submit`: one job, a sweep of them, or a file of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuscale_tui.cli import shapes
from gpuscale_tui.cli.common import (
    F,
    config_option,
    engine_alive,
    home_option,
    json_option,
    note,
    now_ms,
    settings_of,
    user_name,
    verb,
    wake,
    writing,
)
from gpuscale_tui.cli.errors import WrongInput
from gpuscale_tui.cli.formatting import print_json, print_lines
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import JobSpec, job_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.cli.jobspecs import Surroundings

EXAMPLE = """\
gpuscale submit --gpu "RTX 4090" --max-price 0.45 --workdir . -- python train.py --epochs 10
gpuscale submit --name lr --sweep lr=1e-3,5e-4 --sweep seed=1..3 -- python train.py --lr {lr} --seed {seed}
gpuscale submit --file jobs.toml"""
DASHES = "write `--` before the command: gpuscale submit [options] -- python train.py"


class Submit(click.Command):
    """A command whose words after `--` are taken as they are, and none before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options; the words after the first `--` become the command."""
        split = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:split])
        if ctx.params.get("command"):
            ctx.fail(DASHES)
        ctx.params["command"] = tuple(args[split + 1 :])
        return rest


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--file", "file", metavar="FILE", help="Submit the jobs of a TOML or JSON Lines file (- for stdin)."),
    click.option("--name", metavar="TEXT", help="How the job is called."),
    click.option("--image", metavar="IMAGE", help="Docker image (else docker_image of the settings)."),
    click.option("--gpu", metavar="MODEL", help="GPU model, or none (else gpu_type of the settings)."),
    click.option("--gpus", type=int, metavar="N", help="How many GPUs, all on one machine."),
    click.option("--max-price", metavar="USD", help="Most it may cost an hour and GPU, fees included."),
    click.option("--priority", type=click.IntRange(1, 10), metavar="1..10", help="1 is served first; 5 by default."),
    click.option("--max-runtime", metavar="TIME", help="End it after this time, such as 90m or 2h."),
    click.option("--env", multiple=True, metavar="K=V", help="Variable for the job; K alone takes your own value."),
    click.option("--secret", multiple=True, metavar="K", help="Like --env, kept in a 0600 file and shown nowhere."),
    click.option("--workdir", metavar="DIR", help="Directory that is copied to the machine and worked in."),
    click.option("--git", metavar="URL@REV", help="Code to work in, cloned here, instead of --workdir."),
    click.option("--data", multiple=True, metavar="NAME=PATH", help="Data set, brought once to a machine: $DATA_NAME."),
    click.option("--checkpoint-dir", metavar="PATH", help="Where the command saves, if not in $CHECKPOINT_DIR."),
    click.option("--project", metavar="NAME", help="Project that the cost is booked to."),
    click.option("--provider", metavar="NAME", help="Only from this provider: clore or ssh."),
    click.option("--retries", type=int, metavar="N", help="Times it is put back after its machine failed."),
    click.option("--sweep", multiple=True, metavar="K=A,B", help="One job for each value; {K} stands for it."),
    click.option("--from", "from", metavar="J/N", help="Begin with a snapshot, such as j17/3 (a branch)."),
    click.option("--stop-signal", metavar="NAME", help="Signal that tells it to save and end; TERM by default."),
    click.option("--grace", metavar="TIME", help="Time that it has after that signal, such as 30s or 5m."),
    click.option("--rehearse", is_flag=True, default=None, help="Move it once on purpose, to see that it resumes."),
    click.option("--spot/--on-demand", "spot", default=None, help="Only machines rented this way."),
)


def _job_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@verb(example=EXAMPLE, cls=Submit)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@_job_options
@json_option
@home_option
@config_option
def submit(
    command: Sequence[str], as_json: bool, home: Home, config: Path | None, file: str | None, **options: Any
) -> None:
    """Put jobs in the queue; prints their ids, one a line.

    The words after -- are run as given, with no shell in between. With --sweep there is one job for each combination:
    {lr} in the command is replaced, and the job sees GPUSCALE_PARAM_LR.
    """
    given = {name: value for name, value in options.items() if value not in {None, ()}}
    if file is not None and (given or command):
        raise click.UsageError("with --file everything stands in the file: no command and no other options of the job")
    if file is None and not command:
        raise click.UsageError(f"what shall be run? {DASHES}, or use --file")
    settings = settings_of(config)
    around = _surroundings(file, settings)
    specs = _from_options(given, command, around) if file is None else _from_file(file, around)
    for checked in around.checked.values():
        if checked.left_out:
            note(f"warning: {checked.path}: these links lead out of it and do not travel: {_few(checked.left_out)}")
    _submit(home, specs, settings, as_json=as_json)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _surroundings(file: str | None, settings: Settings) -> Surroundings:
    """Directories are meant from where the user stands, in a file from where that lies."""
    from gpuscale_tui.cli.jobspecs import Surroundings

    base = Path.cwd() if file in {None, "-"} else Path(str(file)).expanduser().absolute().parent
    return Surroundings(settings, os.environ, base, user_name())


def _from_file(file: str, around: Surroundings) -> list[JobSpec]:
    from gpuscale_tui.cli.jobfile import read_jobs

    return read_jobs(file, around)


def _from_options(options: Mapping[str, Any], command: Sequence[str], around: Surroundings) -> list[JobSpec]:
    from gpuscale_tui.cli.jobspecs import EntryError, specs_of

    if len(command) == 1 and len(command[0].split()) > 1:
        note("warning: the command is one word with blanks in it; for a shell line write: -- sh -c '...'")
    try:
        return specs_of({"argv": list(command), **_entry(options)}, around)
    except EntryError as error:
        wrong = [FieldError(_option(each.field), each.found, each.allowed) for each in error.errors]
        raise WrongInput("\n".join(str(each) for each in wrong)) from error


def _option(field: str) -> str:
    """What a field is called on the command line."""
    names = {"argv": "command", "command": "command", "market": "--spot"}
    return names.get(field, f"--{field.replace('_', '-')}")


def _entry(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as an entry of a job file."""
    entry = dict(options)
    if "spot" in entry:
        entry["market"] = "spot" if entry.pop("spot") else "on-demand"
    return entry


def _submit(home: Home, specs: Sequence[JobSpec], settings: Settings, *, as_json: bool) -> None:
    from gpuscale_tui.engine import commands, intake

    with writing(home) as store:
        ids = store.write(commands.submit, home, specs, now=now_ms())
        _print(store, ids, alive=engine_alive(home), as_json=as_json)
        for doubt in store.read(intake.doubts, specs, settings):
            note(f"warning: {doubt}")
    wake(home)


def _print(store: Database, ids: Sequence[int], *, alive: bool, as_json: bool) -> None:
    if not as_json:
        print_lines(job_label(job_id) for job_id in ids)
        return
    from gpuscale_tui.store import queries

    rows = [store.read(queries.job_row, job_id, engine_alive=alive) for job_id in ids]
    print_json([shapes.job(row) for row in rows if row is not None])
