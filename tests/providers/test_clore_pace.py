"""The pace that processes keep together: spacing, priorities, pauses, and that nobody's death or mischief stops it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, Settings
from gpuscale_tui.providers.clore import pace
from gpuscale_tui.providers.clore.limiter import Intervals, Limiter, Priority
from gpuscale_tui.providers.clore.pace import SharedPace, open_directory, shared_pace, sweep
from gpuscale_tui.providers.registry import build_providers

KEY = "k3y-0123456789abcdef0123456789ab"
INTERVALS = Intervals(1.0, 5.0)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Office:
    """Several processes' paces on one file, on one clock that is set by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.open: list[SharedPace] = []

    def pace(self, intervals: Intervals = INTERVALS) -> SharedPace:
        made = SharedPace(open_directory(self.path), KEY, intervals, clock=self.clock)
        self.open.append(made)
        return made

    @property
    def file(self) -> Path:
        (found,) = self.path.iterdir()
        return found


@pytest.fixture
async def office(tmp_path: Path) -> Any:
    made = Office(tmp_path / "pace")
    yield made
    for each in made.open:
        each.close()


def ask(asked: SharedPace, *priorities: Priority) -> Priority | float:
    """One look, by somebody whose calls of these priorities have just come."""
    now = asyncio.get_running_loop().time()
    return asked.claim(dict.fromkeys(priorities, now))


# One clock, several paces


async def test_two_processes_share_one_spacing(office: Office) -> None:
    first, second = office.pace(), office.pace()
    assert ask(first, Priority.ORDERS) is Priority.ORDERS
    wait = ask(second, Priority.ORDERS)
    assert isinstance(wait, float)
    assert 0 < wait <= 1
    office.clock.now += 1
    assert ask(second, Priority.ORDERS) is Priority.ORDERS


async def test_creates_of_two_processes_are_five_seconds_apart_and_hold_up_nothing_else(office: Office) -> None:
    first, second = office.pace(), office.pace()
    assert ask(first, Priority.CREATE) is Priority.CREATE
    office.clock.now += 1
    assert ask(second, Priority.CREATE, Priority.MARKET) is Priority.MARKET
    office.clock.now += 4
    assert ask(second, Priority.CREATE) is Priority.CREATE


@pytest.mark.parametrize("urgent", [Priority.CANCEL, Priority.CREATE, Priority.ORDERS])
async def test_another_process_goes_first_when_its_call_is_more_urgent(office: Office, urgent: Priority) -> None:
    reader, other = office.pace(), office.pace()
    assert ask(reader, Priority.MARKET) is Priority.MARKET
    assert isinstance(ask(other, urgent), float)
    office.clock.now += 1
    assert ask(reader, Priority.MARKET) == pace.YIELD_SEC
    assert ask(other, urgent) is urgent
    office.clock.now += 1
    assert ask(reader, Priority.MARKET) is Priority.MARKET


async def test_of_equals_the_first_come_goes_first(office: Office) -> None:
    early, late, third = (office.pace() for _ in range(3))
    assert ask(third, Priority.MARKET) is Priority.MARKET
    now = asyncio.get_running_loop().time()
    assert isinstance(early.claim({Priority.ORDERS: now - 60}), float)
    assert isinstance(late.claim({Priority.ORDERS: now - 30}), float)
    office.clock.now += 1
    assert late.claim({Priority.ORDERS: now - 30}) == pace.YIELD_SEC
    assert early.claim({Priority.ORDERS: now - 60}) is Priority.ORDERS


async def test_who_waits_and_dies_is_waited_for_no_longer_than_two_seconds(office: Office) -> None:
    reader, other = office.pace(), office.pace()
    ask(reader, Priority.MARKET)
    ask(other, Priority.CANCEL)  # and is never heard of again
    office.clock.now += 1.5
    assert ask(reader, Priority.MARKET) == pace.YIELD_SEC
    office.clock.now += 0.6
    assert ask(reader, Priority.MARKET) is Priority.MARKET


async def test_who_gave_up_waiting_says_so(office: Office) -> None:
    reader, other = office.pace(), office.pace()
    ask(reader, Priority.MARKET)
    ask(other, Priority.CANCEL)
    other.withdraw()
    office.clock.now += 1
    assert ask(reader, Priority.MARKET) is Priority.MARKET


async def test_too_many_requests_pause_every_process(office: Office) -> None:
    first, second = office.pace(), office.pace()
    first.pause(30)
    office.clock.now += 29
    assert isinstance(ask(second, Priority.CANCEL), float)
    office.clock.now += 1
    assert ask(second, Priority.CANCEL) is Priority.CANCEL


async def test_a_process_that_stops_with_the_lock_in_its_hand_delays_the_others_for_moments(office: Office) -> None:
    mine = office.pace()
    assert ask(mine, Priority.MARKET) is Priority.MARKET
    with office.file.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other = office.pace()
        assert ask(other, Priority.CANCEL) == pace.LOCKED_SEC
        office.clock.now += pace.STUCK_SEC
        assert ask(other, Priority.CANCEL) is Priority.CANCEL
        assert isinstance(ask(other, Priority.CANCEL), float), "it keeps its own pace meanwhile"
    office.clock.now += 1
    assert ask(mine, Priority.MARKET) is Priority.MARKET


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[1]", b'{"last_call": "x"}', b'{"waiters": {"a": 1}}', b"\xff" * 70_000,
        b'{"last_call": 9e99, "last_create": 9e99, "pause_until": 9e99}',
        b'{"waiters": {"a": {"priority": 0, "since": 0, "said": 9e9}}}',
        b'{"waiters": {"a": {"priority": -7, "since": 0, "said": 1000}}}',
    ],
    ids=lambda content: repr(content[:40]),
)  # fmt: skip
async def test_no_content_of_the_file_stops_anybody_for_longer_than_an_interval(office: Office, content: bytes) -> None:
    mine = office.pace()
    ask(mine, Priority.MARKET)
    office.file.write_bytes(content)
    office.clock.now += 1
    verdict = ask(mine, Priority.ORDERS)
    office.clock.now += 0 if verdict is Priority.ORDERS else 1
    assert Priority.ORDERS in {verdict, ask(mine, Priority.ORDERS)}
    assert json.loads(office.file.read_bytes())["last_call"] <= office.clock.now


async def test_a_file_that_is_removed_is_made_anew(office: Office) -> None:
    first, second = office.pace(), office.pace()
    ask(first, Priority.MARKET)
    office.file.unlink()
    ask(second, Priority.MARKET)
    assert isinstance(ask(first, Priority.MARKET), float)


async def test_a_link_in_the_files_place_is_not_followed(office: Office, tmp_path: Path) -> None:
    first = office.pace()
    ask(first, Priority.MARKET)
    name, victim = office.file.name, tmp_path / "victim"
    victim.write_text("untouched")
    office.file.unlink()
    (office.path / name).symlink_to(victim)
    assert ask(office.pace(), Priority.MARKET) is Priority.MARKET, "it goes on by itself"
    assert victim.read_text() == "untouched"


async def test_the_file_is_private_and_does_not_name_the_key(office: Office) -> None:
    mine = office.pace()
    ask(mine, Priority.MARKET)
    ask(mine, Priority.MARKET)
    assert office.file.stat().st_mode & 0o777 == 0o600
    assert office.path.stat().st_mode & 0o777 == 0o700
    assert KEY not in office.file.name + office.file.read_text()


@pytest.mark.parametrize("mischief", ["open to all", "a link", "a file"])
def test_a_directory_that_is_not_ours_alone_is_not_used(tmp_path: Path, mischief: str) -> None:
    place = tmp_path / "pace"
    if mischief == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    elif mischief == "a file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o755)
    with pytest.raises(OSError, match=r".+"):
        open_directory(place)


def test_without_a_private_place_the_process_keeps_its_own_pace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "state"
    blocked.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    assert shared_pace(KEY, INTERVALS) is None


async def test_what_nobody_used_for_a_day_is_swept_away(office: Office) -> None:
    mine = office.pace()
    ask(mine, Priority.MARKET)
    used = office.file.stat().st_mtime
    directory = open_directory(office.path)
    sweep(directory, used + 80_000)
    assert office.file.exists()
    sweep(directory, used + 90_000)
    os.close(directory)
    assert not list(office.path.iterdir())
    office.clock.now += 1
    assert ask(mine, Priority.MARKET) is Priority.MARKET


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(Priority), st.floats(0, 2, width=16)), min_size=1, max_size=40
)


@given(STEPS)
@settings(max_examples=60)
def test_whoever_asks_when_starts_are_spaced(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    async def run() -> None:
        office = Office(tmp_path_factory.mktemp("pace") / "pace")
        paces = [office.pace() for _ in range(3)]
        starts: list[tuple[float, Priority]] = []
        for who, priority, pause in steps:
            office.clock.now += pause
            if ask(paces[who], priority) is priority:
                starts.append((office.clock.now, priority))
        for each in office.open:
            each.close()
        for chosen, interval in ((starts, 1.0), ([s for s in starts if s[1] is Priority.CREATE], 5.0)):
            gaps = [after[0] - before[0] for before, after in pairwise(chosen)]
            assert all(gap >= interval - 1e-5 for gap in gaps)

    asyncio.run(run())


# Real processes

CHILD = """
import asyncio, sys, time
from pathlib import Path
from gpuscale_tui.providers.clore.limiter import Intervals, Limiter, Priority
from gpuscale_tui.providers.clore.pace import SharedPace, open_directory

path, key, count, *names = sys.argv[1:]
asked = []

def clock():
    asked.append(time.monotonic())
    return asked[-1]

class Told(SharedPace):
    def claim(self, heads):
        asked.clear()
        verdict = super().claim(heads)
        if isinstance(verdict, Priority):
            print(f"{asked[0]!r} {verdict.name}", flush=True)
        return verdict

async def main():
    pace = Told(open_directory(Path(path)), key, Intervals(0.05, 0.2), clock=clock)
    limiter = Limiter(0.05, 0.2, pace)
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(count)):
            tasks.create_task(limiter.turn(Priority[names[number % len(names)]], 300))
    limiter.close()

asyncio.run(main())
"""


@contextlib.contextmanager
def child(path: Path, count: int, *names: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CHILD, str(path), KEY, str(count), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def starts_in(text: str) -> list[tuple[float, str]]:
    lines = [line.split() for line in text.splitlines()]
    return [(float(at), name) for at, name in lines]


def test_real_processes_keep_one_pace_and_a_killed_one_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pace"
    with (
        child(path, 12, "MARKET", "CANCEL") as first,
        child(path, 12, "CREATE", "ORDERS", "ORDERS") as second,
        child(path, 10_000, "ORDERS") as doomed,
    ):
        assert doomed.stdout is not None
        doomed.stdout.readline()
        doomed.send_signal(signal.SIGKILL)
        rest = doomed.stdout.read()
        texts = [process.communicate(timeout=200)[0] for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0)
    starts = sorted(start for text in (*texts, rest) for start in starts_in(text))
    assert len(starts) >= 24
    gaps = [after[0] - before[0] for before, after in pairwise(starts)]
    assert min(gaps) >= 0.05 - 1e-5
    creates = [at for at, name in starts if name == "CREATE"]
    assert len(creates) == 4
    assert min(after - before for before, after in pairwise(creates)) >= 0.2 - 1e-5


async def test_the_provider_shares_its_pace_with_others_of_the_same_key() -> None:
    clore = CloreConfig(enabled=True, base_url="http://127.0.0.1:1/v1", request_interval_sec=60)
    wanted = Settings(providers=ProvidersConfig(clore=clore))
    environ = {"CLORE_API_KEY": KEY}
    providers = [build_providers(wanted, state_dir=Path("unused"), environ=environ)["clore"] for _ in range(2)]
    limiters: list[Limiter] = [provider._api._limiter for provider in providers]  # type: ignore[attr-defined]
    await limiters[0].turn(Priority.ORDERS, 60)
    with pytest.raises(TimeoutError):
        await limiters[1].turn(Priority.CANCEL, 0.1)
    for provider in providers:
        await provider.aclose()
