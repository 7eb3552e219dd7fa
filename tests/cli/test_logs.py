"""`logs`: every byte to a pipe, nothing harmful to a terminal, and following to the end."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.store import logs
from tests.cli.conftest import PATIENCE_SEC, Cli
from tests.store.support import Bench


def append(cli: Cli, job_id: int, attempt: int, data: bytes) -> None:
    with contextlib.closing(logs.connect_logs(cli.home.logs)) as connection:
        logs.append(connection, job_id, attempt, logs.size(connection, job_id, attempt), data)


def until(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SEC
    while not probe():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def collect(descriptor: int, parts: list[bytes]) -> None:
    while part := os.read(descriptor, 4096):
        parts.append(part)


def test_every_byte_goes_to_a_pipe_and_to_a_file(cli: Cli, bench: Bench, tmp_path: Path) -> None:
    """Whatever they are, over many chunks."""
    attempt = bench.placed()
    data = random.Random(1).randbytes(300_001) + b"\x1b[31m\xff\r\n\x00 no line end"
    append(cli, attempt.job_id, 1, data)
    code, out, err = cli.run("logs", "j1")
    assert (code, out, err) == (0, data, b"")
    with (tmp_path / "out").open("wb") as file:
        assert cli.run("logs", "j1", stdout=file)[0] == 0
    assert (tmp_path / "out").read_bytes() == data


def test_a_terminal_gets_clean_text(cli: Cli, bench: Bench) -> None:
    """No escape sequence arrives, also none that is cut by a chunk; lines stay lines."""
    bench.placed()
    append(
        cli,
        1,
        1,
        b"a\x1b[31mred\x1b[0m\r\nbar 10%\rbar 90%\n\x1b]52;c;cm0gLXJm\x07pasted\n" + b"x" * 65_530 + b"\x1b[2Jy\nend",
    )
    ours, theirs = pty.openpty()
    with cli.start("logs", "j1", stdout=theirs) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # the terminal's other side has closed
            while part := os.read(ours, 65_536):
                text += part
        assert process.wait(PATIENCE_SEC) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(ours)
    lines = text.decode().replace("\r\n", "\n").split("\n")
    assert lines == ["ared", "bar 10%", "bar 90%", "pasted", "x" * 65_530 + "y", "end", ""]


def test_one_attempt_or_the_newest(cli: Cli, bench: Bench) -> None:
    """Attempts are kept apart."""
    first = bench.placed()
    bench.end(first, Cause.HOST_FAULT, JobState.PENDING)
    bench.place(1, bench.idle().id)
    append(cli, 1, 1, b"one\n")
    append(cli, 1, 2, b"two\n")
    assert cli("logs", "j1").stdout == "two\n"
    assert cli("logs", "j1", "--attempt", "1").stdout == "one\n"
    result = cli("logs", "j1", "--attempt", "3")
    assert result.exit_code == 1
    assert "j1 has had 2 attempts" in result.stderr


def test_a_job_that_has_not_run(cli: Cli, bench: Bench) -> None:
    """Nothing, and where to ask why."""
    bench.submit()
    result = cli("logs", "j1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "j1 has not run yet; `gpuscale why j1` says why" in result.stderr


def test_following_from_before_the_start_to_the_end(cli: Cli, bench: Bench) -> None:
    """Over a lost machine to the second attempt; exact bytes; it ends when the job has."""
    bench.submit()
    with cli.engine(), cli.start("logs", "j1", "-f") as process:
        got: list[bytes] = []
        assert process.stdout is not None
        reader = threading.Thread(target=collect, args=(process.stdout.fileno(), got))
        reader.start()
        first = bench.place(1, bench.idle().id)
        append(cli, 1, 1, b"one ")
        until(lambda: b"".join(got) == b"one ")
        bench.end(first, Cause.HOST_FAULT, JobState.PENDING)
        append(cli, 1, 1, b"late\n")
        second = bench.place(1, bench.idle().id)
        bench.advance(second, AttemptState.STAGING, AttemptState.RUNNING)
        append(cli, 1, 2, b"two\xff\n")
        until(lambda: b"".join(got).endswith(b"two\xff\n"))
        assert process.poll() is None
        append(cli, 1, 2, b"three")
        bench.end(second, Cause.FINISHED, JobState.DONE, exit_code=0)
        assert process.wait(PATIENCE_SEC) == 0
        reader.join(PATIENCE_SEC)
        assert process.stderr is not None
        told = process.stderr.read().decode()
    assert b"".join(got) == b"one late\ntwo\xff\nthree"
    assert "--- j1: attempt 2 on w2 ---" in told


def test_following_a_finished_job_ends_at_once(cli: Cli, bench: Bench) -> None:
    """All of its output, then the end."""
    job_id = bench.job_in(JobState.DONE)
    append(cli, job_id, 1, b"all\n")
    assert cli("logs", f"j{job_id}", "-f").stdout == "all\n"


def test_following_without_an_engine_says_so(cli: Cli, bench: Bench) -> None:
    """Nobody brings new output then."""
    bench.placed()
    with cli.start("logs", "j1", "-f") as process:
        assert process.stderr is not None
        assert b"no engine runs" in process.stderr.readline()
        process.terminate()


def test_a_reader_that_goes_away(cli: Cli, bench: Bench) -> None:
    """No traceback; the exit code that a shell has for it."""
    bench.placed()
    append(cli, 1, 1, b"line\n" * 400_000)
    with cli.start("logs", "j1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_SEC) == 141
