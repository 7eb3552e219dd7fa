"""No byte from outside reaches a terminal raw: the real program on a pseudo terminal, its every byte looked at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gpuscale_tui.engine.lock import EngineLock
from gpuscale_tui.store.home import Home
from tests.hostile.conftest import JOB, WAITING
from tests.hostile.corpus import CLIPBOARD, CORPUS, TITLE, misfits, sequences
from tests.pseudo import PATIENCE_SEC, Pty

VERBS = (
    ["queue", "--all"],
    ["show", f"j{JOB}"],
    ["why", f"j{WAITING}"],
    ["logs", f"j{JOB}"],
    ["workers"],
    ["costs", "--by", "user"],
    ["checkpoints"],
    ["market"],
    ["status"],
    ["hosts"],
    ["audit"],
)
SHOWS_NOTHING_FOREIGN = {"checkpoints"}
SEEN = b"EVIL[/]"
WAY = (
    (b"2", b"DOES"), (b"\r", b"newest first"), (b"3", b"never became ready"), (b"1", b"PRI"), (b"\r", b"epoch"),
    (b"l", b"follow"), (b"5", b"snapshots"), (b"6", b"offers would be rented"), (b"\r", b"the machine"),
    (b"7", b"j14.1 w3"), (b"8", b"MEANING"), (b"2", b"DOES"), (b"t", b"the machines did"), (b"\x10", b"as last read"),
)  # fmt: skip
"""Keys that lead through the screens, and what only the next one says: machines, one of them, costs, queue, a job's
story, its output, checkpoints, market, an offer, events, settings, the timeline, the palette. Questions
are looked at in the tests of the screen."""
ALLOWED_OF_VERBS = {b"\x1b[m"}


def test_the_checker_sees_what_it_is_for() -> None:
    """Each entry of the corpus, printed raw, would be noticed, but for what is only text."""
    text = {entry for entry in CORPUS if entry.isprintable() or entry in {"\t", "\r\n"} or entry.startswith("e\u0301")}
    for entry in set(CORPUS) - text:
        data = entry.encode("utf-8", "surrogatepass")
        assert misfits(data) or sequences(data) - {b"\x1b[m"}, repr(entry)
    assert sequences(TITLE.encode()) == {TITLE.encode()}
    assert sequences(CLIPBOARD.encode()) == {CLIPBOARD.encode()}
    assert sequences(b"\x1b[1m\x1b[38;2;5;8;9mx\x1b[0m") == {b"\x1b[m"}


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_raw_bytes_in_what_a_verb_prints(evil_home: Home, verb: list[str]) -> None:
    """Tables, stories, reasons, logs, the market: only text, and the colours of our own tables."""
    with EngineLock(evil_home), contextlib.closing(Pty(["--home", str(evil_home.path), *verb], columns=200)) as shown:
        assert shown.ended() == (1 if verb == ["audit"] else 0), shown.output
        while shown.read(0.2):
            pass
    assert sequences(shown.output) <= ALLOWED_OF_VERBS, sequences(shown.output)
    assert misfits(shown.output) == []
    assert (SEEN in shown.output) == (verb[0] not in SHOWS_NOTHING_FOREIGN)


@pytest.mark.parametrize("verb", ["show", "release"])
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_raw_bytes_in_what_a_shell_completes(evil_home: Home, verb: str, shell: str) -> None:
    """Ids, with names that the shell prints beside them."""
    words = {"COMP_WORDS": f"gpuscale {verb} ", "COMP_CWORD": "2", "_GPUSCALE_COMPLETE": f"{shell}_complete"}
    environ = {**os.environ, **words, "GPUSCALE_HOME": str(evil_home.path)}
    command = [sys.executable, "-m", "gpuscale_tui"]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=PATIENCE_SEC)
    assert b"1" in done.stdout
    assert (shell == "bash") == (SEEN not in done.stdout)
    assert misfits(done.stdout) == []
    assert sequences(done.stdout) == set()


@contextlib.contextmanager
def screen(home: Home) -> Iterator[Pty]:
    """The screen over a home whose engine is, as far as it can tell, another process."""
    with EngineLock(home):
        shown = Pty(["--home", str(home.path)], columns=200, lines=50, COLORTERM="truecolor")
        with contextlib.closing(shown):
            shown.wait_for(b"Queue")
            yield shown


def leave(shown: Pty) -> bytes:
    """Everything that was written until now."""
    os.kill(shown.pid, signal.SIGKILL)
    while shown.read(0.2):
        pass
    return shown.output[: shown.output.rindex(b"\x1b")]  # the last sequence may be cut


def walk(shown: Pty, steps: int = len(WAY)) -> None:
    """Screen after screen by its keys, each once the one before has something to show."""
    for keys, words in WAY[:steps]:
        before = len(shown.output)
        shown.send(keys)
        shown.wait_for(words, after=before)


def test_raw_bytes_on_the_screen(honest_home: Home, evil_home: Home) -> None:
    """What is written over a hostile home holds no sequence that is not written over an honest one."""
    with screen(honest_home) as shown:
        walk(shown, 2)
        honest = leave(shown)
    with screen(evil_home) as shown:
        shown.wait_for(SEEN)
        walk(shown)
        evil = leave(shown)
    assert evil.count(SEEN) > 20
    assert sequences(evil) <= sequences(honest), sequences(evil) - sequences(honest)
    assert misfits(evil) == []
