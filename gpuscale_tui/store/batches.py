"""Commands that wait at the same time share one transaction, and so one flush of the disk.

A flush takes milliseconds on ordinary disks; with one a command, that many hundred commands a second would be the end.
Every command keeps its own savepoint: one that fails takes none of its neighbours with it, and nobody hears of success
before the common commit. What SQLite gives up as a whole (a full disk) is tried again one by one.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpuscale_tui.store.database import check_epoch, transact
from gpuscale_tui.store.opening import explained

T = TypeVar("T")
MOST_AT_ONCE = 64


@dataclass(slots=True)
class Entry(Generic[T]):
    """A command that waits, and then what came of it. `durable`: a loss of power right after may not undo it."""

    command: Callable[[sqlite3.Connection], T]
    epoch: int | None
    durable: bool
    done: bool = False
    result: T | None = None
    error: BaseException | None = None


def settle(connection: sqlite3.Connection, waiting: deque[Entry[T]], entry: Entry[T]) -> T:
    """Carry an entry out with those that wait beside it, unless that has happened; return or raise what came of it.

    `waiting` is filled by the event loop's thread and emptied here; the entry is among them.
    """
    while not entry.done:
        batch = [waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(waiting)))] or [entry]
        durable = any(each.durable for each in batch)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        _carry_out(connection, batch)
    if entry.error is not None:
        raise entry.error
    return entry.result  # type: ignore[return-value]  # None only where the command returned None


def _carry_out(connection: sqlite3.Connection, batch: list[Entry[T]]) -> None:
    if len(batch) > 1:
        try:
            transact(connection, None, _together, batch)
        except Exception:  # noqa: BLE001 - each is tried again by itself and then keeps its own error
            for entry in batch:
                _alone(connection, entry)
    else:
        _alone(connection, batch[0])
    for entry in batch:
        entry.done = True


def _alone(connection: sqlite3.Connection, entry: Entry[T]) -> None:
    entry.error = None
    try:
        entry.result = transact(connection, entry.epoch, entry.command)
    except BaseException as error:  # noqa: BLE001 - handed to the caller of this command
        entry.error = error


def _together(connection: sqlite3.Connection, batch: list[Entry[T]]) -> None:
    for entry in batch:
        connection.execute("SAVEPOINT command")
        try:
            check_epoch(connection, entry.epoch)
            entry.result = entry.command(connection)
        except BaseException as error:
            if not connection.in_transaction or explained(connection, error) is not None:
                raise
            connection.execute("ROLLBACK TO command")
            entry.error = error
        connection.execute("RELEASE command")
