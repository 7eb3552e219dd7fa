"""The program fails or dies at any call on a file while it stores, prunes or puts back: what there is, is right.

After each, another program opens the directory: every snapshot in it is whole and equal to a state that was to be
stored, none that was committed is lost, and what the dead one left goes with the next clean-up.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpuscale_tui
from gpuscale_tui.engine.copying import PART as PART_END
from gpuscale_tui.engine.copying import download
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.store.archive import DIRECTORY, FILE, LINK, FileEntry, Snapshot, SnapshotMeta, settle_links
from gpuscale_tui.store.checkpoints import Draft, SnapshotStore
from tests.store.crashing import Dead, every_call, watched
from tests.store.support import T0

PATHS = {"PYTHONPATH": str(Path(gpuscale_tui.__file__).parents[1])}
META = SnapshotMeta(17, 2, 3, T0, step=40)
JOB = 17


@dataclass(frozen=True)
class Thing:
    """What stands under a name: bytes, a link's target, or an empty directory."""

    content: bytes = b""
    mode: int = 0o644
    target: str | None = None
    is_directory: bool = False

    def entry(self, name: str) -> FileEntry:
        if self.target is not None:
            return FileEntry(name, 0, 0o777, "", LINK, self.target)
        if self.is_directory:
            return FileEntry(name, 0, self.mode, "", DIRECTORY)
        return FileEntry(name, len(self.content), self.mode, hashlib.sha256(self.content).hexdigest())


State = Mapping[str, Thing]
FIRST: State = {
    "model.pt": Thing(b"w" * 2000), "step-1/optimizer": Thing(b"o" * 900, 0o600), "same": Thing(b"w" * 2000, 0o755),
    "empty": Thing(), "step-1/void": Thing(is_directory=True, mode=0o750), "latest": Thing(target="step-1"),
}  # fmt: skip
SECOND: State = {
    "model.pt": Thing(b"v" * 2000), "step-1/optimizer": Thing(b"o" * 900, 0o600), "moved": Thing(b"w" * 2000),
    "step-2/void": Thing(is_directory=True), "latest": Thing(target="step-1/./optimizer"),
}  # fmt: skip


def fill(store: SnapshotStore, draft: Draft, state: State, adopting: bool = True) -> list[FileEntry]:
    """What a transfer does: adopt what is there, fetch the rest."""
    entries = [thing.entry(name) for name, thing in state.items()]
    for entry in entries:
        if entry.kind == FILE and not (adopting and store.adopt(draft, entry)):
            path = draft.path / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(state[entry.name].content)
    return entries


def save(store: SnapshotStore, state: State, adopting: bool = True) -> Snapshot:
    """What the engine does to save, its way out of trouble included."""
    draft = store.begin(JOB)
    try:
        return store.commit(draft, fill(store, draft, state, adopting), META)
    finally:
        store.discard(draft)


def state_of(snapshot: Snapshot) -> dict[str, Thing]:
    """A snapshot as it would be put back."""
    found = {}
    for entry in snapshot.files:
        place = snapshot.files_path / entry.name
        if entry.kind == LINK:
            assert os.readlink(place) == entry.target  # noqa: PTH115
            found[entry.name] = Thing(target=entry.target)
        elif entry.kind == DIRECTORY:
            assert place.is_dir()
            found[entry.name] = Thing(is_directory=True, mode=entry.mode)
        else:
            found[entry.name] = Thing(place.read_bytes(), entry.mode)
    return found


def check(root: Path, lasting: Mapping[int, State], possible: Mapping[int, State]) -> None:
    """What another program finds: all that lasts, beside it at most what is possible; then it clears up and saves."""
    store = SnapshotStore(root)
    found = {snapshot.number: snapshot for snapshot in store.snapshots(JOB)}
    assert sorted(found) == sorted(store.numbers(JOB)), "a number without a manifest"
    assert found.keys() >= lasting.keys()
    assert found.keys() <= {**lasting, **possible}.keys()
    for number, snapshot in found.items():
        assert store.verify(snapshot) is None
        assert state_of(snapshot) == dict({**lasting, **possible}[number])
    let_an_hour_pass(root)
    if store.clear(JOB) == 0 and list((root / "j17").glob(".tmp-*")):
        gc.collect()  # a traceback may hold a draft of the dead one
        store.clear(JOB)
    assert {path.name for path in (root / "j17").glob("*")} == {str(number) for number in found}
    last = save(store, {"x": Thing(b"afterwards")})
    assert last.number > max(found, default=0)
    assert store.newest_valid(JOB) == last
    assert store.usage([JOB])[JOB] == sum({
        (told.st_ino): told.st_size
        for path in (root / "j17").rglob("*") if path.is_file() and not path.is_symlink() for told in [path.stat()]
    }.values())  # fmt: skip


def let_an_hour_pass(root: Path) -> None:
    """Then it is certain that those who made a draft and held nothing in it yet are dead."""
    for shell in (root / "j17").glob(".tmp-*"):
        if not (shell / "hold").exists():
            for path in (*shell.rglob("*"), shell):
                os.utime(path, (1, 1))


def attempt(root: Path, work: Callable[[], object], at: int, error: int | None) -> bool:
    """Do it with one call that does not get through; whether it was done all the same."""
    with watched(root, at, error):
        try:
            work()
        except (OSError, GpuscaleError, Dead):
            return False
    return True


def count(root: Path, work: Callable[[], object]) -> int:
    with watched(root) as calls:
        work()
    assert calls.count > 5
    return calls.count


@pytest.fixture(autouse=True)
def no_power_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs die here, machines do not: flushing would only take time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def made(root: Path, *states: State) -> Path:
    """A store that is as it was, any number of times: see `again`."""
    for state in states:
        save(SnapshotStore(root), state)
    return root


def again(template: Path, root: Path) -> SnapshotStore:
    """A store like another. They have the same files: what is stored is never written to, so that this does no harm."""
    shutil.rmtree(root, ignore_errors=True)
    for directory, _, names in os.walk(template):
        place = root / Path(directory).relative_to(template)
        place.mkdir(mode=0o700)
        for name in names:
            os.link(Path(directory, name), place / name, follow_symlinks=False)
        for link in [path for path in Path(directory).iterdir() if path.is_dir() and path.is_symlink()]:
            os.link(link, place / link.name, follow_symlinks=False)
    return SnapshotStore(root)


def test_storing_fails_or_dies_at_every_call(tmp_path: Path) -> None:
    template, root = made(tmp_path / "template", FIRST), tmp_path / "store"
    store = again(template, root)
    done = 0
    for at, error in every_call(count(root, partial(save, store, SECOND))):
        store = again(template, root)
        done += attempt(root, partial(save, store, SECOND), at, error)
        check(root, {1: FIRST}, {2: SECOND})
    assert done > 0, "some calls are not needed for it: those that clear up"
    check(template, {1: FIRST}, {})


def test_pruning_fails_or_dies_at_every_call(tmp_path: Path) -> None:
    template, root = made(tmp_path / "template", FIRST, SECOND, FIRST), tmp_path / "store"
    store = again(template, root)
    for at, error in every_call(count(root, partial(prune, store))):
        store = again(template, root)
        attempt(root, partial(prune, store), at, error)
        check(root, {3: FIRST}, {1: FIRST, 2: SECOND})
    check(template, {1: FIRST, 2: SECOND, 3: FIRST}, {})


def prune(store: SnapshotStore) -> None:
    for number in store.superfluous(JOB, 1):
        store.remove(JOB, number)


def test_putting_back_fails_or_dies_at_every_call(tmp_path: Path) -> None:
    """What stands under a name is whole, at every moment; repeating it makes it all there."""
    store = SnapshotStore(made(tmp_path / "store", FIRST))
    snapshot = store.find(JOB, 1)
    target = tmp_path / "out"
    calls = count(target, lambda: download(store, snapshot, target))
    for at, error in every_call(calls):
        shutil.rmtree(target)
        attempt(target, lambda: download(store, snapshot, target), at, error)
        there = {path.relative_to(target).as_posix(): path for path in target.rglob("*")} if target.exists() else {}
        for name, thing in FIRST.items():
            if name in there and thing.target is None and not thing.is_directory:
                assert there[name].read_bytes() == thing.content
        download(store, snapshot, target)
        assert files_below(target) == {name: (thing.content, thing.target) for name, thing in FIRST.items()}
    check(tmp_path / "store", {1: FIRST}, {})


def files_below(root: Path) -> dict[str, tuple[bytes, str | None]]:
    found: dict[str, tuple[bytes, str | None]] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if name.endswith(PART_END):  # left by a dead one beside what it had finished
            continue
        if path.is_symlink():
            found[name] = (b"", os.readlink(path))  # noqa: PTH115
        elif path.is_file() or not any(path.iterdir()):
            found[name] = (path.read_bytes() if path.is_file() else b"", None)
    return found


PART = st.one_of(
    st.sampled_from(
        ["a", "b", "dir", "model.pt", ".hidden", "new\nline", "back\\slash", "\x1b[31m", "\udcff\udc80", "ü"]
    ),
    st.binary(min_size=1, max_size=6).map(os.fsdecode),
).filter(lambda part: part not in {".", ".."} and not set(part) & {"/", "\x00"})
NAME = st.lists(PART, min_size=1, max_size=3).map("/".join)
CONTENT = st.sampled_from([b"", b"w" * 700, b"v" * 700, b"once"])
THING = st.one_of(
    st.builds(Thing, CONTENT, st.integers(0, 0o777)),
    st.builds(Thing, CONTENT, st.integers(0, 0o777)),
    st.builds(Thing, is_directory=st.just(True), mode=st.integers(0, 0o777)),
    st.builds(Thing, target=NAME.map(lambda name: "./" + name)),
)


@st.composite
def trees(draw: st.DrawFn) -> State:
    """A tree that can stand on a disk: nothing lies behind a file or a link, no link leads out."""
    found: dict[str, Thing] = {}
    for name, thing in draw(st.dictionaries(NAME, THING, max_size=7)).items():
        parents = {name.rsplit("/", cut)[0] for cut in range(1, name.count("/") + 1)}
        behind = any(parent in found and not found[parent].is_directory for parent in parents)
        holds = any(other.startswith(name + "/") for other in found)
        if not behind and not (holds and not thing.is_directory):
            found[name] = thing
    links = {name: str(thing.target) for name, thing in found.items() if thing.target is not None}
    refused = settle_links(links)[1]
    return {name: thing for name, thing in found.items() if name not in refused}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(trees(), min_size=1, max_size=4), st.data())
def test_whatever_is_stored_and_wherever_it_dies(states: list[State], data: st.DataObject) -> None:
    """Trees of all kinds, kept two at a time; one of the saves dies or fails at some call."""
    with tempfile.TemporaryDirectory() as made_here:
        root = Path(made_here) / "store"
        store = SnapshotStore(root)
        lasting: dict[int, State] = {}
        fatal = data.draw(st.integers(0, len(states) - 1))
        at, error = data.draw(st.integers(1, 150)), data.draw(st.sampled_from([errno.EIO, errno.ENOSPC, None]))
        for place, state in enumerate(states):
            number = max(lasting, default=0) + 1
            adopting = data.draw(st.booleans())
            done = attempt(root, partial(kept_two, store, state, adopting), at if place == fatal else 0, error)
            if not done:
                check(root, {n: lasting[n] for n in sorted(lasting)[-1:]}, {**lasting, number: state})
                return
            lasting[number] = state
            lasting = {n: lasting[n] for n in sorted(lasting)[-2:]}
        check(root, lasting, {})


def kept_two(store: SnapshotStore, state: State, adopting: bool) -> None:
    made_now = save(store, state, adopting)
    for number in store.superfluous(JOB, 2, trusted=made_now.number):
        store.remove(JOB, number)


LOOP = """
import sys
from pathlib import Path
from gpuscale_tui.store.archive import SnapshotMeta
from gpuscale_tui.store.checkpoints import SnapshotStore
store = SnapshotStore(Path(sys.argv[1]))
for turn in range(1_000_000):
    draft = store.begin(17, after=turn)
    (draft.path / "d").mkdir()
    (draft.path / "d" / "model").write_bytes(turn.to_bytes(4, "big") * 50_000)
    (draft.path / "same").write_bytes(b"same" * 5_000)
    made = store.commit(draft, {"d/model": 0o600, "same": 0o600}, SnapshotMeta(17, 1, 1, turn))
    print(made.number, flush=True)
    for number in store.superfluous(17, 2, trusted=made.number):
        store.remove(17, number)
"""


def test_a_killed_program_loses_nothing_that_it_said_was_stored(tmp_path: Path) -> None:
    """SIGKILL at a moment of the machine's choosing; another program works on the same job all the while."""
    last = 0
    other = SnapshotStore(tmp_path)
    for turn in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", LOOP, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ | PATHS
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last = int(line)
                other.clear(JOB)
                if last % (7 + turn) == 0:
                    process.send_signal(signal.SIGKILL)
                    break
            said = [int(line) for line in process.stdout]
        last = max([last, *said])
        newest = other.newest_valid(JOB)
        assert newest is not None
        assert newest.number >= last
        assert (newest.files_path / "d/model").read_bytes() == newest.meta.at.to_bytes(4, "big") * 50_000
        let_an_hour_pass(tmp_path)
        other.clear(JOB)
        names = {path.name for path in (tmp_path / "j17").iterdir()}
        assert names == {str(number) for number in other.numbers(JOB)}, "the kernel let its lock go"


def test_makers_do_not_meet(tmp_path: Path) -> None:
    """Two at once, of one process or two: each gets a number of its own, and clearing leaves both alone."""
    one, two = SnapshotStore(tmp_path), SnapshotStore(tmp_path)
    drafts = [one.begin(JOB), two.begin(JOB), one.begin(JOB)]
    assert {draft.number for draft in drafts} == {1}
    for draft, content in zip(drafts, b"xyz", strict=True):
        (draft.path / "a").write_bytes(bytes([content]))
        assert two.clear(JOB) == 0
    made_all = [two.commit(draft, {"a": 0o600}, META) for draft in drafts]
    assert [snapshot.number for snapshot in made_all] == [1, 2, 3]
    assert [(snapshot.files_path / "a").read_bytes() for snapshot in made_all] == [b"x", b"y", b"z"]
    assert [snapshot.number for snapshot in one.snapshots(JOB)] == [3, 2, 1]
    assert {path.name for path in (tmp_path / "j17").iterdir()} == {"1", "2", "3"}


def test_where_no_locks_are_known_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    store = SnapshotStore(tmp_path)
    draft = store.begin(JOB)
    (draft.path / "a").write_bytes(b"1")
    assert store.clear(JOB) == 0, "just made"
    for path in [draft.shell, *draft.shell.rglob("*")]:
        os.utime(path, (1, 1))
    os.utime(draft.path / "a")
    assert store.clear(JOB) == 0, "something in it was written just now"
    os.utime(draft.path / "a", (1, 1))
    assert store.clear(JOB) == 1
    older = tmp_path / "j17" / ".tmp-4" / "files"  # as programs before left them
    older.mkdir(parents=True)
    assert store.clear(JOB) == 0
    for path in (older, older.parent):
        os.utime(path, (1, 1))
    assert store.clear(JOB) == 1
