"""What a machine sends is not believed: strange control lines, floods, silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.remote import channel, protocol
from gpuscale_tui.remote.attempts import AttemptRef, Sink, attach, execute, remove, status, stop
from gpuscale_tui.remote.connection import Machine, connect
from gpuscale_tui.remote.errors import RemoteError, TransferError, Unreachable
from gpuscale_tui.remote.keys import ensure_client_key
from gpuscale_tui.remote.launch import Launch
from gpuscale_tui.remote.listing import list_tree
from tests.remote.conftest import Log, until
from tests.remote.ssh_server import listening

REF = AttemptRef(".g", "j1")
BEGIN = b"gpuscale:begin\n"


class Liar:
    """Answers every command with the same prepared bytes, then ends with a status, hangs or floods."""

    def __init__(self, stdout: bytes = b"", stderr: bytes = b"", *, status: int | None = 0, flood: str = "") -> None:
        self.stdout, self.stderr, self.status, self.flood = stdout, stderr, status, flood
        self.sent = 0

    async def __call__(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        try:
            process.stdout.write(BEGIN + self.stdout)
            process.stderr.write(self.stderr)
            if self.flood:
                await self._flood(process)
            if self.status is None:
                await process.channel.wait_closed()
            else:
                process.exit(self.status)
        except (OSError, asyncssh.Error):
            return

    async def _flood(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        target = process.stdout if self.flood == "stdout" else process.stderr
        block = b"gs:running\n" * 3000 if self.flood == "controls" else b"x" * 32_000
        while not process.channel.is_closing():
            target.write(block)
            self.sent += len(block)
            await target.drain()
            await asyncio.sleep(0)


class lying:  # noqa: N801 - reads as a function
    """A connection to a machine that lies."""

    def __init__(self, liar: Liar, client_key: Path, host_key: asyncssh.SSHKey) -> None:
        self._liar, self._client_key = liar, client_key
        self._server = listening(liar, public_key=ensure_client_key(client_key), host_key=host_key)

    async def __aenter__(self) -> Machine:
        port = await self._server.__aenter__()
        self._machine = await connect(Endpoint("127.0.0.1", port), client_key=self._client_key)
        return self._machine

    async def __aexit__(self, *details: object) -> None:
        await self._machine.close()
        await self._server.__aexit__(None, None, None)


LIES = [
    b"gs:exit 99999999999999999999999999 0 0 0\n",
    b"gs:exit 256 0 0 0\n",
    b"gs:exit -1 0 0 0\n",
    b"gs:exit 0 2 0 0\n",
    "gs:exit ٣ 0 0 0\n".encode(),
    b"gs:exit 0 0\n",
    b"gs:state exited 0 0 0 1e9 0\n",
    b"gs:state exited 0 0 0 99999999999999999999 0\n",
    b"gs:state exited - - - 5 0\n",
    b"gs:state flying 0 0 0 5 0\n",
    b"gs:state exited 0 0 0\n",
    b"gs:state\n",
    b"gs:\n\x1b]0;title\x07\n",
    b"gs:exit 0 0 0 0" + b" " * 1000 + b"\n",
    b"",
]


@pytest.mark.parametrize("lie", LIES)
async def test_nonsense_is_no_answer(client_key: Path, host_key: asyncssh.SSHKey, lie: bytes) -> None:
    async with lying(Liar(stderr=lie), client_key, host_key) as machine:
        for question in (
            execute(machine, REF, Launch(command="x"), offset=0, sink=Log()),
            attach(machine, REF, offset=0, sink=Log()),
            status(machine, REF),
            stop(machine, REF, grace_sec=0),
        ):
            async with asyncio.timeout(60):
                with pytest.raises(RemoteError, match=r"tester|root@127"):
                    await question


@pytest.mark.parametrize("flood", ["stderr", "controls"])
@pytest.mark.parametrize("claim", [b"", b"gs:started\n", b"gs:running\n"])
async def test_a_flood_of_stderr_is_given_up(
    client_key: Path, host_key: asyncssh.SSHKey, flood: str, claim: bytes
) -> None:
    liar = Liar(stderr=claim, flood=flood)
    async with lying(liar, client_key, host_key) as machine, asyncio.timeout(60):
        with pytest.raises(RemoteError):
            await attach(machine, REF, offset=0, sink=Log())
        with pytest.raises(RemoteError):
            await execute(machine, REF, Launch(command="x"), offset=0, sink=Log())
        with pytest.raises(RemoteError):
            await status(machine, REF)
        with pytest.raises(RemoteError):
            await remove(machine, REF)
    assert liar.sent < 64 * 1024 * 1024


async def test_a_flood_of_output_is_held_back(client_key: Path, host_key: asyncssh.SSHKey) -> None:
    liar = Liar(stderr=b"gs:running\n", flood="stdout")
    gate = asyncio.Event()

    async def slow(data: bytes) -> None:
        await gate.wait()

    async with lying(liar, client_key, host_key) as machine:
        task = asyncio.create_task(attach(machine, REF, offset=0, sink=slow))
        await until(lambda: liar.sent, "the flood to begin")
        before = -1
        while liar.sent != before:
            before = liar.sent
            await asyncio.sleep(0.2)
        assert 0 < liar.sent < 16 * 1024 * 1024
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_first_output_beyond_the_protocol_is_refused(client_key: Path, host_key: asyncssh.SSHKey) -> None:
    async with lying(Liar(b"x" * 70_000, b"gs:exit 0 0 0 0\n"), client_key, host_key) as machine:
        with pytest.raises(RemoteError, match="more output"):
            await execute(machine, REF, Launch(command="x"), offset=0, sink=Log())


async def test_a_size_without_bytes_ends(client_key: Path, host_key: asyncssh.SSHKey) -> None:
    async with lying(Liar(stderr=b"gs:state exited 0 0 0 999999999999 0\n"), client_key, host_key) as machine:
        with pytest.raises(RemoteError, match="less output than it said"):
            await attach(machine, REF, offset=0, sink=Log())


async def test_more_bytes_than_the_size_are_not_delivered(client_key: Path, host_key: asyncssh.SSHKey) -> None:
    log = Log()
    liar = Liar(stderr=b"gs:state exited 0 0 0 10 0\n", flood="stdout")
    async with lying(liar, client_key, host_key) as machine, asyncio.timeout(60):
        with pytest.raises((RemoteError, TimeoutError)):
            await attach(machine, REF, offset=0, sink=_limited(log))
    assert len(log.data) < 64 * 1024 * 1024


def _limited(log: Log) -> Sink:
    async def sink(data: bytes) -> None:
        await log(data)
        if len(log.data) > 4 * 1024 * 1024:
            raise RemoteError("as much as we store of one log")

    return sink


async def test_silence_is_bounded(client_key: Path, host_key: asyncssh.SSHKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SEC", 0.2)
    for said in (b"", b"gs:started\n", b"gs:exit 0 0 0 0\n", b"gs:running\n"):
        async with lying(Liar(stderr=said, status=None), client_key, host_key) as machine, asyncio.timeout(60):
            with pytest.raises(Unreachable):
                await execute(machine, REF, Launch(command="x"), offset=0, sink=Log())
            with pytest.raises(Unreachable):
                await attach(machine, REF, offset=0, sink=Log())
    async with lying(Liar(status=None), client_key, host_key) as machine:
        with pytest.raises(Unreachable, match=r"probe gave no end within 0\.2 s"):
            await machine.run("x", timeout_sec=0.2, label="probe")


ROOT = b"41ed 4096 7 17 17 2026-01-01 00:00:00.5|2026-01-01 00:00:00.5 .//.\n"
FACTS = b"81a4 5 7 17 17 2026-01-01 00:00:00.5|2026-01-01 00:00:00.5 .//."
LINK = FACTS.replace(b"81a4", b"a1ff")
LISTINGS = {
    "nothing": b"",
    "no clock": ROOT,
    "only a clock": b"17.5\n",
    "no root": b"17\n" + FACTS + b"/a\n",
    "no facts": b"17\n" + ROOT + b"x .//./a\n",
    "a size beyond": b"17\n" + ROOT + FACTS.replace(b" 5 ", b" 99999999999999999999 ") + b"/a\n",
    "a time beyond": b"17\n" + ROOT + FACTS.replace(b" 17 ", b" 9999999999999 ") + b"/a\n",
    "a link that is too short": b"17\n" + ROOT + LINK + b"/a//xyz\n",
    "a link that is too long": b"17\n" + ROOT + LINK + b"/a//" + b"x" * 50 + b"\n" + FACTS + b"/b\n",
    "one line": b"17\n" + ROOT.strip() + FACTS + b"/a\n",
    "an endless name": b"17\n" + ROOT + FACTS + b"/" + b"x" * 200_000,
    "an endless target": b"17\n" + ROOT + LINK.replace(b" 5 ", b" 500000 ") + b"/a//" + b"x" * 400_000,
}


@pytest.mark.parametrize("kind", list(LISTINGS))
async def test_a_listing_that_makes_no_sense(client_key: Path, host_key: asyncssh.SSHKey, kind: str) -> None:
    async with lying(Liar(LISTINGS[kind]), client_key, host_key) as machine, asyncio.timeout(60):
        with pytest.raises(TransferError):
            await list_tree(machine, "ck")


async def test_what_cannot_be_kept_is_left_out_by_name(client_key: Path, host_key: asyncssh.SSHKey) -> None:
    names = [b"../up", b"a/../../b", b"", b"//c", b"x" * 256, b"y/" * 1600 + b"z", b".", b"esc\x1b[2J/.."]
    listing = b"17.25\n" + ROOT + b"".join(FACTS + b"/" + name + b"\n" for name in (b"good", *names))
    complaints = (
        b"find: './shut\x1b[2J': Permission denied\nstat: cannot stat 'x': No such file or directory\n"
        b"Welcome!\nbusybox: find: ./other: Permission denied\n"
    )
    async with lying(Liar(listing, complaints), client_key, host_key) as machine:
        found = await list_tree(machine, "ck")
    assert [file.path for file in found] == ["good"]
    assert found[0].mtime == 17_500
    assert found.clock == 17_250
    assert len(found.left_out) == len(names) + 2
    assert not any(ord(character) < 32 for text in found.left_out for character in text)
    assert "shut" in found.left_out[-2]
    assert "other" in found.left_out[-1]


async def test_run_has_an_output_limit(client_key: Path, host_key: asyncssh.SSHKey) -> None:
    for flood in ("stdout", "stderr"):
        async with lying(Liar(flood=flood), client_key, host_key) as machine:
            with pytest.raises(RemoteError, match="more than"):
                await machine.run("x", label="probe", max_output=100_000)
    assert channel.NOISE_BYTES < 1024 * 1024
