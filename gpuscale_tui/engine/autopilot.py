"""The engine without a screen: structured lines on stdout, signals, an exit code that means something."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import TextIO

from gpuscale_tui.engine.engine import Engine
from gpuscale_tui.engine.redaction import log_formatter
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store import events
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.home import Home

LOOK_SEC = 0.25
EVENTS_AT_ONCE = 500


def run_autopilot(
    home: Home,
    settings: Settings,
    *,
    exit_when_idle: bool,
    environ: Mapping[str, str],
    out: TextIO | None = None,
    read_again: Callable[[], Settings] | None = None,
) -> int:
    """Run until stopped, or until idle; prints every event as one JSON line. `read_again` is the engine's.

    The first SIGINT lets what runs finish, a second one or SIGTERM saves and gives everything back at once. Returns 0
    after an orderly end, 1 after a failure or with machines not confirmed released. Raises EngineRunning and settings'
    errors.
    """
    home.ensure()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_formatter(home, settings, "%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with Database(home.database) as db:
        last = db.read(events.latest_id)
        with Engine(
            home, settings, mode="autopilot", environ=environ, exit_when_idle=exit_when_idle, read_again=read_again
        ) as engine:
            _listen(engine)
            while True:
                ended = engine.wait(LOOK_SEC)
                last = _print_events(db, last, out or sys.stdout)
                if ended:
                    return _exit_code(engine, out or sys.stdout)


def _listen(engine: Engine) -> None:
    """`signal.signal`, not the loop's: it works whatever the loop is doing."""
    asked = 0

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        engine.stop(at_once=asked > 1)

    def terminated(_number: int, _frame: FrameType | None) -> None:
        engine.stop(at_once=True)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _print_events(db: Database, last: int, out: TextIO) -> int:
    found = db.read(events.after, last, EVENTS_AT_ONCE)
    for event in found:
        print(json.dumps(_line(event), ensure_ascii=True), file=out)
    if found:
        out.flush()
    return found[-1].id if found else last


def _line(event: Event) -> dict[str, object]:
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(event.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": event.kind,
    }
    if event.job_id is not None:
        line["job"] = job_label(event.job_id)
    if event.attempt is not None:
        line["attempt"] = event.attempt
    if event.worker_id is not None:
        line["worker"] = worker_label(event.worker_id)
    named = {"from": event.from_state, "to": event.to_state, "cause": event.cause, "detail": event.detail}
    line.update({key: value for key, value in named.items() if value})
    return line


def _exit_code(engine: Engine, out: TextIO) -> int:
    end = {"time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    if engine.failure is not None:
        reason = str(engine.failure) if isinstance(engine.failure, GpuscaleError) else repr(engine.failure)
        print(json.dumps({**end, "kind": "end", "failed": reason}), file=out, flush=True)
        return 1
    print(json.dumps({**end, "kind": "end", "detail": engine.outcome}), file=out, flush=True)
    return 1 if engine.outcome.startswith("not confirmed") else 0
