"""A rented machine is a real SSH server with real processes: worked with asyncssh and with OpenSSH's client."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from .conftest import Renter, ssh_port, until

ssh_client = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client here")


async def test_streams_and_exit_status_are_exact(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        result = await connection.run("printf 'out\\0\\377'; printf err >&2; exit 7", encoding=None)
        assert (result.stdout, result.stderr, result.exit_status) == (b"out\0\xff", b"err", 7)
        assert (await connection.run("true")).exit_status == 0
        killed = await connection.run("kill -KILL $$")
        assert (killed.exit_status, killed.exit_signal[0] if killed.exit_signal else "") == (-1, "KILL")


async def test_megabytes_go_both_ways_and_stdin_closes_by_half(renter: Renter) -> None:
    data = os.urandom(3_000_000)
    async with await renter.connect(await renter.rent()) as connection:
        result = await connection.run("cat; echo end >&2", input=data, encoding=None)
        assert result.stdout == data
        assert result.stderr == b"end\n"
        summed = await connection.run("cat > file && sha256sum < file", input=data, encoding=None)
        assert summed.stdout is not None
        assert bytes(summed.stdout).split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_a_command_that_never_reads_its_input_ends(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        result = await asyncio.wait_for(connection.run("exit 3", input=b"x" * 5_000_000, encoding=None), 60)
        assert result.exit_status == 3


async def test_a_shell_without_terminal_reads_commands(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        result = await connection.run(input="cd /\npwd\nexit 4\n")
        assert (result.stdout, result.exit_status) == ("/\n", 4)


async def test_the_channel_stays_open_while_output_is_held(renter: Renter) -> None:
    """As with sshd: a background child that keeps stdout keeps the session."""
    async with await renter.connect(await renter.rent()) as connection:
        result = await connection.run("(sleep 0.3; echo late) & echo early")
        assert result.stdout == "early\nlate\n"


async def test_signals_reach_the_process_group(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        process = await connection.create_process(
            "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        )
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("TERM")
        result = await asyncio.wait_for(process.wait(), 60)
        assert (result.stdout, result.exit_status) == ("caught\n", 5)


async def test_many_sessions_on_one_connection(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        results = await asyncio.gather(*(connection.run(f"echo {number}") for number in range(60)))
    assert [int(str(result.stdout)) for result in results] == list(range(60))


async def test_home_environment_and_start_command(renter: Renter) -> None:
    script = '#!/bin/sh\necho "$MANAGED_BY" > started\n'
    row = await renter.rent(command=script, env={"MANAGED_BY": "us", "SANDBOX_MARK": "stolen"})
    async with await renter.connect(row) as connection:
        result = await connection.run('pwd; echo "$HOME $USER $SANDBOX_GPU $MANAGED_BY"; echo "$SANDBOX_MARK"')
        home, line, mark = str(result.stdout).splitlines()
        assert line == f"{home} root RTX 4090 us"
        assert mark.startswith(renter.sandbox.mark), "an order cannot shake off its mark"
        assert await until((Path(home) / "started").exists)
        assert (Path(home) / "started").read_text() == "us\n"
        assert (await connection.run("stat -c %a .")).stdout == "700\n"


async def test_only_root_with_the_orders_key(renter: Renter) -> None:
    row = await renter.rent()
    other = asyncssh.generate_private_key("ssh-ed25519")
    attempts: list[dict[str, Any]] = [
        {"client_keys": [other]},
        {"username": "admin"},
        {"client_keys": [], "password": "guess"},
    ]
    for attempt in attempts:
        with pytest.raises(asyncssh.PermissionDenied):
            await renter.connect(row, **attempt)


async def test_a_password_opens_it_when_the_order_has_one(renter: Renter) -> None:
    row = await renter.rent(ssh_password="open-sesame", ssh_key=None)
    async with await renter.connect(row, client_keys=[], password="open-sesame") as connection:
        assert (await connection.run("echo in")).stdout == "in\n"
    with pytest.raises(asyncssh.PermissionDenied):
        await renter.connect(row, client_keys=[], password="wrong")


async def test_every_order_has_its_own_host_key_and_directory(renter: Renter) -> None:
    rows = [await renter.rent(0), await renter.rent(1)]
    keys, homes = set(), set()
    for row in rows:
        async with await renter.connect(row) as connection:
            keys.add(connection.get_server_host_key().get_fingerprint())  # type: ignore[union-attr]
            homes.add((await connection.run("pwd")).stdout)
    assert (len(keys), len(homes)) == (2, 2)


async def test_sftp_stays_inside_the_machine(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        home = str((await connection.run("mkdir d; echo text > d/file; ln -s / way-out; pwd")).stdout).strip()
        async with connection.start_sftp_client() as files:
            async with files.open("d/file") as file:
                assert await file.read() == "text\n"
            async with files.open(f"{home}/d/other", "w") as file:
                await file.write("more")
            assert sorted(await files.listdir("d"))[2:] == ["file", "other"]
            for path in ("/etc/hostname", "../x", "way-out/etc/hostname", f"{home}/../x"):
                with pytest.raises(asyncssh.SFTPError):
                    await files.open(path)
        assert (await connection.run("cat d/other")).stdout == "more"


async def test_detached_work_outlives_its_connection(renter: Renter) -> None:
    row = await renter.rent()
    async with await renter.connect(row) as connection:
        home = Path(str((await connection.run("pwd")).stdout).strip())
        await connection.run(
            "setsid sh -c 'while [ ! -e go ]; do sleep 0.02; done; echo alive > proof' >/dev/null 2>&1 </dev/null &"
        )
    (home / "go").touch()
    assert await until((home / "proof").exists)


@ssh_client
async def test_openssh_client_works_it(renter: Renter, tmp_path: Path) -> None:
    row = await renter.rent()
    key = tmp_path / "key"
    renter.key.write_private_key(key)
    key.chmod(0o600)
    options = ["-F", "none", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    data = os.urandom(500_000)
    words = ["ssh", *options, "-p", str(ssh_port(row)), "root@127.0.0.1", "cat; printf problem >&2; exit 9"]
    process = await asyncio.create_subprocess_exec(*words, stdin=-1, stdout=-1, stderr=-1)
    out, err = await asyncio.wait_for(process.communicate(data), 60)
    assert (out == data, err, process.returncode) == (True, b"problem", 9)


async def test_a_shell_with_a_terminal_is_one(renter: Renter) -> None:
    """Its size and kind are what the client says."""
    async with await renter.connect(await renter.rent()) as connection:
        shell = await connection.create_process(term_type="xterm", term_size=(101, 33))

        async def shows(words: str) -> None:
            await asyncio.wait_for(shell.stdout.readuntil(words), 60)

        shell.stdin.write("stty size; echo $TERM-$((6*7))\r")
        await shows("33 101\r\n")
        await shows("xterm-42\r\n")
        shell.stdin.write("exit 6\r")
        assert (await asyncio.wait_for(shell.wait(), 60)).exit_status == 6
        result = await asyncio.wait_for(connection.run("test -t 1 && tty", term_type="xterm"), 60)
        assert str(result.stdout).startswith("/dev/")


async def test_a_terminal_ends_with_its_client(renter: Renter) -> None:
    server = await renter.rent()
    async with await renter.connect(server) as connection:
        shell = await connection.create_process(term_type="xterm")
        shell.stdin.write("echo pid-$$-\r")
        said = await asyncio.wait_for(shell.stdout.readuntil(re.compile("pid-[0-9]+-")), 60)
        (pid,) = re.findall("pid-([0-9]+)-", str(said))
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def say_hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await writer.drain()
    writer.close()


async def test_a_port_of_the_machine_alone_is_forwarded(renter: Renter) -> None:
    async with await renter.connect(await renter.rent()) as connection:
        echo = await asyncio.start_server(say_hello, "127.0.0.1", 0)
        async with echo:
            port = echo.sockets[0].getsockname()[1]
            reader, writer = await connection.open_connection("localhost", port)
            assert await asyncio.wait_for(reader.read(), 60) == b"hello"
            writer.close()
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("192.0.2.1", port)
