"""Snapshots in object storage: what makes one, what breaks one, what is thrown away and when."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import zipfile
from dataclasses import replace

import pytest

from gpuscale_tui.model.objects import S3Place, parse_s3
from gpuscale_tui.store.archive import FileEntry, Snapshot, SnapshotError, SnapshotMeta
from gpuscale_tui.store.s3_archive import S3Archive
from gpuscale_tui.store.s3_bucket import Bucket
from gpuscale_tui.store.s3_client import ObjectStoreError
from tests.s3.server import BUCKET, Service

STEP = 1 if os.environ.get("GPUSCALE_FUZZ") else 11
"""Between two requests after which a program dies."""
META = SnapshotMeta(17, 1, 4, 1_700_000_000_000, step=40, job_name="train")


def entry(name: str, data: bytes) -> FileEntry:
    return FileEntry(name, len(data), 0o640, hashlib.sha256(data).hexdigest())


def store(archive: S3Archive, files: dict[str, bytes], meta: SnapshotMeta = META, *, after: int = 0) -> Snapshot:
    number = archive.begin(meta.job_id, after=after)
    entries = []
    held = archive.objects(meta.job_id)
    fresh = set()
    for name, data in files.items():
        entries.append(entry(name, data))
        if entries[-1].sha256 not in held:
            fresh.add(name)
            archive.bucket.put(archive.key(meta.job_id, entries[-1].sha256), data)
    return archive.commit(number, entries, meta, fresh=fresh)


def contents(service: Service) -> set[str]:
    return {key.rpartition("/")[2] for key in service.objects if "/objects/" in key}


def test_a_snapshot_is_read_as_it_was_stored(archive: S3Archive, service: Service) -> None:
    files = {"a.pt": b"weights", "deep/b": b"", "odd \n\\'\"\udcff": b"x" * 70_000}
    made = store(archive, files)
    other = S3Archive(archive.bucket)
    found = other.find(17, 1)
    assert (found.meta, found.files, found.stored) == (META, made.files, 70_007)
    assert {each.name: b"".join(other.read(found, each)) for each in found.files} == files
    assert other.verify(found) is None
    assert other.newest_valid(17) == found
    assert other.usage([17, 18]) == {17: 70_007, 18: 0}
    assert sorted(service.objects)[:3] == [
        "team/run/j17/1.json",
        "team/run/j17/1.marks.json",
        "team/run/j17/1.meta.json",
    ]
    assert json.loads(service.objects["team/run/j17/1.meta.json"].data)["step"] == 40


def test_without_its_manifest_there_is_no_snapshot(archive: S3Archive, service: Service) -> None:
    number = archive.begin(17, after=6)
    archive.bucket.put(archive.key(17, hashlib.sha256(b"x").hexdigest()), b"x")
    assert number == 7
    assert (archive.numbers(17), archive.snapshots(17), archive.newest_valid(17)) == ([], [], None)
    with pytest.raises(SnapshotError, match="snapshot 7 of j17: it is not there"):
        archive.find(17, 7)
    archive.discard_drafts(17)  # it may be another program's that is at work
    assert [key for key in service.objects if key.endswith(".claim")] == ["team/run/j17/7.claim"]
    S3Archive(archive.bucket, now=lambda: 10**14).discard_drafts(17)
    assert not [key for key in service.objects if key.endswith(".claim")]


def test_a_content_that_is_not_there_makes_no_snapshot(archive: S3Archive, service: Service) -> None:
    number = archive.begin(17)
    with pytest.raises(SnapshotError, match="'a' is missing"):
        archive.commit(number, [entry("a", b"never sent")], META)
    assert archive.numbers(17) == []


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a//b", ""])
def test_hostile_names_are_refused(archive: S3Archive, name: str) -> None:
    with pytest.raises(SnapshotError, match="is refused"):
        archive.commit(1, [entry(name, b"")], META)


def test_a_broken_one_is_skipped_with_the_reason(archive: S3Archive, service: Service) -> None:
    store(archive, {"a": b"one"})
    store(archive, {"a": b"two"})
    store(archive, {"a": b"three"})
    store(archive, {"a": b"four"})
    service.objects["team/run/j17/4.json"].data = b'{"files": ['
    del service.objects[f"team/run/j17/objects/{hashlib.sha256(b'three').hexdigest()}"]
    archive.bucket.put(archive.key(17, hashlib.sha256(b"two").hexdigest()), b"owt")
    told: list[tuple[int, str]] = []
    fresh = S3Archive(archive.bucket)
    found = fresh.newest_valid(17, lambda number, reason: told.append((number, reason)))
    assert found is not None
    assert found.number == 1
    assert [number for number, _ in told] == [4, 3, 2]
    assert "manifest cannot be read" in told[0][1]
    assert told[1:] == [(3, "'a' is missing"), (2, "'a' has changed since it was stored")]
    assert fresh.newest_valid(17, after=1) is None


def test_verify_reads_every_byte(archive: S3Archive, service: Service) -> None:
    made = store(archive, {"a": b"x" * 3_000_000, "b": b"x" * 3_000_000, "c": b"y"})
    seen: list[tuple[int, int]] = []
    assert archive.verify(made, lambda done, of: seen.append((done, of))) is None
    assert seen[-1] == (6_000_001, 6_000_001)
    held = service.objects[f"team/run/j17/objects/{made.files[0].sha256}"]
    held.data = held.data[:-1] + b"X"  # rots where it lies: the mark is still the old one
    assert archive.newest_valid(17) is not None
    assert archive.verify(made) == "'a' has changed since it was stored"
    with pytest.raises(SnapshotError, match="has changed"):
        list(archive.read(made, made.files[1]))


def test_pruning_frees_what_no_other_snapshot_names(archive: S3Archive, service: Service) -> None:
    for step in range(5):
        store(archive, {"shared": b"the same", "own": b"%d" % step})
    assert len(contents(service)) == 6
    assert archive.superfluous(17, 2, pinned={1}, trusted=5) == [3, 2]
    for number in (3, 2):
        archive.remove(17, number)
    archive.remove(17, 3)
    assert archive.numbers(17) == [5, 4, 1]
    assert len(contents(service)) == 4
    assert archive.usage([17]) == {17: 11}
    assert archive.begin(17, after=5) == 6
    assert all(archive.verify(each) is None for each in archive.snapshots(17))


def test_the_last_whole_one_is_never_superfluous(archive: S3Archive, service: Service) -> None:
    store(archive, {"a": b"whole"})
    for step in range(3):
        made = store(archive, {"a": b"%d" % step})
        del service.objects[f"team/run/j17/objects/{made.files[0].sha256}"]
    assert archive.superfluous(17, 1) == [3, 2]
    del service.objects[f"team/run/j17/objects/{hashlib.sha256(b'whole').hexdigest()}"]
    assert archive.superfluous(17, 1) == []


def test_nothing_goes_that_an_upload_under_way_may_name(archive: S3Archive, service: Service) -> None:
    store(archive, {"a": b"shared"})
    number = archive.begin(17)
    assert entry("a", b"shared").sha256 in archive.objects(17)  # so it is not sent again
    S3Archive(archive.bucket).remove(17, 1)
    made = archive.commit(number, [entry("a", b"shared")], META)
    assert archive.verify(made) is None
    archive.remove(17, made.number)
    assert contents(service) == set()


def test_a_removal_that_was_quicker_than_the_claim_makes_no_snapshot(
    archive: S3Archive, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(archive, {"a": b"shared"})
    number = archive.begin(17)
    put = archive.bucket.put

    def late(key: str, data: bytes) -> None:
        put(key, data)
        if key == f"j17/{number}.json":  # the removal that saw no claim deletes only now
            service.objects.pop(f"team/run/j17/objects/{entry('a', b'shared').sha256}")

    monkeypatch.setattr(archive.bucket, "put", late)
    with pytest.raises(SnapshotError, match="'a' is missing; it was removed meanwhile"):
        archive.commit(number, [entry("a", b"shared")], META)
    assert archive.numbers(17) == [1]


@pytest.mark.parametrize("last", range(4))
def test_a_removal_that_is_cut_short_is_finished_by_the_next(archive: S3Archive, service: Service, last: int) -> None:
    for step in range(3):
        store(archive, {"shared": b"s", "own": b"%d" % step})
    allowed = iter(range(last))
    service.rules.append(
        lambda asked: None if asked.method not in {"POST", "DELETE"} or next(allowed, None) is not None else "denied"
    )
    with contextlib.suppress(ObjectStoreError):
        archive.remove(17, 1)
    service.rules.clear()
    left = archive.snapshots(17)
    assert all(archive.verify(each) is None for each in left)
    archive.remove(17, 1)
    assert archive.numbers(17) == [3, 2]
    assert len(contents(service)) == 3


def test_a_claim_of_a_dead_engine_holds_nothing_for_ever(archive: S3Archive, service: Service) -> None:
    store(archive, {"a": b"x"})
    archive.begin(17)
    archive.bucket.begin_parts(archive.key(17, "0" * 64))
    archive.remove(17, 1)
    assert len(contents(service)) == 1
    later = S3Archive(archive.bucket, now=lambda: 10**14)
    later.remove(17, 1)
    assert contents(service) == set()
    assert not service.uploads
    archive.bucket.begin_parts(archive.key(17, "0" * 64))
    archive.discard_drafts(17)
    assert service.uploads
    later.discard_drafts(17)
    assert not service.uploads


@pytest.mark.parametrize("many_at_once", [True, False])
def test_more_objects_than_one_page_has(archive: S3Archive, service: Service, many_at_once: bool) -> None:
    service.keeps_checksums = many_at_once
    made = store(archive, {"a": b"x"})
    template = service.objects[f"team/run/j17/objects/{made.files[0].sha256}"]
    for number in range(1_500 if many_at_once else 30):
        name = hashlib.sha256(b"%d" % number).hexdigest()
        service.objects[f"team/run/j17/objects/{name}"] = replace(template)
    assert len(archive.objects(17)) > 30
    archive.remove(17, 1)
    assert contents(service) == set()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("denied", "access is denied while"),
        ("500", "refused while .*InternalError"),
    ],
)
def test_what_is_wrong_is_said(service: Service, monkeypatch: pytest.MonkeyPatch, fault: str, message: str) -> None:
    monkeypatch.setattr("gpuscale_tui.store.s3_client.TRIES", 1)
    archive = S3Archive(Bucket(S3Place(BUCKET), service.endpoint))
    service.rules.append(lambda asked: fault)
    with pytest.raises(ObjectStoreError, match=message) as caught:
        archive.numbers(17)
    assert caught.value.away == (fault == "500")


def test_other_buckets_keys_and_places(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuscale_tui.store.s3_client.TRIES", 1)
    with pytest.raises(ObjectStoreError, match="no such bucket; make it"):
        S3Archive(Bucket(S3Place("other"), service.endpoint)).numbers(17)
    with pytest.raises(ObjectStoreError, match="no answer while listing") as caught:
        S3Archive(Bucket(S3Place(BUCKET), "http://127.0.0.1:1")).numbers(17)
    assert caught.value.away
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(ObjectStoreError, match=r"credentials are refused .SignatureDoesNotMatch"):
        S3Archive(Bucket(S3Place(BUCKET), service.endpoint)).numbers(17)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ObjectStoreError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        S3Archive(Bucket(S3Place(BUCKET), service.endpoint)).numbers(17)


def test_places() -> None:
    assert parse_s3("s3://snaps") == S3Place("snaps")
    assert parse_s3("s3://snaps/") == S3Place("snaps")
    assert parse_s3("s3://my.snaps/team/run-1/") == S3Place("my.snaps", "team/run-1")
    for wrong in ("snaps", "http://snaps/x", "s3:/snaps", "s3://S", "s3://ab", "s3://snaps//x", "s3://snaps/a/../b"):
        with pytest.raises(ValueError):
            parse_s3(wrong)


def test_files_that_are_cut_off_are_faults(archive: S3Archive, service: Service) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("data.pkl", os.urandom(900_000))
    store(archive, {"ck.pt": whole.getvalue()})
    made = store(archive, {"ck.pt": whole.getvalue()[:-100]})
    assert made.faults == {"ck.pt": "the end of a ZIP file is missing"}
    fresh = S3Archive(archive.bucket)
    assert fresh.find(17, 2).faults == made.faults
    told: list[int] = []
    best = fresh.newest_valid(17, lambda number, _: told.append(number))
    assert best is not None
    assert (best.number, told) == (1, [2])
    read = sum(each.method == "GET" and "/objects/" in each.key for each in service.asked)
    assert read <= 8
    archive.remove(17, 1)
    left = fresh.newest_valid(17)
    assert left is not None
    assert left.number == 2


def test_the_prefix_of_another_home_is_refused(archive: S3Archive, service: Service) -> None:
    store(archive, {"a": b"x"})
    ours = S3Archive(archive.bucket, owner="ours")
    assert ours.numbers(17) == [1]
    assert S3Archive(archive.bucket, owner="ours").numbers(17) == [1]
    other = S3Archive(archive.bucket, owner="other")
    for _ in range(2):
        with pytest.raises(ObjectStoreError, match="snapshots of another home; give this one a prefix of its own"):
            other.newest_valid(17)
    with pytest.raises(ObjectStoreError, match="another home"):
        other.begin(17)
    with pytest.raises(ObjectStoreError, match="another home"):
        other.remove(17, 1)
    assert ours.numbers(17) == [1]


def test_a_crash_at_any_request_leaves_only_whole_snapshots(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store, store again, prune: cut off after each number of requests, and gone on with by another program."""
    monkeypatch.setattr("gpuscale_tui.store.s3_client.TRIES", 1)
    bucket = Bucket(S3Place(BUCKET), service.endpoint)

    def life(archive: S3Archive) -> None:
        store(archive, {"shared": b"s", "own": b"1"}, after=1)
        store(archive, {"shared": b"s", "own": b"2"}, after=2)
        for number in archive.superfluous(17, 1):
            archive.remove(17, number)

    tried = whole = 0
    for last in itertools.count(0, STEP):
        service.clear()
        store(S3Archive(bucket), {"shared": b"s", "own": b"0"})
        allowed = iter(range(last))
        service.rules.append(lambda asked, allowed=allowed: None if next(allowed, None) is not None else "denied")  # type: ignore[misc]
        try:
            life(S3Archive(bucket))
            break
        except ObjectStoreError:
            service.rules.clear()
        after = S3Archive(bucket, now=lambda: 10**14)
        assert after.newest_valid(17) is not None
        assert [after.verify(each) for each in after.snapshots(17)] == [None] * len(after.numbers(17))
        made = store(after, {"shared": b"s", "own": b"3"}, after=3)
        for number in after.superfluous(17, 1, trusted=made.number):
            after.remove(17, number)
        assert after.verify(made) is None
        tried += 1
        whole += contents(service) == {entry.sha256 for entry in made.files}
    assert last > 30
    assert whole == tried  # nothing is left behind
