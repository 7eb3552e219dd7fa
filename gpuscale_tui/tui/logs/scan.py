"""One slice of going through a log: lines that match, errors, warnings, epochs. Runs in any process, on any thread.

What a user's regular expression costs has no bound that could be known beforehand, and Python cannot end it: only the
helper process (`helper`) runs one. What this module looks for by itself is linear in the text.
"""

from __future__ import annotations

import re
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable

import msgspec

from gpuscale_tui.policy.output import classify
from gpuscale_tui.store.log_scan import Scan
from gpuscale_tui.tui.logs.lines import shown

WORDS = (
    b"err", b"exception", b"interrupt", b"exit", b"traceback", b"fatal", b"critical", b"panic", b"warn", b"memory",
    b"segmentation", b"core dumped", b"killed", b"abort", b"no space", b"denied", b"not found", b"no such", b"assert",
    b"deprecated",
)  # fmt: skip
"""A line without any of these (any case) is neither an error nor a warning: it is not looked at more closely."""
_EPOCH = re.compile(rb"(?i)\bepoch\b[ :=#\[]{0,4}(\d{1,9})")
PLAIN = re.compile(rb"[\n -~]*")
"""Chunks of this kind need no cleaning."""


class Slice(msgspec.Struct, frozen=True, tag=True):
    """Go through lines of an attempt for at most `budget_ms`: forwards from `line`, or backwards to before it.

    `chunk` is where the slice before this one ended, -1 for the first. `pattern` empty: errors, warnings and epochs.
    """

    job_id: int
    attempt: int
    forward: bool
    line: int
    chunk: int = -1
    pattern: str = ""
    flags: int = 0
    budget_ms: int = 40


class Texts(msgspec.Struct, frozen=True, tag=True):
    """Say where a pattern matches in some texts."""

    pattern: str
    flags: int
    texts: list[str]


class Found(msgspec.Struct, frozen=True, tag=True):
    """What a slice came upon. Lines up to (backwards: down to) `line` are done; `chunk` is where to go on.

    `lines` are arrays of four-byte numbers: matches, or errors and then warnings. `total` is how many lines there are
    in `size` bytes.
    """

    line: int
    chunk: int
    total: int
    size: int
    done: bool
    lines: list[bytes]
    epochs: list[tuple[int, int]] = []


class Spans(msgspec.Struct, frozen=True, tag=True):
    """For each text where the matches begin and end."""

    spans: list[list[tuple[int, int]]]


Request = Slice | Texts
Reply = Found | Spans
MOST_SPANS = 400
"""Matches in one line that are marked."""

Look = Callable[[int, list[bytes]], None]


class _Matches:
    """Collects the lines that match."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._search = re.compile(pattern, flags).search
        self.lists = ([],)  # type: tuple[list[list[int]], ...]
        self.epochs: list[list[tuple[int, int]]] = []

    def look(self, first: int, lines: list[bytes]) -> None:
        search = self._search
        texts: Iterable[str]
        if PLAIN.fullmatch(b"\n".join(lines)):
            texts = [line.decode("ascii") for line in lines]
        else:
            texts = (shown(line).text for line in lines)
        self.lists[0].append([number for number, text in enumerate(texts, first) if search(text)])


class _Kinds:
    """Collects errors, warnings, and where epochs begin."""

    def __init__(self) -> None:
        self.lists = ([], [])  # type: tuple[list[list[int]], ...]
        self.epochs: list[list[tuple[int, int]]] = []

    def look(self, first: int, lines: list[bytes]) -> None:
        text = b"\n".join(lines).lower()
        found: tuple[list[int], list[int]] = ([], [])
        for number in _with_words(text):
            kind = classify(shown(lines[number]).text)
            if kind in {"error", "warning"}:
                found[kind == "warning"].append(first + number)
        self.lists[0].append(found[0])
        self.lists[1].append(found[1])
        self.epochs.append(_epochs(first, text))


def _with_words(text: bytes) -> list[int]:
    """Numbers of the lines that have one of WORDS."""
    starts = set()
    for word in WORDS:
        at = text.find(word)
        while at >= 0:
            starts.add(text.rfind(b"\n", 0, at))
            end = text.find(b"\n", at)
            at = text.find(word, end) if end >= 0 else -1
    numbers, counted, line = [], 0, 0
    for start in sorted(starts):
        line += text.count(b"\n", counted, start + 1)
        counted = start + 1
        numbers.append(line)
    return numbers


def _epochs(first: int, text: bytes) -> list[tuple[int, int]]:
    """The lines in which another epoch is named than before."""
    if b"epoch" not in text:
        return []
    marks: list[tuple[int, int]] = []
    counted, line = 0, first
    for match in _EPOCH.finditer(text):
        epoch = int(match.group(1))
        if marks and marks[-1][1] == epoch:
            continue
        line += text.count(b"\n", counted, match.start())
        counted = match.start()
        marks.append((line, epoch))
    return marks


def run(connection: sqlite3.Connection, task: Slice, before_step: Callable[[], None] = lambda: None) -> Found:
    """Carry a slice out, within the transaction that the connection is in. `before_step` is called for each chunk."""
    scan = Scan(connection, task.job_id, task.attempt)
    collector = _Matches(task.pattern, task.flags) if task.pattern else _Kinds()
    walk = _forward if task.forward else _backward
    line, chunk, done = walk(scan, task, collector.look, before_step)
    order = 1 if task.forward else -1
    lists = [array("I", [number for part in parts[::order] for number in part]).tobytes() for parts in collector.lists]
    epochs = [mark for part in collector.epochs[::order] for mark in part]
    return Found(line, chunk, scan.line_count, scan.size, done, lists, epochs)


def _forward(scan: Scan, task: Slice, look: Look, before_step: Callable[[], None]) -> tuple[int, int, bool]:
    line = task.line
    chunk = task.chunk if task.chunk >= 0 else scan.chunk_of_line(line)
    deadline = time.monotonic() + task.budget_ms / 1000
    while chunk < scan.chunks:
        before_step()
        first, lines = scan.lines(chunk)
        if first < line:
            first, lines = line, lines[line - first :]
        if lines:
            look(first, lines)
            line = first + len(lines)
        chunk += 1
        if time.monotonic() > deadline:
            break
    done = chunk >= scan.chunks
    return (min(line, scan.ended_lines), -1, True) if done else (line, chunk, False)


def _backward(scan: Scan, task: Slice, look: Look, before_step: Callable[[], None]) -> tuple[int, int, bool]:
    line = task.line
    chunk = task.chunk if task.chunk >= 0 else scan.chunk_of_line(line)
    chunk = min(chunk, scan.chunks - 1)
    deadline = time.monotonic() + task.budget_ms / 1000
    while chunk >= 0:
        before_step()
        first, lines = scan.lines(chunk)
        lines = lines[: max(0, line - first)]
        if lines:
            look(first, lines)
            line = first
        chunk -= 1
        if time.monotonic() > deadline:
            break
    return line, chunk, chunk < 0


def spans(task: Texts, before_step: Callable[[], None] = lambda: None) -> Spans:
    """Where the matches are."""
    pattern = re.compile(task.pattern, task.flags)
    found: list[list[tuple[int, int]]] = []
    for text in task.texts:
        before_step()
        marks: list[tuple[int, int]] = []
        for match in pattern.finditer(text):
            if match.end() > match.start():
                marks.append(match.span())
            if len(marks) == MOST_SPANS:
                break
        found.append(marks)
    return Spans(found)
