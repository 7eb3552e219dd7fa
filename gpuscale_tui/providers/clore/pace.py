"""A pace that all processes of this user keep together which use the same key: one small file, locked for a moment.

The file says when the last calls began, until when all pause, and who waits. It is read and written under a lock that
is only ever tried, never waited for: a process that stops while it has the lock delays the others for `STUCK_SEC`, one
that dies not at all. Who waits is struck off unless it says so again within `WAITER_SEC`.

Times in the file are seconds of the computer's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from gpuscale_tui.providers.clore.limiter import AT_ONCE_SEC, LONGEST_PAUSE_SEC, Intervals, OwnPace, Priority

WAITER_SEC = 2.0
POLL_SEC = 0.25
"""How often one who waits says so, and looks whether somebody before it has gone."""
YIELD_SEC = 0.02
LOCKED_SEC = 0.005
STUCK_SEC = 5.0
LARGEST_FILE = 65_536
KNOWN = frozenset(int(priority) for priority in Priority)
OLD_SEC = 86_400.0

log = logging.getLogger(__name__)


class _Waiter(msgspec.Struct):
    """Somebody whose call waits: its priority, since when, and when it last said so."""

    priority: int
    since: float
    said: float


class _State(msgspec.Struct):
    """What the file says. A time that cannot be (of another boot, or beyond all bounds) counts as now."""

    last_call: float = 0.0
    last_create: float = 0.0
    pause_until: float = 0.0
    waiters: dict[str, _Waiter] = {}

    def settled(self, now: float) -> _State:
        """The same without impossible times and without those who have gone."""
        return _State(
            last_call=min(self.last_call, now),
            last_create=min(self.last_create, now),
            pause_until=self.pause_until if self.pause_until <= now + LONGEST_PAUSE_SEC else 0.0,
            waiters={name: each for name, each in self.waiters.items() if 0 <= now - each.said <= WAITER_SEC},
        )


class SharedPace:
    """See `limiter.Pace`. `directory` is an open descriptor of a private directory; the key appears only hashed.

    Where the file cannot be used the process keeps its own pace, and says so once.
    """

    def __init__(
        self, directory: int, key: str, intervals: Intervals, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._file = f"{hashlib.sha256(b'gpuscale pace ' + key.encode()).hexdigest()[:32]}.json"
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._intervals = intervals
        self._own = OwnPace(intervals, clock)
        self._clock = clock
        self._enrolled = False
        self._stuck_since: float | None = None
        self._broken = False

    def claim(self, heads: Mapping[Priority, float]) -> Priority | float:
        """See `Pace.claim`. What this process did itself is always kept, whatever the file says."""
        if self._broken:
            return self._own.claim(heads)
        try:
            with self._locked() as file:
                if file is None:
                    return self._while_locked(heads)
                return self._decide(file, heads)
        except OSError as error:
            self._give_up(error)
            return self._own.claim(heads)

    def withdraw(self) -> None:
        """See `Pace.withdraw`. Should the lock not be free, the others strike us off themselves."""
        if self._enrolled and not self._broken:
            self._enrolled = False
            self._change(lambda state: state.waiters.pop(self._name, None))

    def pause(self, seconds: float) -> None:
        """See `Pace.pause`."""
        self._own.pause(seconds)
        if not self._broken:
            until = self._clock() + seconds

            def longer(state: _State) -> None:
                state.pause_until = max(state.pause_until, until)

            self._change(longer)

    def close(self) -> None:
        """See `Pace.close`."""
        self.withdraw()
        if self._directory >= 0:
            os.close(self._directory)
        self._directory, self._broken = -1, True

    def _change(self, change: Callable[[_State], object]) -> None:
        try:
            with self._locked() as file:
                if file is not None:
                    state = _load(file).settled(self._clock())
                    change(state)
                    _store(file, state)
        except OSError as error:
            self._give_up(error)

    def _decide(self, file: int, heads: Mapping[Priority, float]) -> Priority | float:
        """Start one of ours if nobody else who could start comes before it; else say that we wait."""
        now, waited_to = self._clock(), asyncio.get_running_loop().time()
        state = _load(file).settled(now)
        state.waiters.pop(self._name, None)
        ours = [(priority, now - max(0.0, waited_to - since)) for priority, since in sorted(heads.items())]
        verdict = self._verdict(state, ours, now)
        if isinstance(verdict, Priority):
            mine = self._own.claim({verdict: heads[verdict]})
            verdict = verdict if isinstance(mine, Priority) else mine
        if isinstance(verdict, Priority):
            state.last_call = now
            state.last_create = now if verdict is Priority.CREATE else state.last_create
        left = [each for each in ours if each[0] is not verdict]
        if left:
            state.waiters[self._name] = _Waiter(int(left[0][0]), left[0][1], now)
        self._enrolled = bool(left)
        _store(file, state)
        return verdict

    def _verdict(self, state: _State, ours: list[tuple[Priority, float]], now: float) -> Priority | float:
        def start(priority: Priority) -> float:
            return self._intervals.not_before(priority, state.last_call, state.last_create, state.pause_until)

        others = [
            (each.priority, each.since) for each in state.waiters.values()
            if each.priority in KNOWN and start(Priority(each.priority)) - now < AT_ONCE_SEC
        ]  # fmt: skip
        ready = [each for each in ours if start(each[0]) - now < AT_ONCE_SEC]
        if not ready:
            return min(POLL_SEC, min(start(priority) for priority, _ in ours) - now)
        best = ready[0]
        return YIELD_SEC if any(other < best for other in others) else best[0]

    def _while_locked(self, heads: Mapping[Priority, float]) -> Priority | float:
        """Somebody has the lock: a moment's matter, unless it was stopped there."""
        now = self._clock()
        if self._stuck_since is None:
            self._stuck_since = now
        if now - self._stuck_since < STUCK_SEC:
            return LOCKED_SEC
        verdict = self._own.claim(heads)
        return verdict if isinstance(verdict, Priority) else max(verdict, LOCKED_SEC)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The file, open and locked; None while somebody else has the lock. Raises OSError."""
        file = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            yield None
            return
        except OSError:
            os.close(file)
            raise
        self._stuck_since = None
        try:
            yield file if os.fstat(file).st_nlink else None  # removed while we opened it: there is a new one
        finally:
            os.close(file)  # which unlocks

    def _give_up(self, error: OSError) -> None:
        log.warning("the calls to Clore.ai are paced in this process alone: %s", error)
        self._broken = True


def _load(file: int) -> _State:
    """What the file says; nothing where it is new, torn or somebody's invention."""
    try:
        return msgspec.json.decode(os.pread(file, LARGEST_FILE, 0), type=_State)
    except (msgspec.MsgspecError, RecursionError):
        return _State()


def _store(file: int, state: _State) -> None:
    raw = msgspec.json.encode(state)
    os.pwrite(file, raw, 0)
    os.ftruncate(file, len(raw))


def open_directory(path: Path) -> int:
    """A descriptor of a directory that is ours alone, made where it is missing. Raises OSError for any other."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(directory)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(directory)
        raise PermissionError(f"{path} is not a directory of your own with mode 0700")
    return directory


def shared_pace(key: str, intervals: Intervals) -> SharedPace | None:
    """The pace that this user's processes keep together; None where there is no private place for it, which is said."""
    from platformdirs import user_state_path

    try:
        directory = open_directory(user_state_path("gpuscale", appauthor=False) / "pace")
        sweep(directory, time.time())
    except OSError as error:
        log.warning("the calls to Clore.ai are paced in this process alone: %s", error)
        return None
    return SharedPace(directory, key, intervals)


def sweep(directory: int, now: float) -> None:
    """Remove the files of keys that nobody has used for a day; `now` is the wall clock's seconds."""
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):  # somebody else removed it, or it is no file: nothing of ours
            if now - os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime > OLD_SEC:
                os.unlink(name, dir_fd=directory)
