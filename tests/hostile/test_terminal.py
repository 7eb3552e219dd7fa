"""No byte from outside reaches a terminal raw: the real program on a pseudo terminal, its every byte looked at."""

from __future__ import annotations

import contextlib
import time
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
)
SHOWS_NOTHING_FOREIGN = {"checkpoints"}
WAY = (b"2", b"\r", b"\x1b", b"3", b"1", b"w", b"\x1b", b"x", b"\x1b", b"\r", b"l", b"5", b"6", b"7", b"\x10ev")
"""Keys that lead through the screens: machines, one of them, costs, queue, why, a question, a job's story, its output,
checkpoints, market, events, the palette."""
SEEN = b"EVIL[/]"
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
        assert shown.ended() == 0, shown.output
        while shown.read(0.2):
            pass
    assert sequences(shown.output) <= ALLOWED_OF_VERBS, sequences(shown.output)
    assert misfits(shown.output) == []
    assert (SEEN in shown.output) == (verb[0] not in SHOWS_NOTHING_FOREIGN)


@contextlib.contextmanager
def screen(home: Home) -> Iterator[Pty]:
    """The screen over a home whose engine is, as far as it can tell, another process."""
    with EngineLock(home):
        shown = Pty(["--home", str(home.path)], columns=200, lines=50, COLORTERM="truecolor")
        with contextlib.closing(shown):
            shown.wait_for(b"Queue")
            yield shown


def leave(shown: Pty) -> bytes:
    """Quit; everything that was written."""
    shown.send(b"\x1b")
    shown.quiet_for(0.15)
    shown.send(b"q")
    assert shown.ended() == 0
    return shown.output


def walk(shown: Pty) -> None:
    """Every screen by its keys."""
    deadline = time.monotonic() + PATIENCE_SEC
    for keys in WAY:
        before = len(shown.output)
        shown.send(keys)
        while len(shown.output) == before:
            assert time.monotonic() < deadline, keys
            shown.read(0.2)
        shown.quiet_for(0.1)


def test_raw_bytes_on_the_screen(honest_home: Home, evil_home: Home) -> None:
    """What is written over a hostile home holds no sequence that is not written over an honest one."""
    with screen(honest_home) as shown:
        honest = leave(shown)
    with screen(evil_home) as shown:
        shown.wait_for(SEEN)
        walk(shown)
        evil = leave(shown)
    assert evil.count(SEEN) > 20
    assert sequences(evil) <= sequences(honest), sequences(evil) - sequences(honest)
    assert misfits(evil) == []
