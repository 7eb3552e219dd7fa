"""Whatever a directory holds, and whatever file system holds the snapshots: names, links, modes, full disks."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.store import snapshots
from gpuscale_tui.store.archive import DIRECTORY, LINK, FileEntry, Snapshot, SnapshotError, SnapshotMeta, settle_links
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.manifest import Manifest, decode, encode
from tests.store.support import T0, Bench

META = SnapshotMeta(
    17, 2, 3, T0, step=40, epoch=1.5, loss=0.25, kind="last", job_name="nano\ngpt", left_out=("tmp: is written",)
)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "checkpoints")


def save(store: SnapshotStore, files: dict[str, bytes], others: tuple[FileEntry, ...] = ()) -> Snapshot:
    draft = store.begin(17)
    for name, data in files.items():
        (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
        (draft.path / name).write_bytes(data)
    return store.commit(draft, (*store.measure(draft, dict.fromkeys(files, 0o640)), *others), META)


def link(name: str, target: str) -> FileEntry:
    return FileEntry(name, 0, 0o777, "", LINK, target)


def test_every_byte_that_a_name_may_have_comes_back(store: SnapshotStore) -> None:
    names = {os.fsdecode(bytes([byte])): bytes([byte]) for byte in range(1, 256) if byte not in b"/."}
    names |= {os.fsdecode(bytes(range(1, 47)) + bytes(range(48, 128))): b"low", "\udcff" * 255: b"high"}
    made = save(store, names, (link("\udc80 l", "\udcfe"), FileEntry("\udc81 d", 0, 0o700, "", DIRECTORY)))
    found = store.newest_valid(17)
    assert found == replace(made, remarks=())
    assert {entry.name: b"".join(store.read(found, entry)) for entry in found.files if entry.kind == "file"} == names
    assert {path.name for path in made.files_path.iterdir()} == {*names, "\udc80 l", "\udc81 d"}
    assert (made.path / "manifest.json").read_bytes().isascii()


def test_meta_beside_the_manifest_is_for_people_and_programs(store: SnapshotStore) -> None:
    made = save(store, {"a": b"1"})
    told = json.loads((made.path / "meta.json").read_text())
    assert told == {
        "job": "j17", "name": "nano\ngpt", "attempt": 2, "step": 40, "epoch": 1.5, "loss": 0.25, "worker": 3,
        "time": "2023-11-14T22:13:20.000Z", "kind": "last", "left_out": ["tmp: is written"],
    }  # fmt: skip
    assert store.find(17, 1).meta == META
    odd = replace(META, loss=float("nan"), epoch=float("inf"))
    assert decode(encode(Manifest(odd, ()))).meta == replace(META, loss=None, epoch=None), "JSON knows no such numbers"


def test_links_and_empty_directories_are_kept(store: SnapshotStore) -> None:
    links = (link("latest", "step-2"), link("step-1/up", "../step-2/w"), link("gone", "nowhere"), link("dot", "."))
    made = save(store, {"step-2/w": b"1"}, (*links, FileEntry("step-1/void", 0, 0o2750, "", DIRECTORY)))
    assert os.readlink(made.files_path / "latest") == "step-2"  # noqa: PTH115
    assert (made.files_path / "step-1/up").read_bytes() == b"1"
    assert (made.files_path / "step-1/void").is_dir()
    assert store.newest_valid(17) == made
    (made.files_path / "latest").unlink()
    assert store.verify(made) is None, "the manifest is enough to put it back"
    (made.files_path / "latest").symlink_to("/etc")
    assert store.verify(made) == "'latest' has changed since it was stored"
    (made.files_path / "step-1/void").rmdir()
    assert store.verify(replace(made, files=made.files[-3:])) == "'step-1/void' is missing"


@pytest.mark.parametrize(
    ("links", "reason"),
    [
        ({"a": "/etc/passwd"}, "outside"), ({"a": ".."}, "outside"), ({"d/a": "../.."}, "outside"),
        ({"a": "b/../../c"}, "outside"), ({"a": "a"}, "circles"), ({"a": "b", "b": "a/x"}, "circles"),
        ({"d/e/s": "../..", "t": "d/e/s/.."}, "outside"), ({"a": ""}, "no name"), ({"a": "x\x00"}, "no name"),
        ({"a": "b", "b": "/etc"}, "outside"), ({"../a": "b"}, "plain relative"),
    ],
)  # fmt: skip
def test_links_that_lead_out_are_refused(store: SnapshotStore, links: dict[str, str], reason: str) -> None:
    taken, refused = settle_links(links)
    assert "a" not in taken or "t" in refused
    assert all(reason in why for why in refused.values()), refused
    with pytest.raises(SnapshotError, match="is refused"):
        save(store, {"f": b"1"}, tuple(link(name, target) for name, target in links.items()))
    assert store.snapshots(17) == []


def test_an_absolute_link_into_the_directory_becomes_a_relative_one() -> None:
    links = {"d/last": "/home/u/ck/d/5.pt", "top": "/home/u/ck", "d/top": "/home/u/ck/", "out": "/home/u/ckpt/x"}
    assert settle_links(links, base="/home/u/ck") == (
        {"d/last": "../d/5.pt", "top": ".", "d/top": "../."},
        {"out": "it leads to '/home/u/ckpt/x', outside the directory"},
    )


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["a", "b", "d/a", "d/e/b", "d/e/f/c"]),
                       st.lists(st.sampled_from(["..", ".", "a", "b", "d", "e", "f", "c"]), min_size=1, max_size=6)
                       .map("/".join)))  # fmt: skip
def test_no_link_that_is_taken_leads_out(tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]) -> None:
    """The kernel is asked: what it finds at the end of a link that was taken lies in the tree."""
    root = tmp_path_factory.mktemp("around") / "tree"
    (root / "d/e/f").mkdir(parents=True)
    taken, refused = settle_links(links)
    assert taken.keys() | refused.keys() == links.keys()
    for name, target in taken.items():
        (root / name).symlink_to(target)
    for name in taken:
        assert Path(os.path.realpath(root / name)).is_relative_to(root), (name, taken)


def test_nothing_stands_behind_a_link_or_a_file(store: SnapshotStore) -> None:
    for others in ((link("f/x", "y"),), (link("l", "."), link("l/x", "y")), (link("f", "y"),)):
        with pytest.raises(SnapshotError, match=r"behind a link or a file|there twice"):
            save(store, {"f": b"1"}, others)


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_args: object, **_how: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_stores_copies_and_says_so_once(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    first = save(store, {"a": b"same", "b": b"same"})
    assert (first.stored, first.remarks) == (4, ())
    monkeypatch.setattr(os, "link", refusing(number))
    draft = store.begin(17)
    assert store.adopt(draft, first.files[0])
    (draft.path / "c").write_bytes(b"same")
    second = store.commit(draft, (first.files[0], *store.measure(draft, {"c": 0o600})), META)
    assert (second.stored, [store.root_words() in words for words in second.remarks]) == (8, [True])
    assert save(store, {"a": b"same", "x": b"same"}).remarks == ()
    assert [store.verify(each) for each in store.snapshots(17)] == [None] * 3
    (first.files_path / "a").write_bytes(b"evil")
    (second.files_path / "a").write_bytes(b"evil")
    assert store.adopt(store.begin(17), first.files[0]), "a copy is compared: another place has it whole"
    for number_now in (1, 2):
        store.remove(17, number_now)
    assert store.newest_valid(17) is not None


def test_a_file_system_without_links_keeps_them_in_the_manifest(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", refusing(errno.EPERM))
    made = save(store, {"a": b"1"}, (link("l", "a"),))
    assert store.newest_valid(17) == made
    assert made.files[1] == link("l", "a")


def test_names_that_the_file_system_takes_for_one_another_are_refused(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where upper and lower case are the same: two entries, one file, which is found under both names."""
    draft = store.begin(17)
    (draft.path / "A").write_bytes(b"1")
    (entry,) = store.measure(draft, {"A": 0o600})
    monkeypatch.setattr("gpuscale_tui.store.sealing.check_size", lambda root, entry: root / entry.name.upper())
    with pytest.raises(SnapshotError, match="'a' is missing: names that the file system takes for one another"):
        store.commit(draft, (entry, replace(entry, name="a")), META)
    assert store.numbers(17) == []


def test_a_full_disk_loses_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    first = save(store, {"a": b"1" * 5000})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    draft = store.begin(17)
    for number in range(40):
        (draft.path / f"file-{number}").write_bytes(b"x")
    entries = store.measure(draft, {f"file-{number}": 0o600 for number in range(40)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # the manifest is longer; Python ignores SIGXFSZ
    try:
        with pytest.raises(OSError, match="File too large"):
            store.commit(draft, entries, META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.numbers(17) == [1]
    assert store.newest_valid(17) == first
    store.discard(draft)
    assert [path.name for path in (store.root / "j17").iterdir()] == ["1"]


def test_a_manifest_of_an_older_program_is_read(store: SnapshotStore) -> None:
    made = save(store, {"a": b"1"})
    old = {
        "meta": {"job_id": 17, "attempt": 2, "worker_id": 3, "at": T0},
        "files": [{"name": "a", "size": 1, "mode": 0o640, "sha256": made.files[0].sha256}],
    }
    (made.path / "manifest.json").write_text(json.dumps(old, indent=1))
    (made.path / "meta.json").unlink()
    found = store.newest_valid(17)
    assert found is not None
    assert (found.meta, found.files, found.stored) == (SnapshotMeta(17, 2, 3, T0), made.files, None)
    assert found.fault is None
    later = {**old, "meta": {**old["meta"], "mood": "good"}, "files": [{**old["files"][0], "kind": "socket"}]}
    (made.path / "manifest.json").write_text(json.dumps(later))
    with pytest.raises(SnapshotError, match="of no kind that is known"):
        store.find(17, 1)


def test_verifying_tells_how_far_it_is_and_can_be_stopped(store: SnapshotStore) -> None:
    made = save(store, {"a": b"1" * 3_000_000, "b": b"2"})
    heard: list[tuple[int, int]] = []
    assert store.verify(made, lambda done, size: heard.append((done, size))) is None
    assert heard[-1] == (3_000_001, 3_000_001)
    assert [done for done, _ in heard] == [1 << 20, 2 << 20, 3_000_000, 3_000_001]

    def stop(done: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.verify(made, stop)


def test_reading_a_file_tells_at_its_end_that_it_has_changed(store: SnapshotStore) -> None:
    made = save(store, {"a": b"1" * 2_000_000})
    assert [len(piece) for piece in store.read(made, made.files[0])] == [1 << 20, 2_000_000 - (1 << 20)]
    with (made.files_path / "a").open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"X")
    pieces = store.read(made, made.files[0])
    assert len(next(pieces)) == 1 << 20
    next(pieces)
    with pytest.raises(SnapshotError, match="has changed"):
        next(pieces)


def test_partial_files_have_a_place_for_each_attempt(store: SnapshotStore) -> None:
    place = store.parts(17, 2)
    (place / "big").write_bytes(b"half")
    assert store.parts(17, 2) == place
    assert store.parts(17, 3) != place
    save(store, {"a": b"1"})
    assert store.clear(17) == 0, "they are needed as long as their attempt goes on"
    assert store.attempts_with_parts(17) == [2, 3]
    store.discard_parts(17, 2)
    store.discard_parts(17, 2)
    assert store.attempts_with_parts(17) == [3]
    assert (store.jobs(), store.numbers(17)) == ([17], [1])


def test_two_hundred_snapshots_of_which_three_are_kept(store: SnapshotStore, bench: Bench) -> None:
    """One file changes each time, one never, some are torn or rot: room is bounded, and a sound one is always there."""
    same, most = os.urandom(40_000), 0
    bench.submit(17)
    for turn in range(1, 201):
        made = save(store, {"model": turn.to_bytes(4, "big") * 2_500, "same": same})
        bench.write(snapshots.record_snapshot, 17, made.number, 1, 2, made.size, now=T0 + turn, epoch=None)
        if turn == 150:
            bench.write(snapshots.pin, 17, 150, now=T0, by="ana")
        if turn % 40 == 3:
            (made.files_path / "model").write_bytes(b"rotten" * 1_666 + b"1234")
        trusted = made.number if turn % 7 and turn % 40 != 3 else None
        pinned = bench.read(snapshots.pinned, 17)
        for number in store.superfluous(17, 3, pinned=pinned, trusted=trusted):
            assert bench.write(snapshots.mark_pruned, 17, number, now=T0, epoch=None)
            store.remove(17, number)
        newest = store.newest_valid(17)
        assert newest is not None
        assert newest.number == (turn - 1 if turn % 40 == 3 else turn)
        most = max(most, store.usage([17])[17])
    assert store.numbers(17) == [200, 199, 198, 150]
    assert bench.read(snapshots.kept, 17)[-1].number == 150
    assert most < 40_000 + 5 * 12_000, "the file that never changes is there once"
    assert {path.name for path in (store.root / "j17").iterdir()} == {".rotten", "150", "198", "199", "200"}
