"""A home in which every text that anybody else may fill is hostile."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from gpuscale_tui.model.hosts import OutcomeKind
from gpuscale_tui.store import hosts, logs, notices, workers
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home
from tests.hostile.corpus import OUTPUT, poison

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_773_500_000_000
JOB = 11
WAITING = 7
"""A running job of that home, with output, and one that waits."""


@pytest.fixture(scope="session")
def honest_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home that the pictures of the screens are taken of."""
    spec = importlib.util.spec_from_file_location("busy_home_for_hostile", ROOT / "scripts" / "busy_home.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    home: Home = module.make(tmp_path_factory.mktemp("honest") / "home")
    return home


def _more(connection: sqlite3.Connection) -> None:
    """What that home has none of: hosts with a history, a ban, an address that takes no notices."""
    for worker in workers.live(connection):
        hosts.note(connection, worker, OutcomeKind.LOST, "detail", now=NOW)
    connection.execute("INSERT INTO bans VALUES ('host', 'clore', '1', ?, NULL, 'reason', 'ada')", (NOW,))
    notices.register(connection, "digest", "label")
    notices.failed(connection, "digest", "error", NOW, 0)


@pytest.fixture(scope="session")
def evil_home(honest_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same, poisoned."""
    home = Home(tmp_path_factory.mktemp("evil") / "home")
    shutil.copytree(honest_home.path, home.path)
    with Database(home.database) as store:
        store.write(_more)
        poison(store.connection)
    with contextlib.closing(logs.connect_logs(home.logs)) as connection:
        logs.append(connection, JOB, 1, logs.size(connection, JOB, 1), OUTPUT)
    return home
