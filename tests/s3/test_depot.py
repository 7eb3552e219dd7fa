"""Snapshots of directories on machines, sent to object storage by the machines themselves, and put back from there."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import asyncssh
import pytest

from gpuscale_tui.engine import s3_carrier
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.depot import Seen, Taken
from gpuscale_tui.engine.s3_depot import S3Depot
from gpuscale_tui.model.objects import MIB, PartSizes
from gpuscale_tui.model.settings import CheckpointConfig, Settings
from gpuscale_tui.remote.errors import TransferError, Unreachable
from gpuscale_tui.remote.site import OpenSite
from gpuscale_tui.store.archive import Snapshot, SnapshotError, SnapshotMeta
from gpuscale_tui.store.both import BothArchives
from gpuscale_tui.store.checkpoints import SnapshotStore
from gpuscale_tui.store.s3_archive import S3Archive
from gpuscale_tui.store.s3_client import ObjectStoreError
from tests.remote.conftest import SHELLS, Site, in_process
from tests.remote.proxy import proxying
from tests.s3.server import Asked, Service

SMALL = PartSizes(2 * MIB, MIB)
ODD = "odd {1,2}\n[a-b] \\ \"quoted\" 'single' \udcff#1"


@dataclass
class Bench:
    """A depot, a machine, and what the engine was told."""

    depot: S3Depot
    site: OpenSite
    place: Site
    warnings: list[str] = field(default_factory=list)
    seen: Mapping[str, Seen] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.place.home / "job/checkpoints"

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    async def try_to_take(self, **more: object) -> Taken | None:
        listing = await self.site.list_tree("job/checkpoints")
        meta = SnapshotMeta(17, 1, 4, 1_700_000_000_000)
        return await self.depot.take(
            self.site, "job/checkpoints", listing, tuple(listing), meta, self.seen,
            **more,  # type: ignore[arg-type]
        )  # fmt: skip

    async def take(self) -> Snapshot:
        taken = await self.try_to_take()
        assert taken is not None
        assert taken.snapshot is not None
        self.seen = taken.seen
        return taken.snapshot

    async def put_back(self, snapshot: Snapshot) -> None:
        shutil.rmtree(self.root)
        await self.depot.put_back(self.site, "job/checkpoints", snapshot)


def tree(root: Path) -> dict[str, object]:
    """What a directory holds: bytes of files with their modes, targets of links, directories."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)  # noqa: PTH115
        else:
            found[name] = None if path.is_dir() else (path.stat().st_mode & 0o777, path.read_bytes())
    return found


@pytest.fixture(scope="session")
def bare_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with busybox's programs, without curl and python3."""
    place = tmp_path_factory.mktemp("bare")
    if not Path(SHELLS["busybox"]).exists():
        pytest.skip("busybox is not installed")
    listed = subprocess.run([SHELLS["busybox"], "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        (place / name).symlink_to(SHELLS["busybox"])
    return place


@pytest.fixture
async def bench(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    archive: S3Archive,
    tmp_path: Path,
    client_key: Path,
    host_key: asyncssh.SSHKey,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Bench]:
    monkeypatch.setattr(s3_carrier, "PAUSE_SEC", 0.01)
    warnings: list[str] = []

    async def warn(text: str, **_about: object) -> None:
        warnings.append(text)

    async def read(*_query: object) -> int:
        return 0

    context = SimpleNamespace(
        settings=replace(Settings(), checkpoints=CheckpointConfig()), db=SimpleNamespace(read=read), warn=warn,
        snapshots=SnapshotStore(tmp_path / "snapshots"),
    )  # fmt: skip
    async with in_process("dash", tmp_path, client_key=client_key, host_key=host_key) as place:
        assert place.server is not None
        place.server.path = tools_for(getattr(request, "param", "curl"), request, tmp_path)
        (place.home / "job/checkpoints").mkdir(parents=True)
        site = OpenSite(await place.connect())
        yield Bench(S3Depot(cast("Context", context), archive, SMALL), site, place, warnings)


def tools_for(way: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a machine's programs are: with curl, with Python alone, with neither."""
    if way == "curl":
        return os.environ["PATH"]
    bare: Path = request.getfixturevalue("bare_tools")
    if way == "neither":
        return str(bare)
    own = tmp_path / "python-only"
    own.mkdir()
    (own / "python3").symlink_to(os.path.realpath(sys.executable))
    return f"{own}:{bare}"


EVERY_WAY = pytest.mark.parametrize(
    ("bench", "size"), [("curl", 2 * MIB + 5), ("python3", 300_000), ("neither", 2 * MIB + 5)], indirect=["bench"]
)


@EVERY_WAY
async def test_a_tree_comes_back_as_it_was(bench: Bench, service: Service, archive: S3Archive, size: int) -> None:
    large = os.urandom(size)
    bench.write({ODD: b"odd", "step-1/model.bin": large, "step-1/empty": b"", "twin": large, "ro": b"read only"})
    (bench.root / "ro").chmod(0o444)
    (bench.root / "step-1/model.bin").chmod(0o640)
    (bench.root / "nothing in it").mkdir()
    (bench.root / "last").symlink_to("step-1/model.bin")
    before = tree(bench.root)
    made = await bench.take()
    assert made.stored == len(large) + 3 + 9
    assert archive.verify(made) is None
    through_here = bool(bench.warnings)
    assert service.sent(signed_url=True) == (0 if through_here else made.stored)
    assert service.sent(signed_url=False) < 20_000 + (made.stored if through_here else 0)
    await bench.put_back(made)
    assert tree(bench.root) == before
    assert len(bench.warnings) == (1 if through_here else 0)


async def test_what_is_unchanged_is_not_sent_again(bench: Bench, service: Service, archive: S3Archive) -> None:
    bench.write({"a": os.urandom(3 * MIB), "b": os.urandom(50_000)})
    await bench.take()
    sent = service.sent(signed_url=True)
    commands = len(bench.place.server.commands) if bench.place.server else 0
    again = await bench.take()
    assert (again.number, again.stored) == (2, 0)
    assert service.sent(signed_url=True) == sent
    assert bench.place.server is not None
    assert len(bench.place.server.commands) - commands < 6  # looks at the directory; nothing is hashed
    bench.seen = {}  # another engine: it hashes, and finds that the contents are there
    third = await bench.take()
    assert (third.number, third.stored) == (3, 0)
    assert service.sent(signed_url=True) == sent
    assert archive.usage([17]) == {17: 3 * MIB + 50_000}


async def test_hardly_anything_goes_through_here(bench: Bench, service: Service) -> None:
    """The bytes of 4 MiB of files on the way between this computer and the machine, counted by a proxy."""
    bench.write({"large": os.urandom(3 * MIB), **{f"part-{number}": os.urandom(MIB // 8) for number in range(8)}})
    async with proxying(bench.place.endpoint.port) as proxy:
        bench.site = OpenSite(await bench.place.connect(port=proxy.port))
        made = await bench.take()
        await bench.put_back(made)
        await bench.site.close()
    assert made.stored == 4 * MIB
    assert proxy.up + proxy.down < 150_000
    assert service.sent(signed_url=False) < 10_000


async def test_another_machine_goes_on_from_there(  # noqa: PLR0917 - fixtures
    bench: Bench, service: Service, archive: S3Archive, tmp_path: Path, client_key: Path, host_key: asyncssh.SSHKey
) -> None:
    bench.write({"model.bin": os.urandom(2 * MIB + 1), "state.json": b"{}"})
    before = tree(bench.root)
    await bench.take()
    bench.place.machines.pop_all()
    found = S3Archive(archive.bucket).newest_valid(17)
    assert found is not None
    (tmp_path / "second").mkdir()
    async with in_process("bash", tmp_path / "second", client_key=client_key, host_key=host_key) as other:
        site = OpenSite(await other.connect())
        await bench.depot.put_back(site, "new/checkpoints", found)
        assert tree(other.home / "new/checkpoints") == before
    await bench.site.close()


async def test_a_torn_upload_goes_on_where_it_was(bench: Bench, service: Service, archive: S3Archive) -> None:
    bench.write({"model.bin": os.urandom(4 * MIB)})
    came = iter(range(2))
    service.rules.append(lambda asked: None if not asked.signed_url or next(came, None) is not None else "500")
    with pytest.raises(TransferError, match="answers the machine with status 500"):
        await bench.try_to_take()
    assert archive.numbers(17) == []
    assert [len(each.parts) for each in service.uploads.values()] == [2]
    service.rules.clear()
    service.asked.clear()
    made = await bench.take()
    assert archive.verify(made) is None
    assert service.sent(signed_url=True) == 2 * MIB


@pytest.mark.parametrize("size", [100_000, 3 * MIB])
async def test_a_byte_that_changes_on_the_way_is_noticed(
    bench: Bench, service: Service, archive: S3Archive, size: int
) -> None:
    bench.write({"model.bin": os.urandom(size)})
    flips = iter(["flip"])
    service.rules.append(lambda asked: next(flips, None) if asked.signed_url else None)
    taken = await bench.try_to_take()  # a part is sent again at once, a whole file with the next try
    assert (taken is None) == (size == 100_000)
    assert next(flips, "flipped") == "flipped"
    assert archive.verify(await bench.take()) is None


@pytest.mark.parametrize("bench", ["curl", "neither"], indirect=True)
async def test_a_service_that_keeps_no_hashes_is_read_back(bench: Bench, service: Service, archive: S3Archive) -> None:
    service.keeps_checksums = False
    bench.write({"model.bin": os.urandom(3 * MIB), "small": b"small", "other": b"other"})
    flips = iter(["flip"])
    service.rules.append(lambda asked: next(flips, None) if asked.signed_url and "small" not in asked.key else None)
    made = await bench.take()  # what was flipped is sent again
    assert archive.verify(made) is None


async def test_files_that_change_meanwhile_are_taken_again(bench: Bench, service: Service, archive: S3Archive) -> None:
    bench.write({"a": b"one", "b": b"two"})

    def rewrite(asked: Asked) -> None:
        if asked.signed_url:
            bench.write({"a": b"another"})

    service.rules.append(rewrite)  # type: ignore[arg-type]
    assert await bench.try_to_take() is None
    assert archive.numbers(17) == []
    service.rules.clear()
    made = await bench.take()
    assert [entry.size for entry in made.files] == [7, 3]
    assert not [key for key in service.objects if key.endswith(".claim")]


async def test_addresses_that_expired_are_signed_again(bench: Bench, service: Service, archive: S3Archive) -> None:
    bench.write({"a": b"one"})
    service.ahead_sec = 10_000
    asked: list[Asked] = []

    def heard(one: Asked) -> None:
        if one.signed_url:
            asked.append(one)
            service.ahead_sec = 10_000 if len(asked) < 2 else 0

    service.rules.append(heard)  # type: ignore[arg-type]
    await bench.take()
    assert len(asked) == 2


async def test_a_content_that_is_gone_or_another_is_never_put_back(
    bench: Bench, service: Service, archive: S3Archive
) -> None:
    bench.write({"a": b"one"})
    first = await bench.take()
    bench.write({"a": b"two"})
    second = await bench.take()
    bench.write({"a": b"three"})
    third = await bench.take()
    del service.objects[f"team/run/{archive.key(17, third.files[0].sha256)}"]
    service.objects[f"team/run/{archive.key(17, second.files[0].sha256)}"].data = b"owt"
    for broken, reason in ((third, "'a' is missing"), (second, "'a' has changed since it was stored")):
        with pytest.raises(SnapshotError, match=reason):
            await bench.put_back(broken)
    assert archive.newest_valid(17) == first  # what was read once is known to be broken
    await bench.put_back(first)
    assert (bench.root / "a").read_bytes() == b"one"
    bench.write({"a": b"two"})
    bench.seen = {}
    healed = await bench.take()  # what turned out to be wrong is sent again
    assert [archive.verify(each) for each in (healed, second)] == [None, None]
    assert archive.newest_valid(17) == healed


async def test_a_download_that_breaks_off_goes_on(bench: Bench, service: Service, archive: S3Archive) -> None:
    data = os.urandom(3 * MIB)
    bench.write({"a": data, "b": b"b"})
    made = await bench.take()
    key = f"team/run/{archive.key(17, made.files[0].sha256)}"
    whole = service.objects[key].data
    service.asked.clear()

    def cut(asked: Asked) -> str | None:
        got = asked.method == "GET" and asked.key == key
        return "cut" if got and sum(each.key == key for each in service.asked) == 1 else None

    service.rules.append(cut)
    await bench.put_back(made)
    assert (bench.root / "a").read_bytes() == whole


async def test_a_service_that_goes_away_and_comes_back(bench: Bench, service: Service, archive: S3Archive) -> None:
    bench.write({"a": os.urandom(3 * MIB)})
    parts = iter(range(2))
    down = False

    def dies(asked: Asked) -> str | None:
        nonlocal down
        down = down or (asked.signed_url and next(parts, None) is None)
        return "drop" if down else None

    service.rules.append(dies)
    with pytest.raises((ObjectStoreError, TransferError)):
        await bench.try_to_take()
    service.rules.clear()
    assert archive.numbers(17) == []
    assert archive.verify(await bench.take()) is None


async def test_a_machine_that_cannot_reach_it_sends_through_here(
    bench: Bench, service: Service, archive: S3Archive
) -> None:
    bench.write({"a": os.urandom(100_000)})
    service.rules.append(lambda asked: "drop" if asked.signed_url else None)
    made = await bench.take()
    await bench.put_back(made)
    bench.write({"b": b"b"})
    bench.seen = {}
    assert archive.verify(await bench.take()) is None
    assert len(bench.warnings) == 1
    assert "gets no answer there: snapshots go between it and s3://snaps/team/run at" in bench.warnings[0]
    assert "X-Amz" not in bench.warnings[0]


async def test_a_machine_that_vanishes_leaves_no_snapshot(bench: Bench, service: Service, archive: S3Archive) -> None:
    bench.write({"a": os.urandom(3 * MIB)})
    loop = asyncio.get_running_loop()

    def vanish(asked: Asked) -> None:
        if asked.signed_url:
            loop.call_soon_threadsafe(bench.site._machine._connection.abort)

    service.rules.append(vanish)  # type: ignore[arg-type]
    with pytest.raises(Unreachable):
        await bench.try_to_take()
    assert archive.numbers(17) == []
    assert not [key for key in service.objects if key.endswith(".claim")]


async def test_files_that_may_be_cut_off_are_judged_where_they_are(bench: Bench, service: Service) -> None:
    bench.write({"good.json": b'{"a": 1}', "torn.json": b'{"a": ', "noise": b"what is this"})
    taken = await bench.try_to_take(suspects={"good.json", "torn.json", "noise"})
    assert taken is not None
    assert taken.snapshot is None
    assert [name for name, _ in taken.torn] == ["noise", "torn.json"]


async def test_too_much_is_refused(bench: Bench, service: Service) -> None:
    settings = bench.depot.context.settings
    bench.depot.context.settings = replace(settings, checkpoints=replace(settings.checkpoints, max_mb=0.05))
    bench.write({"a": os.urandom(100_000)})
    with pytest.raises(TransferError, match=r"above checkpoints.max_mb"):
        await bench.try_to_take()


async def test_snapshots_of_before_are_found_and_put_back(bench: Bench, service: Service, archive: S3Archive) -> None:
    store = bench.depot.context.snapshots
    draft = store.begin(17)
    (draft.path / "old").write_bytes(b"from the directory")
    old = store.commit(draft, {"old": 0o600}, SnapshotMeta(17, 1, 4, 1))
    both = BothArchives(archive, store)
    assert both.newest_valid(17) == old
    await bench.put_back(old)
    assert (bench.root / "old").read_bytes() == b"from the directory"
    new = await bench.take()
    assert new.number == 2
    assert both.numbers(17) == [2, 1]
    assert both.newest_valid(17) == new
    assert [both.verify(both.find(17, number)) for number in (1, 2)] == [None, None]
    assert both.superfluous(17, 1, trusted=2) == [1]
    both.remove(17, 1)
    assert both.numbers(17) == [2]
    assert b"".join(both.read(new, new.files[0])) == b"from the directory"
    del service.objects[f"team/run/{archive.key(17, new.files[0].sha256)}"]
    told: list[tuple[int, str]] = []
    assert both.newest_valid(17, lambda number, why: told.append((number, why))) is None
    assert told == [(2, "'old' is missing")]
