"""From the first frame to the last word: the screen, its signals, and what becomes of the engine afterwards."""

from __future__ import annotations

import contextlib
import locale
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import FrameType

from gpuscale_tui.config_write import Files
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.plain import clean_lines
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.home import Home, private_opener
from gpuscale_tui.tui.app import GpuscaleApp
from gpuscale_tui.tui.format import plural, rate
from gpuscale_tui.tui.host import EngineHost, Leaving, RunningEngine, hand_over, starter
from gpuscale_tui.tui.theme import directories, fitting

LOGGER = logging.getLogger("gpuscale.screen")

EXIT_SEC = 3.0
"""A screen that a signal has ended and that still hangs (its terminal does not read) is left behind after this."""

PROGRESS_SEC = 2.0
DEMO = 64
"""`run` returns this where the user wants the demonstration: the command line has it."""
LIVE = ("ordering", "booting", "idle", "busy", "releasing")


def run(
    home: Home, settings: Settings, config: Path | None, environ: Mapping[str, str], *, readonly: bool = False
) -> int:
    """Show the screen over a home until it is left, then do with the engine what was chosen; the exit code.

    Raises ThemeError or KeymapError before anything is shown.
    """
    files = Files(config, environ)
    start = None if readonly else starter(home, environ, lambda: files.read().settings)
    host = EngineHost(start, lambda engine: hand_over(engine, home, config))
    app = GpuscaleApp(
        home, settings, host=host, user_config=files.config.parent, utf8=is_utf8(environ),
        no_color=bool(environ.get("NO_COLOR")), readonly=readonly, files=files,
        fit=partial(fitting, environ=environ, places=directories(files.config.parent)),
    )  # fmt: skip
    with _logging_to(home, settings), _signals(app, host, home, config) as heard:
        choice = app.run()
    if app.failure:
        print(clean_lines(app.failure), file=sys.stderr)
        return 1
    if app.wants_demo and heard.choice is None:
        if host.engine is not None:
            host.engine.detach()
        return DEMO
    if heard.choice is Leaving.BACKGROUND and host.engine is not None:
        _note_lost(home)
    _leave(heard.choice or choice, host, home, config)
    return app.return_code or 0


def is_utf8(environ: Mapping[str, str]) -> bool:
    """Whether the terminal is said to understand UTF-8."""
    said = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    if said:
        return "utf-8" in said.lower() or "utf8" in said.lower()
    return locale.getpreferredencoding(do_setlocale=False).lower().replace("-", "") == "utf8"


@contextlib.contextmanager
def _logging_to(home: Home, settings: Settings) -> Iterator[None]:
    """What the engine's thread has to say goes to a file: the terminal belongs to the screen."""
    from gpuscale_tui.engine.redaction import log_formatter

    home.ensure()
    stream = open(home.engine_log, "a", encoding="utf-8", errors="backslashreplace", opener=private_opener)  # noqa: SIM115
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_formatter(home, settings, "%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        stream.close()


class _Heard:
    """The signal that came, as what it asks for."""

    def __init__(self) -> None:
        self.choice: Leaving | None = None


@contextlib.contextmanager
def _signals(app: GpuscaleApp, host: EngineHost, home: Home, config: Path | None) -> Iterator[_Heard]:
    """SIGHUP: leave, the background goes on. SIGTERM: leave, everything goes back.

    Handlers of `signal.signal` run even while the terminal blocks the event loop; a loop's own would not.
    """
    heard = _Heard()

    def caught(number: int, _frame: FrameType | None) -> None:
        heard.choice = Leaving.BACKGROUND if number == signal.SIGHUP else Leaving.RELEASE
        engine = host.engine
        if engine is not None and heard.choice is Leaving.RELEASE:
            engine.stop(at_once=True)
        if app._loop is not None:
            app._loop.call_soon_threadsafe(app.exit, heard.choice)
        watchdog = threading.Timer(EXIT_SEC, _left_behind, (heard.choice, host, home, config))
        watchdog.daemon = True
        watchdog.start()

    before = {number: signal.signal(number, caught) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _left_behind(choice: Leaving, host: EngineHost, home: Home, config: Path | None) -> None:
    """The screen did not end in time: do what was asked without it."""
    engine = host.engine
    if engine is not None and choice is Leaving.BACKGROUND:
        _note_lost(home)
        hand_over(engine, home, config)
    elif engine is not None:
        engine.wait(None)
    os._exit(0)


def _note_lost(home: Home) -> None:
    """The next start tells that the terminal was lost, and what went on since."""
    from gpuscale_tui.store import handover

    try:
        handover.note_lost(home, time.time_ns() // 1_000_000)
    except (GpuscaleError, sqlite3.Error, OSError):
        LOGGER.exception("that the terminal was lost could not be noted")


def _leave(choice: Leaving | None, host: EngineHost, home: Home, config: Path | None) -> None:
    """Do with the engine what was chosen; without a choice, as after a crash of the screen, the background goes on."""
    engine = host.engine
    if engine is None:
        return
    if choice is None or choice is Leaving.BACKGROUND:
        pid = hand_over(engine, home, config)
        _say(f"gpuscale goes on in the background (pid {pid}). `gpuscale` shows it again, `gpuscale stop` ends it.")
        return
    engine.stop(at_once=choice is Leaving.RELEASE)
    _wait(engine, home)


def _wait(engine: RunningEngine, home: Home) -> None:
    """Tell how things stand until the engine has ended. Ctrl+C: do not finish, give back now."""
    told = ""
    while True:
        try:
            if engine.wait(PROGRESS_SEC):
                break
            line = _progress(home)
            if line != told:
                _say(line)
                told = line
        except KeyboardInterrupt:
            _say("Saving and giving everything back now.")
            engine.stop(at_once=True)
    _say(_progress(home))


def _progress(home: Home) -> str:
    """How things stand, in a line."""
    from gpuscale_tui.store import queries
    from gpuscale_tui.store.database import Database

    try:
        with Database(home.database, readonly=True) as store:
            status = store.read(queries.status, 0, 0)
    except GpuscaleError as error:
        return str(error)
    machines = sum(status.workers.get(state, 0) for state in LIVE)
    if not machines:
        return "Everything is given back: $0.00/h."
    running, spend = status.jobs.get("running", 0), status.spend.used + status.spend.reserved
    return f"{plural(running, 'job')} running, {plural(machines, 'machine')} rented, {rate(spend)}"


def _say(line: str) -> None:
    """Print, unless the terminal is gone."""
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)
