"""`demo`: its parts, and that nothing is left of it however it ends. (The whole of it: tests/e2e.)"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuscale_tui.cli.demo import FOREIGN, Plain, _away_from_real_life, _end_background_engine, background_engine
from gpuscale_tui.cli.pretend import Marketplace
from gpuscale_tui.engine.background import start_background
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store import engines
from gpuscale_tui.store.database import Database
from tests.cli.conftest import PATIENCE_SEC, Cli


def until(probe: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SEC
    while not probe():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def mentioning(text: str) -> list[int]:
    """Processes whose command line, directory or environment names this text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes() + os.fsencode((entry / "cwd").readlink()):
                    found.append(int(entry.name))
    return found


def test_the_marketplace_ends_with_its_block(tmp_path: Path) -> None:
    """Its bill can be asked for; its directory and processes go."""
    base = tmp_path / "market"
    with Marketplace(base) as market:
        assert market.url.startswith("http://127.0.0.1:")
        assert market.api_key
        bill = market.bill()
        assert (bill["live"], bill["total_micro"]) == (0, 0)
        assert mentioning(str(base))
    assert not base.exists()
    until(lambda: not mentioning(str(base)))


def test_a_marketplace_that_cannot_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An error with words, no process left."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GpuscaleError, match="ended while it started"), Marketplace(tmp_path):
        pass
    assert "not empty" in capfd.readouterr().err


def test_nothing_of_the_users_real_life_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the real key nor the real home; afterwards all is as it was."""
    for name in FOREIGN:
        monkeypatch.setenv(name, "real")
    with _away_from_real_life():
        assert not set(FOREIGN) & os.environ.keys()
    assert all(os.environ[name] == "real" for name in FOREIGN)


def test_the_autopilots_lines_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """However they are cut."""
    plain = Plain()
    parts = (
        '{"time": "2026-01-31T12:00:05.000Z", "kind": "job", "job": "j1", ',
        '"from": "pending", "to": "run',
        'ning", "worker": "w2"}',
        "\n",
        '{"time": "2026-01-31T12:00:06.000Z", "kind": "engine", "detail": "x\\u001b[2J"}\n',
    )
    for part in parts:
        plain.write(part)
    assert capsys.readouterr().out == "12:00:05 j1 w2 pending -> running\n12:00:06 x\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_when_it_is_killed(cli: Cli, tmp_path: Path, number: signal.Signals) -> None:
    """Neither processes nor directories nor orders, whatever kills it."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    with cli.start("demo", "--autopilot", env={"TMPDIR": str(scratch)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while line := process.stdout.readline():
            if b"ordering -> booting" in line:
                break
        assert line
        assert mentioning(str(scratch))
        process.send_signal(number)
        process.stdout.read()
        process.wait(PATIENCE_SEC)
    until(lambda: not list(scratch.iterdir()))
    until(lambda: not mentioning(str(scratch)))


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # it is meant to outlive whoever started it
def test_an_engine_in_the_background_ends_with_the_demonstration(cli: Cli) -> None:
    """Asked in good order, also when it has only just been started."""
    cli.config.write_text("[scaler]\npoll_interval_sec = 0.2\n")
    pid = start_background(cli.home, config=cli.config, exit_when_idle=False)
    until(lambda: background_engine(cli.home) == pid)
    _end_background_engine(cli.home)
    assert background_engine(cli.home) is None
    with Database(cli.home.database, readonly=True) as store:
        row = store.read(engines.engine)
    assert row is not None
    assert (row.pid, row.stopped_at is None) == (pid, False)


def test_another_homes_engine_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    """Only ours is ended."""
    words = ["-c", "import time; time.sleep(60)", "--autopilot", "--home", str(tmp_path / "another")]
    with subprocess.Popen([sys.executable, *words]) as process:
        assert background_engine(cli.home) is None
        process.kill()
