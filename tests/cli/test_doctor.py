"""`doctor`: what is not in order is found, with what to do about it."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import doctor
from gpuscale_tui.engine.doctor import Check
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.store import engines, logs
from gpuscale_tui.store.engines import Limits
from tests.cli.conftest import Cli
from tests.marketplace import running_sandbox
from tests.sshd import running_sshd, sshd_missing
from tests.store.support import DOLLAR, Bench

NOW = int(time.time() * 1000)


def examine(cli: Cli, **environ: str) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(cli.home, cli.config, environ, NOW)}


def test_a_fresh_machine(cli: Cli) -> None:
    """Nothing to mend; the home is made, and the public key is there to be put on hosts."""
    cli.config.write_text("")
    result = cli("doctor")
    assert result.exit_code == 0, result.output
    assert "ssh-ed25519 AAAA" in result.stdout
    assert "none is set up: jobs would wait for ever" in result.stdout
    assert cli.home.path.stat().st_mode & 0o777 == 0o700


def test_json(cli: Cli) -> None:
    """One row a finding."""
    cli.config.write_text("")
    rows = json.loads(cli("doctor", "--json").stdout)
    assert {"python", "sqlite", "home", "database", "clock", "disk", "terminal", "settings", "ssh key"} <= {
        row["name"] for row in rows
    }
    assert all(row.keys() == {"name", "state", "found", "advice"} for row in rows)
    assert all(row["advice"] for row in rows if row["state"] != "ok")


def test_wrong_settings_are_listed_and_the_rest_is_looked_at(cli: Cli) -> None:
    """Exit code 1."""
    cli.config.write_text("[scaler]\nmax_workres = 1\nmin_workers = -1\n")
    result = cli("doctor")
    assert result.exit_code == 1
    assert result.stdout.count("fail  settings") == 2
    assert "2 things to mend" in result.stdout
    assert "disk" in result.stdout


def test_a_damaged_database(cli: Cli, bench: Bench) -> None:
    """Found by SQLite's own check, also where the file still opens."""
    bench.submit(500)
    bench.db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    bench.db.close()
    data = bytearray(cli.home.database.read_bytes())
    data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
    cli.home.database.write_bytes(data)
    found = examine(cli)["database"]
    assert found.state == "fail"
    assert "backup" in found.advice


def test_intact_databases(cli: Cli, bench: Bench) -> None:
    """Both files."""
    bench.submit()
    logs.connect_logs(cli.home.logs).close()
    found = examine(cli)
    assert (found["database"].state, found["logs"].state) == ("ok", "ok")
    assert "intact" in found["logs"].found


def test_files_that_others_can_read(cli: Cli, bench: Bench) -> None:
    """Named with their modes."""
    cli.home.database.chmod(0o644)
    found = examine(cli)["home"]
    assert (found.state, "0644" in found.found) == ("warn", True)
    assert "chmod" in found.advice


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(cli: Cli) -> None:
    """With the way out."""
    cli.home.path.mkdir(mode=0o500)
    assert examine(cli)["home"].state == "fail"


def test_a_home_below_a_file(cli: Cli) -> None:
    """Cannot be made."""
    cli.home.path.write_text("a file")
    found = examine(cli)
    assert found["home"].state == "fail"
    assert "--home" in found["home"].advice


def test_a_clock_that_is_wrong(cli: Cli, bench: Bench) -> None:
    """Before this program was written, or before what is recorded."""
    assert doctor.check_clock(cli.home, 1_000_000_000_000).state == "fail"
    bench.now = NOW + 3_600_000
    bench.submit()
    assert doctor.check_clock(cli.home, NOW).state == "warn"
    bench.now = NOW - 1000
    bench.submit()
    assert doctor.check_clock(cli.home, NOW).state == "ok"


def test_a_full_disk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is a warning, none a failure."""
    for free, state in ((10**8, "fail"), (10**9, "warn"), (10**11, "ok")):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path, usage=usage: usage)
        assert doctor.check_disk(cli.home).state == state


def terminal(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], encoding: str, **environ: str) -> Check:
    class Tty:
        def __init__(self) -> None:
            self.encoding = encoding

        def isatty(self) -> bool:
            return True

    with monkeypatch.context() as patched:
        patched.setattr(doctor.sys, "stdin", Tty())
        patched.setattr(doctor.sys, "stdout", Tty())
        patched.setattr(doctor.shutil, "get_terminal_size", lambda: os.terminal_size(size))
        return doctor.check_terminal(environ)


def test_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM, encoding, size and colours."""
    good = terminal(monkeypatch, (120, 40), "utf-8", TERM="xterm-256color", COLORTERM="truecolor")
    assert (good.state, "true colour" in good.found) == ("ok", True)
    assert terminal(monkeypatch, (120, 40), "utf-8", TERM="dumb").state == "warn"
    assert terminal(monkeypatch, (120, 40), "utf-8").state == "warn"
    assert "ASCII" in terminal(monkeypatch, (120, 40), "ascii", TERM="xterm").advice
    assert "80x24" in terminal(monkeypatch, (79, 24), "utf-8", TERM="xterm").advice
    assert "no colour" in terminal(monkeypatch, (80, 24), "UTF-8", TERM="xterm", NO_COLOR="1").found


def test_an_engine_that_hangs(cli: Cli, bench: Bench) -> None:
    """It holds the lock and writes nothing."""
    assert doctor.check_engine(cli.home, NOW).found == "none runs now"
    bench.write(engines.begin_epoch, 4242, "autopilot", Limits(DOLLAR, 1), NOW - 600_000)
    with cli.engine():
        assert doctor.check_engine(cli.home, NOW).state == "warn"
        bench.write(engines.heartbeat, NOW, "")
        assert doctor.check_engine(cli.home, NOW).state == "ok"


def settings_for(url: str, key_file: Path) -> str:
    account = f'enabled = true\nbase_url = "{url}"\napi_key_file = "{key_file}"\n'
    return f"[providers.clore]\n{account}request_interval_sec = 0\n"


def test_the_key_of_the_marketplace(cli: Cli, tmp_path: Path) -> None:
    """Taken, refused, unreadable, missing: each with what to do; the key itself is never shown."""
    key = tmp_path / "key"
    key.touch(mode=0o600)
    with running_sandbox() as sandbox:
        cli.config.write_text(settings_for(sandbox.url, key))
        key.write_text(sandbox.api_key)
        assert examine(cli)["clore"].state == "ok"
        assert "$100.00 in USD-Blockchain" in examine(cli)["clore"].found
        sandbox.switch("balance", usd=0.2)
        assert (examine(cli)["clore"].state, "fill" in examine(cli)["clore"].advice) == ("warn", True)
        key.write_text("wrong-key-1234")
        refused = examine(cli)["clore"]
        key.chmod(0o644)
        open_to_all = examine(cli)["clore"]
    assert (refused.state, "key" in refused.advice) == ("fail", True)
    assert "wrong-key-1234" not in refused.found
    assert (open_to_all.state, "chmod 600" in open_to_all.found) == ("fail", True)
    key.chmod(0o600)
    key.write_text("anything")
    assert examine(cli)["clore"].state == "fail"


def hosts(*rows: dict[str, Any]) -> str:
    return "".join(
        "[[providers.ssh.hosts]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in row.items())
        for row in rows
    )


@pytest.mark.openssh
@pytest.mark.skipif(sshd_missing() is not None, reason=str(sshd_missing()))
def test_hosts_of_the_users_own(cli: Cli, tmp_path: Path) -> None:
    """One that lets us in, one that refuses our key, one where nothing listens: all at once, each by its name."""
    cli.home.ensure()
    other = ensure_client_key(tmp_path / "other" / "key")
    with socket.socket() as closed, running_sshd(tmp_path, clients_public_key=other) as server:
        closed.bind(("127.0.0.1", 0))
        common = {"host": server.host, "user": server.user}
        cli.config.write_text(
            hosts(
                {"name": "good", "port": server.port, "key_file": str(tmp_path / "other" / "key"), **common},
                {"name": "refuses", "port": server.port, **common},
                {"name": "silent", "port": closed.getsockname()[1], **common},
            )
        )
        found = examine(cli)
    assert found["host good"].state == "ok"
    assert (found["host refuses"].state, "authorized_keys" in found["host refuses"].advice) == ("fail", True)
    assert (found["host silent"].state, "sshd" in found["host silent"].advice) == ("fail", True)
