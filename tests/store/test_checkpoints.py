"""Snapshots on disk: whole or not there, verified, shared, pruned without ever losing the last good one."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.store import snapshots
from gpuscale_tui.store.checkpoints import (
    Draft,
    Snapshot,
    SnapshotError,
    SnapshotMeta,
    SnapshotStore,
    check_name,
    verify,
)
from tests.store.support import T0, Bench

META = SnapshotMeta(job_id=17, attempt=2, worker_id=3, at=T0)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "checkpoints")


def put(draft: Draft, name: str, data: bytes) -> None:
    """What a transfer does: write a file into a draft."""
    path = draft.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def save(store: SnapshotStore, files: dict[str, bytes], job_id: int = 17) -> Snapshot:
    """One whole snapshot."""
    draft = store.begin(job_id)
    for name, data in files.items():
        put(draft, name, data)
    return store.commit(draft, dict.fromkeys(files, 0o644), META)


def prune(store: SnapshotStore, job_id: int, keep: int, *, trusted: int | None = None) -> list[int]:
    """What the engine does after each snapshot."""
    removed = store.superfluous(job_id, keep, trusted=trusted)
    for number in removed:
        store.remove(job_id, number)
    return removed


def names(root: Path) -> set[str]:
    """Everything below a directory."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_snapshot_is_files_and_a_manifest(store: SnapshotStore) -> None:
    previous = os.umask(0)
    try:
        draft = store.begin(17)
        put(draft, "model/weights.bin", b"abc")
        put(draft, "run.sh", b"#!/bin/sh\n")
        made = store.commit(draft, {"model/weights.bin": 0o644, "run.sh": 0o104755}, META)
    finally:
        os.umask(previous)
    assert made.number == 1
    assert made.path == store.root / "j17" / "1"
    assert (made.meta, made.size) == (META, 13)
    assert names(made.path) == {
        "meta.json",
        "manifest.json",
        "files",
        "files/model",
        "files/model/weights.bin",
        "files/run.sh",
    }
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["meta"] == {
        "job_id": 17, "attempt": 2, "worker_id": 3, "at": T0, "step": None, "epoch": None, "loss": None,
        "kind": "interval", "job_name": "", "left_out": [],
    }  # fmt: skip
    assert manifest["files"][0] == {
        "name": "model/weights.bin", "size": 3, "mode": 0o644,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }  # fmt: skip
    assert manifest["files"][1]["mode"] == 0o755, "permission bits only"
    for path in (store.root / "j17", *(store.root / "j17").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert store.newest_valid(17) == made
    assert store.snapshots(17) == [made]
    assert verify(made) is None


def test_numbers_rise_and_are_never_used_again(store: SnapshotStore) -> None:
    assert [save(store, {"a": b"1"}).number for _ in range(3)] == [1, 2, 3]
    assert prune(store, 17, 1) == [2, 1]
    assert save(store, {"a": b"1"}).number == 4
    draft = store.begin(17, after=9)
    assert draft.number == 10, "what the database knows counts, too"
    assert [snapshot.number for snapshot in store.snapshots(17)] == [4, 3]
    assert store.begin(18).number == 1


def test_nothing_counts_before_its_commit(store: SnapshotStore) -> None:
    first = save(store, {"a": b"1"})
    put(store.begin(17), "a", b"2")
    assert store.newest_valid(17) == first
    assert store.snapshots(17) == [first]
    again = store.begin(17)
    assert names(again.path) == set(), "a draft begins empty, whatever an interrupted one left"
    store.discard_drafts(17)
    assert again.path.is_dir(), "what is being put together is left alone"
    assert {path.name for path in (store.root / "j17").iterdir()} == {"1", again.shell.name}
    store.discard(again)
    store.discard(again)
    assert names(store.root / "j17") == {"1", "1/meta.json", "1/manifest.json", "1/files", "1/files/a"}
    store.discard_drafts(99)


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "..", "../up", "a/../../b", "a/..", ".", "./a", "a//b", "a/", "a\x00b", "x" * 256, "\ud800"],
)
def test_hostile_names_are_refused(store: SnapshotStore, name: str) -> None:
    draft = store.begin(17)
    put(draft, "a", b"1")
    with pytest.raises(SnapshotError, match="is refused: only plain relative names"):
        store.commit(draft, {"a": 0o600, name: 0o600}, META)
    assert store.snapshots(17) == []


@pytest.mark.parametrize(
    "name", ["a", ".hidden", "a/b/c", "..a", "a..", "with space", "new\nline", "ü", "\udcff", "x" * 255]
)
def test_plain_names_are_taken(store: SnapshotStore, name: str) -> None:
    check_name(name)
    made = save(store, {name: b"1"})
    assert store.newest_valid(17) == made
    assert made.files[0].name == name


@given(st.text(max_size=20))
def test_no_accepted_name_leads_out(name: str) -> None:
    root = Path("/checkpoints/j1/.tmp-1/files")
    try:
        check_name(name)
    except SnapshotError:
        return
    resolved = Path(os.path.normpath(root / name))
    assert resolved != root
    assert resolved.is_relative_to(root)


def link_to_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, outside: Path) -> None:
    path.mkdir()


def nothing(path: Path, outside: Path) -> None:
    pass


@pytest.mark.parametrize("make", [link_to_file, pipe, folder, nothing])
def test_only_regular_files_are_taken(store: SnapshotStore, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"not ours")
    draft = store.begin(17)
    make(draft.path / "a", outside)
    with pytest.raises(SnapshotError, match="'a' is"):
        store.commit(draft, {"a": 0o600}, META)
    assert store.snapshots(17) == []
    assert outside.read_bytes() == b"not ours"


def test_a_link_on_the_way_is_not_followed(store: SnapshotStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"not ours")
    draft = store.begin(17)
    (draft.path / "dir").symlink_to(outside)
    with pytest.raises(SnapshotError, match="'dir/a' is"):
        store.commit(draft, {"dir/a": 0o600}, META)
    assert (outside / "a").exists()


def test_what_was_not_asked_for_is_left_out(store: SnapshotStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"not ours")
    draft = store.begin(17)
    for name in ("kept/a", "half-fetched", "gone/b/c"):
        put(draft, name, b"1")
    (draft.path / "link").symlink_to(outside)
    os.mkfifo(draft.path / "pipe")
    made = store.commit(draft, {"kept/a": 0o600}, META)
    assert names(made.files_path) == {"kept", "kept/a"}
    assert (outside / "a").read_bytes() == b"not ours"


def test_an_equal_file_is_stored_once(store: SnapshotStore) -> None:
    first = save(store, {"big": b"same" * 1000, "changed": b"1", "moved": b"x"})
    second = save(store, {"big": b"same" * 1000, "changed": b"2", "dir/moved": b"x"})
    shared = {
        name for name in ("big", "changed")
        if (first.files_path / name).stat().st_ino == (second.files_path / name).stat().st_ino
    }  # fmt: skip
    assert shared == {"big"}
    assert (first.files_path / "moved").stat().st_ino == (second.files_path / "dir/moved").stat().st_ino
    assert (first.stored, second.stored) == (4002, 1)
    assert prune(store, 17, 1) == [1]
    assert verify(second) is None, "the other name still has it"


def test_a_file_is_not_shared_with_one_that_has_rotted(store: SnapshotStore) -> None:
    first = save(store, {"big": b"good"})
    (first.files_path / "big").write_bytes(b"evil")
    second = save(store, {"big": b"good"})
    assert (second.files_path / "big").read_bytes() == b"good"
    assert store.newest_valid(17) == second


def test_unchanged_files_are_taken_over_without_reading_them(store: SnapshotStore) -> None:
    first = save(store, {"dir/big": b"same", "other": b"1"})
    big, other = first.files
    save(store, {"other": b"2"})
    draft = store.begin(17)
    assert store.adopt(draft, replace(big, name="moved/big", mode=0o640)), "from any kept snapshot, under any name"
    put(draft, "other", b"2")
    third = store.commit(
        draft, (replace(big, name="moved/big", mode=0o640), *store.measure(draft, {"other": 0o600})), META
    )
    assert (first.files_path / "dir/big").stat().st_ino == (third.files_path / "moved/big").stat().st_ino
    assert [(entry.name, entry.mode) for entry in third.files] == [("moved/big", 0o640), ("other", 0o600)]
    assert third.stored == 0
    assert store.newest_valid(17) == replace(third, remarks=())
    assert not store.adopt(store.begin(17), replace(big, sha256="0" * 64))
    (first.files_path / "other").write_bytes(b"")
    assert not store.adopt(store.begin(17), other), "what is not there in its full size must be fetched"
    with pytest.raises(SnapshotError, match="is refused"):
        store.adopt(store.begin(17), replace(big, name="../up"))


def test_what_has_rotted_is_not_taken_over(store: SnapshotStore) -> None:
    """Else no later snapshot would be whole, for as long as the file stays as it is on its machine."""
    first = save(store, {"big": b"good", "b": b"1"})
    draft = store.begin(17)
    assert all(store.adopt(draft, entry) for entry in first.files)
    second = store.commit(draft, first.files, META)
    (first.files_path / "big").write_bytes(b"evil")
    assert store.newest_valid(17) is None
    again = SnapshotStore(store.root)
    draft = again.begin(17)
    assert [again.adopt(draft, entry) for entry in second.files] == [True, False]
    put(draft, "big", b"good")
    third = again.commit(draft, second.files, META)
    assert (third.stored, again.newest_valid(17)) == (4, third)
    assert all(again.adopt(again.begin(17), entry) for entry in third.files), "it is whole in another place"


def lose(snapshot: Snapshot) -> None:
    (snapshot.files_path / "a").unlink()


def shorten(snapshot: Snapshot) -> None:
    (snapshot.files_path / "a").write_bytes(b"")


def change(snapshot: Snapshot) -> None:
    (snapshot.files_path / "a").write_bytes(b"X" * 7)


def swap_for_link(snapshot: Snapshot) -> None:
    (snapshot.files_path / "a").unlink()
    (snapshot.files_path / "a").symlink_to("/etc/hostname")


def lose_manifest(snapshot: Snapshot) -> None:
    (snapshot.path / "manifest.json").unlink()


def cut_manifest(snapshot: Snapshot) -> None:
    (snapshot.path / "manifest.json").write_text('{"meta": {')


def odd_manifest(snapshot: Snapshot) -> None:
    (snapshot.path / "manifest.json").write_text('["nothing"]')


def change_manifest(snapshot: Snapshot, old: str, new: str) -> None:
    """With a manifest as older programs wrote it: without a hash of its own."""
    content = json.loads((snapshot.path / "manifest.json").read_text().replace(old, new))
    del content["sha256"]
    (snapshot.path / "manifest.json").write_text(json.dumps(content))


def flipped_manifest(snapshot: Snapshot) -> None:
    text = (snapshot.path / "manifest.json").read_text()
    (snapshot.path / "manifest.json").write_text(text.replace('"mode": 420', '"mode": 421'))


def escaping_manifest(snapshot: Snapshot) -> None:
    change_manifest(snapshot, '"a"', '"../../../../../../etc/hostname"')


DAMAGES = [
    (lose, "'a' is missing"), (shorten, "'a' has 0 bytes, not 7"), (change, "'a' has changed since it was stored"),
    (swap_for_link, "'a' is or lies behind a link"), (lose_manifest, "its manifest cannot be read"),
    (cut_manifest, "its manifest cannot be read"), (odd_manifest, "its manifest cannot be read"),
    (escaping_manifest, "is refused"),
    (flipped_manifest, "it has changed since it was written"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_broken_snapshot_is_skipped_and_the_reason_said(
    store: SnapshotStore, damage: Callable[[Snapshot], None], reason: str
) -> None:
    older, newest = save(store, {"a": b"version1"[:7]}), save(store, {"a": b"VERSION2"[:7]})
    damage(newest)
    heard: list[tuple[int, str]] = []
    assert store.newest_valid(17, lambda number, why: heard.append((number, why))) == older
    assert [number for number, _ in heard] == [2]
    assert reason in heard[0][1]
    assert store.newest_valid(17) == older


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_pruning_keeps_the_last_valid_one(
    store: SnapshotStore, damage: Callable[[Snapshot], None], reason: str
) -> None:
    made = [save(store, {"a": f"version{n}".encode()[-7:]}) for n in range(4)]
    for snapshot in made[1:]:
        damage(snapshot)
    assert prune(store, 17, 2) == [2]
    assert store.newest_valid(17) == made[0]
    damage(made[0])
    assert prune(store, 17, 1) == [], "where none is whole, none is thrown away"


def test_pruning_keeps_what_is_pinned(store: SnapshotStore) -> None:
    for number in range(5):
        save(store, {"a": str(number).encode()})
    assert store.superfluous(17, 2, pinned={2}, trusted=5) == [3, 1]


def test_pruning_keeps_the_newest(store: SnapshotStore) -> None:
    for number in range(5):
        save(store, {"a": str(number).encode()})
    assert prune(store, 17, 3, trusted=5) == [2, 1]
    assert prune(store, 17, 3) == []
    assert prune(store, 17, 0) == [4, 3], "one stays whatever is asked"
    assert names(store.root / "j17") == {"5", "5/meta.json", "5/manifest.json", "5/files", "5/files/a"}
    assert prune(store, 99, 1) == []


def test_an_interrupted_removal_is_finished_later_and_never_shows(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        save(store, {"a": str(number).encode()})

    def killed(path: Path, **_how: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(store, 17, 1)
    assert [snapshot.number for snapshot in store.snapshots(17)] == [3, 1]
    assert prune(store, 17, 1) == [1]
    assert {path.name for path in (store.root / "j17").iterdir()} == {"3"}


def test_an_interruption_at_any_step_of_a_commit_leaves_the_snapshot_before(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail the first, the second, ... call that touches the disk; each time the older snapshot is still the newest."""
    first = save(store, {"a": b"1", "dir/b": b"2"})
    real = os.fsync
    for allowed in range(50):
        calls = 0

        def failing(descriptor: int, allowed: int = allowed) -> None:
            nonlocal calls
            calls += 1
            if calls > allowed:
                raise OSError(28, "No space left on device")
            real(descriptor)

        draft = store.begin(17)
        put(draft, "a", b"new")
        put(draft, "dir/b", b"2")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            try:
                made = store.commit(draft, {"a": 0o600, "dir/b": 0o600}, META)
            except OSError:
                newest = store.newest_valid(17)
                assert newest is not None
                assert newest == first or (newest.number == draft.number and newest.files[0].size == 3)
                if newest != first:
                    prune(store, 17, 99)
                    break
                continue
        assert store.newest_valid(17) == made
        break
    else:
        pytest.fail("a commit never got through")
    assert allowed >= 4, "files, directories and manifest are all flushed"


def test_everything_is_flushed_in_the_order_that_makes_it_count(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    flushed: list[str] = []

    def note(descriptor: int) -> None:
        place = str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(store.root))
        flushed.append(re.sub(r"^j17/\.tmp-1-[0-9a-f]+/tree/?", "", place))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    save(store, {"dir/a": b"1"})
    assert flushed == [
        "files/dir/a", "files/dir", "files", "meta.json", "manifest.json", "", "j17",
    ]  # fmt: skip


def test_an_empty_snapshot_is_a_snapshot(store: SnapshotStore) -> None:
    made = save(store, {})
    assert store.newest_valid(17) == made
    assert store.newest_valid(18) is None


def test_the_database_remembers_snapshots(bench: Bench) -> None:
    attempt = bench.placed()
    assert bench.read(snapshots.last_snapshot_at, 1, 1) is None
    for number, at in ((1, T0 + 5), (2, T0 + 9)):
        bench.write(snapshots.record_snapshot, 1, number, 1, 3, 4711, now=at, epoch=None)
    bench.write(snapshots.record_snapshot, 1, 2, 1, 3, 4711, now=T0 + 99, epoch=None)
    assert bench.read(snapshots.last_snapshot_at, 1, 1) == T0 + 9, "saying it twice changes nothing"
    assert bench.read(snapshots.last_number, 1) == 2
    bench.write(snapshots.mark_pruned, 1, 1, now=T0 + 10, epoch=None)
    bench.write(snapshots.mark_pruned, 1, 1, now=T0 + 11, epoch=None)
    rows = bench.read(snapshots.snapshots, attempt.job_id)
    assert [(row.number, row.at, row.files, row.bytes, row.pruned_at) for row in rows] == [
        (2, T0 + 9, 3, 4711, None), (1, T0 + 5, 3, 4711, T0 + 10),
    ]  # fmt: skip
    assert bench.value("SELECT count(*) FROM events WHERE detail LIKE 'snapshot%'") == 3
    assert (
        [row.number for row in bench.read(snapshots.kept)]
        == [row.number for row in bench.read(snapshots.kept, 1)]
        == [2]
    )
    assert bench.read(snapshots.count) == 2
    assert [row.number for row in bench.read(snapshots.page, 1, 5)] == [1]
