"""`demo`: the whole program on a pretend marketplace, with six real training jobs, in a throw-away home."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click

from gpuscale_tui.cli.common import now_ms, read, user_name, verb, writing
from gpuscale_tui.cli.errors import DONE, FAILED
from gpuscale_tui.cli.formatting import clean, money, plural, print_lines
from gpuscale_tui.cli.pretend import Marketplace
from gpuscale_tui.cli.root import check_terminal
from gpuscale_tui.model.jobs import Attempt, worker_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store import queries
from gpuscale_tui.store.home import Home, private_opener
from gpuscale_tui.store.views import Costs, JobRow

BANNER = "SANDBOX: a pretend marketplace on this computer. No money is spent."
COMMAND = ("python3", "train.py", "--lr", "{lr}", "--batch-size", "{batch}")
SWEEP = ("lr=1e-2,3e-2,1e-1", "batch=16,32")
FOREIGN = ("CLORE_API_KEY", "GPUSCALE_CLORE_URL", "GPUSCALE_CONFIG", "GPUSCALE_HOME")
"""Variables of the user's real life: nothing of it may reach the demonstration."""
SETTLE_SEC = 0.5
"""A process that was started this instant has no command line to be found by yet."""
START_SEC = 20.0
STOP_SEC = 45.0
"""Longer than the demonstration's shutdown_grace_sec."""


@verb(example="gpuscale demo\ngpuscale demo --autopilot")
@click.option("--autopilot", is_flag=True, help="Without the screen: tell what happens, and end when all is done.")
@click.option("--keep", is_flag=True, help="Keep the home with database, logs and checkpoints, and say where it is.")
def demo(autopilot: bool, keep: bool) -> int:
    """Show everything on a pretend marketplace.

    It needs neither account nor money. Machines are rented for six real training jobs, on this computer; one of them
    is lost on the way, and its job goes on elsewhere. It takes some two minutes, and leaves nothing behind.
    """
    if not autopilot:
        check_terminal(os.environ)
    with _away_from_real_life(), _places(keep=keep) as places, Marketplace(places.market) as market:
        config = _write_settings(places, market)
        settings = _submit(places.home, config)
        _run(places.home, settings, config, autopilot=autopilot)
        _end_background_engine(places.home)
        code = _tell(places.home, market, autopilot=autopilot)
    if keep:
        print_lines([f"kept: {places.home.path}", f"  gpuscale queue --all --home {places.home.path}"])
    return code


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demonstration keeps what it makes: the marketplace's directory, and the home."""

    market: Path
    home: Home


@contextlib.contextmanager
def _away_from_real_life() -> Iterator[None]:
    """The environment without the user's real account, settings and home."""
    saved = {name: os.environ.pop(name) for name in FOREIGN if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


@contextlib.contextmanager
def _places(*, keep: bool) -> Iterator[Places]:
    """Private directories below the user's temporary one.

    The home lies in the marketplace's directory, which the sandbox removes when it ends, even when we are killed.
    """
    base = Path(tempfile.mkdtemp(prefix="gpuscale-demo-"))
    kept = Path(tempfile.mkdtemp(prefix="gpuscale-demo-home-")) if keep else base / "home"
    try:
        yield Places(base, Home(kept))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _write_settings(places: Places, market: Marketplace) -> Path:
    import tomli_w

    home = places.home
    home.ensure()
    key_file, config = home.path / "clore.key", home.path / "config.toml"
    with open(key_file, "w", opener=private_opener) as file:
        file.write(market.api_key)
    settings = {
        "scaler": {
            "max_workers": 3,
            "max_hourly_budget": 2.0,
            "gpu_type": "RTX 4090",
            "max_price_per_gpu": 0.5,
            "poll_interval_sec": 1.0,
            "idle_timeout_sec": 10.0,
            "shutdown_grace_sec": 30.0,
        },
        "providers": {
            "clore": {
                "enabled": True,
                "api_key_file": str(key_file),
                "base_url": market.url,
                "request_interval_sec": 0.05,
                "create_interval_sec": 0.1,
            }
        },
        "checkpoints": {"interval_sec": 2.0},
        "machines": {"usage_interval_sec": 4.0},
        "ui": {"banner": BANNER},
    }
    with open(config, "wb", opener=private_opener) as file:
        tomli_w.dump(settings, file)
    return config


def _submit(home: Home, config: Path) -> Settings:
    """Put the six jobs in the queue; returns the settings they run under."""
    from gpuscale_tui.cli.jobspecs import Surroundings, specs_of
    from gpuscale_tui.config import load
    from gpuscale_tui.engine import commands

    settings = load(config, os.environ).settings
    with resources.as_file(resources.files("gpuscale_tui") / "sandbox" / "demo" / "workdir") as workdir:
        entry = {"argv": list(COMMAND), "workdir": str(workdir), "sweep": list(SWEEP), "project": "demo"}
        specs = specs_of(entry, Surroundings(settings, os.environ, workdir, user_name()))
    with writing(home) as store:
        store.write(commands.submit, home, specs, now=now_ms())
    return settings


def _run(home: Home, settings: Settings, config: Path, *, autopilot: bool) -> None:
    if not autopilot:
        from gpuscale_tui.tui.app import run_app

        run_app(home, settings, config, os.environ)
        return
    from gpuscale_tui.engine.autopilot import run_autopilot

    click.echo(BANNER)
    with _own_signals():
        run_autopilot(home, settings, exit_when_idle=True, environ=os.environ, out=Plain())


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Put back what the autopilot sets, so that Ctrl+C ends the demonstration afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    saved = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


class Plain(io.StringIO):
    """Turns the autopilot's JSON lines into lines for a person, on stdout."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""

    def write(self, text: str) -> int:
        """Take a part of the output; each whole line is told."""
        *lines, self._begun = (self._begun + text).split("\n")
        print_lines(_plain_line(line) for line in lines if line)
        return len(text)

    def flush(self) -> None:
        """Let it be seen."""
        sys.stdout.flush()


def _plain_line(line: str) -> str:
    event = json.loads(line)
    change = f"{event.get('from', 'new')} -> {event['to']}" if "to" in event else ""
    attempt = f"attempt {event['attempt']}" if "attempt" in event else ""
    words = [event["time"][11:19], event.get("job", ""), attempt, event.get("worker", ""), change]
    rest = [event.get("cause", ""), event.get("detail", ""), event.get("failed", "")]
    return clean("  ".join(word for word in (*words, *rest) if word))


def _end_background_engine(home: Home) -> None:
    """The screen may have left an engine behind: it gives everything back and ends with the demonstration."""
    _wait(lambda: background_engine(home) is not None, SETTLE_SEC)
    pid = background_engine(home)
    if pid is None:
        return
    from gpuscale_tui.engine import commands
    from gpuscale_tui.engine.doorbell import ring

    click.echo("ending the engine in the background", err=True)
    _wait(lambda: _is_over(pid) or _engine_pid(home) == pid, START_SEC)
    with writing(home) as store:  # what is asked before it has taken the home would not be meant for it
        store.write(commands.stop, at_once=True, user=user_name(), now=now_ms())
    ring(home)
    if not _wait(lambda: _is_over(pid), STOP_SEC):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def background_engine(home: Home) -> int | None:
    """Pid of the autopilot that was left behind for this home, also while it still starts."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"--autopilot" in words and os.fsencode(home.path) in words:
                return int(entry.name)
    return None


def _engine_pid(home: Home) -> int | None:
    from gpuscale_tui.store import engines

    row = read(home, engines.engine)
    return row.pid if row is not None and row.stopped_at is None else None


def _is_over(pid: int) -> bool:
    """Whether a process has ended; our own child leaves a zombie, which has no command line."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return met


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one job."""

    row: JobRow
    attempts: list[Attempt]


def _outcomes(connection: sqlite3.Connection) -> tuple[list[Outcome], Costs]:
    """The jobs, and the books."""
    rows = queries.job_rows(connection, sort="id", limit=100)
    found = [Outcome(row, queries.attempts(connection, row.id)) for row in rows]
    return found, queries.costs(connection, "job")


def _tell(home: Home, market: Marketplace, *, autopilot: bool) -> int:
    """The end of the story; the exit code is 0 when all of it is as it should be."""
    outcomes, costs = read(home, _outcomes)
    bill = market.bill()
    agree = costs.total == bill["total_micro"]
    verdict = "the same to the cent" if agree else "THEY DIFFER"
    kinds = (
        *(("jobs", costs.productive), ("set-up", costs.setup), ("idle", costs.idle)),
        *(("rejected", costs.rejected), ("lost", costs.lost)),
    )
    parts = ", ".join(f"{name} {money(part, 4)}" for name, part in kinds)
    print_lines(
        [
            "",
            *(_outcome_line(outcome) for outcome in outcomes),
            f"spent by our books: {money(costs.total, 6)}: {parts}",
            f"by the marketplace's own bill: {money(bill['total_micro'], 6)}: {verdict}",
            f"{plural(bill['live'], 'order')} left",
            BANNER,
        ]
    )
    unfinished = [outcome for outcome in outcomes if outcome.row.state != "done"]
    wrong = bill["live"] or not agree or (autopilot and unfinished)
    return FAILED if wrong else DONE


def _outcome_line(outcome: Outcome) -> str:
    row = outcome.row
    resumed = [attempt for attempt in outcome.attempts if attempt.resumed_from is not None]
    where = f", resumed on {worker_label(resumed[-1].worker_id)}" if resumed else ""
    attempts = plural(row.attempt, "attempt")
    return clean(f"{row.label} {row.name}: {row.state}, {attempts}{where}, {money(row.cost, 4)}")
