"""The root command: where it refuses, what help says, what it costs to start, and how errors end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gpuscale_tui import __version__
from gpuscale_tui.cli.errors import database_message, guarded
from gpuscale_tui.cli.root import VERBS, root
from gpuscale_tui.model.states import JobState
from gpuscale_tui.store import engines
from gpuscale_tui.store.engines import Limits
from tests.cli.conftest import PATIENCE_SEC, Cli
from tests.store.support import DOLLAR, Bench

HEAVY = ("textual", "httpx", "asyncssh", "aiosqlite", "rich", "asyncio", "h11", "msgspec")
PLAIN_VERBS = (["--version"], ["queue"], ["status"], ["show", "j1"], ["workers"], ["why", "j1"], ["costs"], ["market"])


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(root)
    found = []
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        found.append((name, command))
        parts = command.list_commands(context) if isinstance(command, click.Group) else []
        for part in parts:
            inner = command.get_command(context, part) if isinstance(command, click.Group) else None
            assert inner is not None
            found.append((f"{name} {part}", inner))
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_verb_has_help_with_an_example(cli: Cli, name: str, command: click.Command) -> None:
    """By -h and --help, without a home, settings or a store; the first sentence fits the list of verbs."""
    result = cli(*name.split(), "-h")
    assert result.exit_code == 0
    assert cli(*name.split(), "--help").stdout == result.stdout
    assert re.search(r"Example:\n  +(eval \"\$\()?gpuscale ", result.stdout)
    assert command.help
    first = command.help.split(".")[0]
    assert len(first) <= 62, first
    assert not cli.home.path.exists()


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_verb_that_uses_the_store_takes_a_home(name: str, command: click.Command) -> None:
    """And those that print tables take --json (DESIGN section 11)."""
    options = {option for parameter in command.params for option in parameter.opts}
    if isinstance(command, click.Group) or name.split(maxsplit=1)[0] in {"config", "completion", "demo", "template"}:
        return
    assert "--home" in options
    tables = {
        "queue", "show", "submit", "workers", "audit", "reap", "costs", "checkpoints list", "market", "status",
        "doctor", "get", "notify test",
    }  # fmt: skip
    assert ("--json" in options) == (name in tables)


def test_help_lists_every_verb(cli: Cli) -> None:
    """In words that are not cut off."""
    text = cli("-h").stdout
    for name in VERBS:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
    assert "..." not in text.split("Commands:")[1]


def test_version(cli: Cli) -> None:
    """By itself, and by `python -m`."""
    assert cli("--version").stdout == f"gpuscale {__version__}\n"
    assert cli.run("--version")[1] == f"gpuscale {__version__}\n".encode()


def test_an_unknown_verb(cli: Cli) -> None:
    """Exit code 2 and the nearest right name."""
    result = cli("quee")
    assert result.exit_code == 2
    assert "there is no verb 'quee'; did you mean 'queue'?" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["demo"]])
def test_the_screen_needs_a_terminal(cli: Cli, arguments: list[str]) -> None:
    """Else it would spin for ever: exit code 2 and a hint to the verbs."""
    code, out, err = cli.run(*arguments)
    assert (code, out) == (2, b"")
    assert b"the screen needs a terminal" in err
    assert b"gpuscale queue" in err


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_the_screen_needs_both_sides_of_a_terminal(cli: Cli, closed: str) -> None:
    """One is not enough."""
    ours, theirs = pty.openpty()
    sides = {"stdin": theirs, "stdout": theirs, closed: subprocess.DEVNULL}
    assert cli.run(env={"TERM": "xterm"}, **sides)[0] == 2
    os.close(ours)
    os.close(theirs)


def test_the_screen_needs_a_terminal_that_can_place_text(cli: Cli) -> None:
    """TERM=dumb cannot."""
    ours, theirs = pty.openpty()
    code, _, err = cli.run(stdin=theirs, stdout=theirs, env={"TERM": "dumb"})
    os.close(ours)
    os.close(theirs)
    assert code == 2
    assert b"TERM is 'dumb'" in err


@pytest.mark.parametrize(
    "arguments",
    [["--exit-when-idle"], ["--autopilot", "queue"], ["--readonly", "--autopilot"], ["--readonly", "queue"]],
)
def test_options_that_do_not_go_together(cli: Cli, arguments: list[str]) -> None:
    """Wrong usage."""
    assert cli(*arguments).exit_code == 2


def test_the_autopilot_refuses_wrong_settings(cli: Cli) -> None:
    """Before it takes the home."""
    cli.config.write_text("nonsense = 1\n")
    assert cli.run("--autopilot")[0] == 2
    assert not cli.home.path.exists()


def test_one_engine_a_home(cli: Cli) -> None:
    """The second one is told of the first."""
    with cli.engine():
        code, _, err = cli.run("--autopilot")
    assert code == 1
    assert b"an engine already runs" in err


def test_the_autopilot_ends_when_idle(cli: Cli) -> None:
    """With nothing to do, at once; its lines are JSON."""
    cli.config.write_text("[scaler]\npoll_interval_sec = 0.2\n")
    code, out, _ = cli.run("--autopilot", "--exit-when-idle")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["kind"] == "end"


def test_options_before_the_verb_count_too(cli: Cli, tmp_path: Path) -> None:
    """`gpuscale --home X queue` is `gpuscale queue --home X`; the nearer one wins."""
    cli.ids("--", "run")
    other, home = str(tmp_path / "other"), str(cli.home.path)
    assert len(cli.json("--home", home, "queue", GPUSCALE_HOME=other)) == 1
    assert len(cli.json("--home", other, "queue", "--home", home)) == 1
    assert cli("--config", "/no/such.toml", "submit", "--", "x").exit_code == 2


@pytest.mark.parametrize("verb", PLAIN_VERBS, ids=lambda verb: verb[0])
def test_plain_verbs_load_nothing_heavy(cli: Cli, bench: Bench, verb: list[str]) -> None:
    """They answer at once: no screen, no network, no event loop."""
    bench.submit()
    bench.write(engines.begin_epoch, 4242, "autopilot", Limits(DOLLAR, 3), bench.now)
    script = (
        "import sys, atexit\n"
        "from gpuscale_tui.cli import run\n"
        f"atexit.register(lambda: print('\\n', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))\n"
        "run()"
    )
    with cli.engine():
        process = subprocess.run(
            [sys.executable, "-c", script, *verb],
            env={**os.environ, **cli.environ},
            capture_output=True,
            timeout=PATIENCE_SEC,
        )
    assert process.returncode == 0
    assert process.stderr.splitlines()[-1] == b" []"


def test_a_verb_that_asks_loads_no_event_loop(cli: Cli) -> None:
    """Ringing the doorbell needs none."""
    script = (
        "import sys, atexit\n"
        "from gpuscale_tui.cli import run\n"
        "atexit.register(lambda: print([n for n in ('asyncio', 'asyncssh', 'textual') if n in sys.modules]))\n"
        "run()"
    )
    arguments = [sys.executable, "-c", script, "submit", "--", "x"]
    process = subprocess.run(arguments, env={**os.environ, **cli.environ}, capture_output=True, timeout=PATIENCE_SEC)
    assert process.stdout == b"j1\n[]\n"


def test_a_full_disk_on_the_way_out(cli: Cli, bench: Bench) -> None:
    """Told, not swallowed."""
    bench.submit(1000)
    with Path("/dev/full").open("wb") as full:
        code, _, err = cli.run("queue", stdout=full)
    assert code == 1
    assert b"the disk is full" in err


def test_a_reader_that_goes_away(cli: Cli, bench: Bench) -> None:
    """`gpuscale queue | head -1` is no error to read about."""
    bench.submit(3000)
    with cli.start("queue") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_SEC) == 141


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", b"no intact gpuscale database"), (b"x" * 5000, b"no intact gpuscale database")]
)
@pytest.mark.parametrize("verb", [["queue"], ["submit", "--", "x"], ["status"]], ids=lambda verb: verb[0])
def test_a_damaged_database_is_refused_and_left_alone(
    cli: Cli, content: bytes, expected: bytes, verb: list[str]
) -> None:
    """With the way out."""
    cli.home.ensure()
    cli.home.database.write_bytes(content)
    code, out, err = cli.run(*verb)
    assert (code, out) == (1, b"")
    assert expected in err
    assert b"Traceback" not in err
    assert cli.home.database.read_bytes() == content


def test_a_newer_database_is_refused(cli: Cli, bench: Bench) -> None:
    """Upgrade, or use another home."""
    bench.db.connection.execute("PRAGMA user_version = 999")
    result = cli("submit", "--", "x")
    assert result.exit_code == 1
    assert "newer gpuscale" in result.stderr


def test_a_home_that_cannot_be_made(cli: Cli) -> None:
    """The path and the reason."""
    result = cli("submit", "--home", "/proc/nowhere", "--", "x")
    assert result.exit_code == 1
    assert "/proc" in result.stderr


def test_what_errors_of_the_database_mean() -> None:
    """A full disk changes nothing and says so."""
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert "the disk is full: nothing was changed" in database_message(full)
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert "another program holds the database" in database_message(busy)
    assert "doctor" in database_message(sqlite3.DatabaseError("malformed"))


def test_a_full_disk_stores_nothing(cli: Cli, bench: Bench) -> None:
    """What was there stays, the new job is refused with a clear message."""
    bench.submit()
    pages = bench.db.connection.execute("PRAGMA page_count").fetchone()[0]

    def fill() -> None:
        connection = sqlite3.connect(cli.home.database)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        try:
            connection.execute("CREATE TABLE filler (x)")
            for _ in range(1000):
                connection.execute("INSERT INTO filler VALUES (zeroblob(100000))")
        finally:
            connection.rollback()
            connection.close()

    assert guarded(fill) == 1
    assert [row["status"] for row in cli.json("queue")] == [JobState.PENDING]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    """They call us back by our name."""
    result = cli("completion", shell)
    assert result.exit_code == 0
    assert "_GPUSCALE_COMPLETE" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("gpuscale st", ["status", "stop"]), ("gpuscale show j", ["j2", "j1"]), ("gpuscale scale u", ["up"]),
     ("gpuscale queue --sta", ["--state"]), ("gpuscale release w", ["w1"])],
)  # fmt: skip
def test_completion_of_verbs_options_and_ids(cli: Cli, bench: Bench, words: str, expected: list[str]) -> None:
    """From the store, newest first."""
    bench.submit(2)
    bench.idle()
    environ = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_GPUSCALE_COMPLETE": "bash_complete"}
    code, out, err = cli.run(env=environ)
    assert (code, err) == (0, b"")
    assert out.decode().split() == [f"plain,{each}" for each in expected]


def test_no_colour_where_it_is_not_wanted(cli: Cli, bench: Bench) -> None:
    """A table on a terminal obeys NO_COLOR; it is a table of aligned columns all the same."""
    bench.submit(2, name="[red]x[/red]")
    ours, theirs = pty.openpty()
    code, _, _ = cli.run("queue", stdout=theirs, env={"NO_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "160"})
    os.close(theirs)
    text = ""
    with contextlib.suppress(OSError):  # the terminal's other side has closed, and all of it was read
        while part := os.read(ours, 65_536):
            text += part.decode()
    os.close(ours)
    assert code == 0
    assert "[red]x[/red]" in text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text)
    assert "\t" not in text
