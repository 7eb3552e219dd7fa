"""What machines do by themselves through signed addresses: with curl, with Python, with busybox's programs around."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.object_upload import MIB, Fetching, Sending, Way, fetch, part_sums, send
from gpuscale_tui.store.s3_archive import S3Archive
from gpuscale_tui.store.s3_bucket import Part
from tests.remote.conftest import Site, in_process
from tests.s3.server import Service

ODD = "odd {1,2}\n[a-b] \\ \"quoted\" 'single' \t\r\v%20 \udcff#1"
WAYS: tuple[Way, ...] = ("curl", "python3")


@pytest.fixture
async def site(
    request: pytest.FixtureRequest, tmp_path: Path, client_key: Path, host_key: asyncssh.SSHKey
) -> AsyncIterator[Site]:
    kind = getattr(request, "param", "dash")
    async with in_process(kind, tmp_path, client_key=client_key, host_key=host_key) as made:
        if made.server is not None:
            made.server.path = os.environ["PATH"]
        yield made


@pytest.fixture
async def machine(site: Site) -> Machine:
    (site.home / "ck").mkdir()
    return await site.connect()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sending(archive: S3Archive, name: str, data: bytes) -> Sending:
    signed = archive.bucket.sign_put(archive.key(17, sha(data)), len(data), sha(data))
    return Sending(name, len(data), signed.url, signed.headers)


@pytest.mark.parametrize(
    ("site", "way"), [("dash", "curl"), ("bash", "curl"), ("busybox", "curl"), ("dash", "python3")], indirect=["site"]
)
async def test_files_travel_there_and_back(
    archive: S3Archive, service: Service, site: Site, machine: Machine, way: Way
) -> None:
    files = {ODD: b"odd", "empty": b"", "-T": b"an option", "deep/one": os.urandom(300_000)}
    (site.home / "ck/deep").mkdir()
    for name, data in files.items():
        (site.home / "ck" / name).write_bytes(data)
    asked = [sending(archive, name, data) for name, data in files.items()]
    assert await send(machine, "ck", way, asked) == (200,) * 4
    assert {service.objects[f"team/run/{archive.key(17, sha(data))}"].data for data in files.values()} == set(
        files.values()
    )
    for name in files:
        (site.home / "ck" / name).write_bytes(b"")
    (site.home / "ck/deep/one").write_bytes(files["deep/one"][:1000])
    wanted = [
        Fetching(name, len(data), archive.bucket.sign_get(archive.key(17, sha(data))).url, 1000 if "/" in name else 0)
        for name, data in files.items()
    ]
    assert [status // 100 for status in await fetch(machine, "ck", way, wanted)] == [2] * 4
    assert {name: (site.home / "ck" / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("way", WAYS)
async def test_parts(archive: S3Archive, service: Service, site: Site, machine: Machine, way: Way) -> None:
    data = os.urandom(2 * MIB + 777)
    (site.home / "ck" / ODD).write_bytes(data)
    sums = await part_sums(machine, "ck", ODD, len(data), MIB)
    pieces = [data[:MIB], data[MIB : 2 * MIB], data[2 * MIB :]]
    assert list(sums) == [sha(piece) for piece in pieces]
    key = archive.key(17, sha(data))
    upload = archive.bucket.begin_parts(key)
    asked = []
    for number, piece in enumerate(pieces):
        signed = archive.bucket.sign_part(key, upload, Part(number + 1, len(piece), "", sums[number]))
        asked.append(Sending(ODD, len(piece), signed.url, signed.headers, number * MIB, whole=False))
    assert await send(machine, "ck", way, asked[1:]) == (200, 200)
    assert archive.bucket.begin_parts(key) == upload  # found again, by whoever goes on
    assert set(archive.bucket.parts(key, upload)) == {2, 3}
    assert await send(machine, "ck", way, asked[:1]) == (200,)
    archive.bucket.finish_parts(key, upload, [archive.bucket.parts(key, upload)[number] for number in (1, 2, 3)])
    assert service.objects[f"team/run/{key}"].data == data
    assert archive.bucket.look(key) is not None


@pytest.mark.parametrize("way", WAYS)
async def test_only_what_was_hashed_is_taken(
    archive: S3Archive, service: Service, site: Site, machine: Machine, way: Way
) -> None:
    (site.home / "ck/a").write_bytes(b"something else of 26 bytes")
    (site.home / "ck/b").write_bytes(b"fine")
    asked = [sending(archive, "a", b"what was hashed a while ag"), sending(archive, "b", b"fine")]
    assert await send(machine, "ck", way, asked) == (400, 200)
    assert len(service.objects) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_addresses_expire_and_services_vanish(
    archive: S3Archive, service: Service, site: Site, machine: Machine, way: Way
) -> None:
    (site.home / "ck/a").write_bytes(b"a")
    (site.home / "ck/b").write_bytes(b"b")
    asked = [sending(archive, "a", b"a"), sending(archive, "b", b"b")]
    service.ahead_sec = 4_000
    assert await send(machine, "ck", way, asked) == (403, 403)
    service.ahead_sec = 0
    service.rules.append(lambda one: "drop")
    assert await send(machine, "ck", way, asked) == (0, 0)  # the second is not even tried
    assert service.objects == {}
    service.rules.clear()
    wanted = [Fetching("a", 1, archive.bucket.sign_get("j17/objects/none").url)]
    assert await fetch(machine, "ck", way, wanted) == (404,)
    assert (site.home / "ck/a").read_bytes() == b"a"


async def test_refusals(archive: S3Archive, site: Site, machine: Machine) -> None:
    with pytest.raises(TransferError, match="there is no directory nowhere"):
        await send(machine, "nowhere", "curl", [sending(archive, "a", b"a")])
    with pytest.raises(ValueError, match="handed over exactly"):
        await send(machine, "ck", "curl", [Sending("a", 1, 'http://x/"\noutput = "/etc/passwd')])
    with pytest.raises(TransferError):
        await send(machine, "ck", "curl", [Sending("../a", 1, "http://x/")])
    assert await part_sums(machine, "ck", "none", MIB, MIB) in {(), (sha(b""),)}


@pytest.mark.parametrize("way", WAYS)
async def test_the_jobs_own_files_are_no_part_of_it(
    archive: S3Archive, service: Service, site: Site, machine: Machine, way: Way
) -> None:
    (site.home / ".curlrc").write_text("proxy = http://127.0.0.1:1\n")
    (site.home / "ck/json.py").write_text("raise SystemExit('read')\n")
    assert await send(machine, "ck", way, [sending(archive, "json.py", b"raise SystemExit('read')\n")]) == (200,)
