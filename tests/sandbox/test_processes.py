"""When an order ends, so does every process it ever started, and its directory is gone."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from gpuscale_tui.sandbox.processes import MARK_VARIABLE, Target, end, find, remove_tree, sweep

from .conftest import MakeRenter, Renter, until

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")

ESCAPES = {
    "background": "sleep 300 &",
    "session of its own": "setsid sleep 300 </dev/null >/dev/null 2>&1 &",
    "double fork": "(setsid sh -c '(sleep 300 &) ; sleep 300 &' &) </dev/null >/dev/null 2>&1",
    "no environment": "(env -i setsid sleep 300 </dev/null >/dev/null 2>&1 &)",
    "deaf": "(setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' &) </dev/null >/dev/null 2>&1",
    "forking": "(setsid sh -c 'while :; do sleep 0.01 & sleep 0.01; done' &) </dev/null >/dev/null 2>&1",
}


def alive(target: Target) -> set[int]:
    return find(target)


async def start_escapes(renter: Renter) -> Target:
    row = await renter.rent()
    spec = renter.sandbox.book.orders[row["id"]].machine.spec
    async with await renter.connect(row) as connection:
        for command in ESCAPES.values():
            await connection.run(command.replace("sleep 300 &", "sleep 300 >/dev/null 2>&1 &"), check=True)
        foreground = await connection.create_process("exec sleep 300")
        target = Target(spec.mark, spec.directory)
        await until(lambda: len(alive(target)) >= len(ESCAPES) + 1)
        foreground.close()
    return target


async def test_cancel_ends_them_all_and_wipes_the_directory(renter: Renter) -> None:
    target = await start_escapes(renter)
    row = (await renter.get("/my_orders"))["orders"][0]
    await renter.post("/cancel_order", {"id": row["id"]})
    gone = await until(lambda: renter.log("gone"))
    assert gone[0]["clean"] is True
    assert not alive(target)
    assert not target.directory.exists()


async def test_eviction_does_the_same(renter: Renter) -> None:
    target = await start_escapes(renter)
    row = (await renter.get("/my_orders"))["orders"][0]
    await renter.control.post("/evict", json={"order": row["id"]})
    await until(lambda: renter.log("gone"))
    assert not alive(target)
    assert not target.directory.exists()


async def test_the_end_of_the_sandbox_does_the_same(make_renter: MakeRenter) -> None:
    async with make_renter() as renter:
        target, root = await start_escapes(renter), renter.sandbox.root
    assert not alive(target)
    assert not root.exists()


async def test_one_orders_end_leaves_the_others_alone(renter: Renter) -> None:
    first, second = await renter.rent(0), await renter.rent(1)
    async with await renter.connect(second) as connection:
        process = await connection.create_process("echo begun; sleep 300")
        await process.stdout.readline()
        await renter.post("/cancel_order", {"id": first["id"]})
        await until(lambda: renter.log("gone"))
        spec = renter.sandbox.book.orders[second["id"]].machine.spec
        assert alive(Target(spec.mark, spec.directory))
        assert process.exit_status is None


async def test_cancel_while_it_boots(make_renter: MakeRenter) -> None:
    async with make_renter(boot_seconds=(30, 30)) as renter:
        server = (await renter.servers())[0]["id"]
        await renter.create(server)
        row = await renter.order(server)
        assert row is not None
        await renter.post("/cancel_order", {"id": row["id"]})
        assert await until(lambda: renter.log("gone"))
        assert not await renter.log("up")


def test_a_mark_is_not_a_prefix_of_another(tmp_path: Path) -> None:
    environment = {**os.environ, MARK_VARIABLE: "mark.12"}
    with subprocess.Popen(["sleep", "300"], env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while not find(Target("mark.12", tmp_path)):  # until it has replaced our own image
                assert time.monotonic() < deadline
            assert find(Target("mark.1", tmp_path)) == set()
            assert find(Target("mark.", tmp_path)) == {process.pid}
        finally:
            process.kill()


def test_sweep_says_when_it_found_nothing(tmp_path: Path) -> None:
    assert sweep(Target("nobody.has.this", tmp_path)) is True


def test_a_directory_with_forbidding_modes_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    machine = tmp_path / "machine"
    (machine / "a" / "b").mkdir(parents=True)
    (machine / "a" / "b" / "file").write_text("x")
    (machine / "link").symlink_to(outside)
    (machine / "a").chmod(0)
    assert end(Target("nobody.has.this", machine)) is True
    assert not machine.exists()
    assert outside.stat().st_mode & 0o777 == 0o500, "a link out of it is not followed"
    remove_tree(machine)
