"""Every fault can be switched on, is seen from outside, and is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.sandbox.catalogue import CATALOGUE, as_text
from gpuscale_tui.sandbox.faults import FaultBoard, FaultError, load_file, parse

from .conftest import DOLLARS, MakeRenter, Renter, ssh_port, until

# --- how faults are written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "setting"),
    [
        ("html_body", "html_body", True),
        ("create_500=2", "create_500", {"value": "2"}),
        (
            "slow_replies=1.5,path=my_orders,count=3",
            "slow_replies",
            {"value": "1.5", "path": "my_orders", "count": "3"},
        ),
        ("evict_when_file=**/a=b,age=4", "evict_when_file", {"value": "**/a=b", "age": "4"}),
    ],
)
def test_syntax(text: str, name: str, setting: Any) -> None:
    assert parse(text) == (name, setting)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("creat_500", "no fault 'creat_500'"),
        ("slow_replies", "needs a value: seconds"),
        ("slow_replies=soon", "'soon' is not a number"),
        ("html_body,when=now", "no setting 'when'"),
        ("html_body,often", "is not KEY=VALUE"),
        ("ssh_drop=3,path=x", "no setting 'path'"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(FaultError, match=says):
        FaultBoard(lambda: 0).set_text(text)


def test_count_skip_and_filters() -> None:
    board = FaultBoard(lambda: 0)
    board.set_text("html_body=2,skip=1,path=my_*")
    assert board.strike("html_body", path="/v1/wallets") is None
    struck = [board.strike("html_body", path="/v1/my_orders") is not None for _ in range(5)]
    assert struck == [False, True, True, False, False]
    board.set_text("never_boot,server=7")
    assert [board.strike("never_boot", server=server) is not None for server in (6, 7, 7)] == [False, True, True]
    board.set("never_boot", False)
    assert board.strike("never_boot", server=7) is None


def test_a_storm_is_over_after_its_seconds() -> None:
    now = [1_000]
    board = FaultBoard(lambda: now[0])
    board.set_text("rate_limit_storm=5")
    assert board.strike("rate_limit_storm")
    now[0] += 5_001
    assert board.strike("rate_limit_storm") is None


@given(st.integers(0, 20), st.integers(0, 20))
def test_a_fault_strikes_exactly_count_times_after_skip(count: int, skip: int) -> None:
    board = FaultBoard(lambda: 0)
    board.set("create_500", {"value": count, "skip": skip})
    struck = [bool(board.strike("create_500")) for _ in range(50)]
    assert struck == [skip <= turn < skip + count for turn in range(50)]


def test_the_list_names_all_of_them() -> None:
    text = as_text()
    assert all(f"{name}" in text and kind.does in text for name, kind in CATALOGUE.items())


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(
        '[faults]\nhtml_body = true\ncreate_500 = 1\nslow_replies = {value = 2, path = "x"}\nssh_drop = false\n'
    )
    board = FaultBoard(lambda: 0)
    board.set_text("empty_body")
    board.replace_source(load_file(file), "file")
    assert sorted(board.active) == ["create_500", "empty_body", "html_body", "slow_replies"]
    board.replace_source({}, "file")
    assert sorted(board.active) == ["empty_body"]
    file.write_text("faults = 3")
    with pytest.raises(FaultError, match="must be a table"):
        load_file(file)
    file.write_text("[faults")
    with pytest.raises(FaultError, match=r"faults\.toml"):
        load_file(file)


# --- faults of transport ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("rate_limit_storm", 429, '{"code": 5}'),
        ("cloudflare_1010", 403, "error code: 1010"),
        ("html_body", 200, "<!DOCTYPE html>"),
        ("empty_body", 200, ""),
        ("http_500", 500, '{"code": 1}'),
        ("key_refused", 401, '{"code": 3}'),
    ],
)
async def test_replies_instead_of_work(renter: Renter, name: str, status: int, text: str) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(**{name: {"count": 1, "path": "create_order"}})
    assert (await renter.api.get("/my_orders")).status_code == 200
    reply = await renter.create(server)
    assert reply.status_code == status
    assert reply.text.startswith(text)
    assert (await renter.bill())["orders"] == []
    assert (await renter.create(server)).json() == {"code": 0}
    assert [entry["faults"] for entry in await renter.log("call")][-2:] == [[name], []]


async def test_connection_reset(renter: Renter) -> None:
    await renter.fault(connection_reset=1)
    with pytest.raises(httpx.TransportError):
        await renter.api.get("/wallets")
    assert (await renter.api.get("/wallets")).status_code == 200


async def test_slow_replies_do_the_work_first(renter: Renter) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(slow_replies={"value": 30, "path": "create_order"})
    with pytest.raises(httpx.ReadTimeout):
        await renter.api.post("/create_order", json=renter.wish(server), timeout=httpx.Timeout(60, read=0.3))
    assert await until(lambda: renter.order(server))


# --- faults of calls --------------------------------------------------------------------------------------------


async def test_create_answers_500_after_success(renter: Renter) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(create_500_after_success=1)
    reply = await renter.create(server)
    assert (reply.status_code, reply.json()) == (500, {"code": 1})
    assert await renter.order(server)


async def test_create_answers_500_without_an_order(renter: Renter) -> None:
    first, second = [row["id"] for row in (await renter.servers())[:2]]
    await renter.fault(create_500=1)
    assert (await renter.create(first)).json() == {"code": 1}
    assert (await renter.create(second)).json() == {"code": 0}
    assert [row["si"] for row in (await renter.get("/my_orders"))["orders"]] == [second]


async def test_create_answers_500_and_the_order_appears_later(renter: Renter) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(create_500_then_appears={"value": 0.4, "count": 1})
    assert (await renter.create(server)).status_code == 500
    assert await until(lambda: renter.order(server))
    [call] = [entry for entry in await renter.log("call") if entry["path"] == "/v1/create_order"]
    [created] = await renter.log("created")
    assert created["ms"] - call["ms"] >= 400


async def test_my_orders_leaves_out_and_repeats(renter: Renter) -> None:
    first, second = await renter.rent(0), await renter.rent(1)
    await renter.fault(my_orders_partial=1)
    assert [row["id"] for row in (await renter.get("/my_orders"))["orders"]] == [second["id"]]
    await renter.fault(my_orders_doubled=1)
    rows = [row["id"] for row in (await renter.get("/my_orders"))["orders"]]
    assert rows == [second["id"], second["id"], first["id"], first["id"]]


async def test_cancel_reply_lost(renter: Renter) -> None:
    row = await renter.rent()
    await renter.fault(cancel_reply_lost=1)
    with pytest.raises(httpx.TransportError):
        await renter.post("/cancel_order", {"id": row["id"]})
    assert await renter.order(row["si"]) is None


async def test_create_reply_lost(renter: Renter) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(create_reply_lost=1)
    with pytest.raises(httpx.TransportError):
        await renter.create(server)
    assert await renter.order(server)


async def test_create_delayed_happens_even_if_the_client_has_gone(renter: Renter) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(create_delayed=0.6)
    asked = renter.clock()
    with pytest.raises(httpx.ReadTimeout):
        await renter.api.post("/create_order", json=renter.wish(server), timeout=httpx.Timeout(60, read=0.2))
    assert await until(lambda: renter.order(server))
    [made] = await renter.log("created")
    assert made["ms"] - asked >= 600


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("create_lost_race", "server-already-rented"),
        ("server_offline", "server-offline"),
        ("not_enough_balance", "not_enough_balance"),
    ],
)
async def test_refusals(renter: Renter, name: str, error: str) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(**{name: 1})
    assert (await renter.create(server)).json()["error"] == error
    again = (await renter.create(server)).json()
    assert again == {"code": 0} or name == "create_lost_race"


async def test_the_price_moves_just_before_the_order(renter: Renter) -> None:
    row = (await renter.servers())[0]
    price = row["price"]["on_demand"][DOLLARS]
    await renter.fault(create_price_moved={"value": 1.5, "count": 1})
    reply = await renter.create(row["id"], required_price=price)
    assert (reply.status_code, reply.json()) == (500, {"code": 1})
    now = next(s for s in (await renter.get("/marketplace"))["servers"] if s["id"] == row["id"])
    assert now["price"]["on_demand"][DOLLARS] == pytest.approx(price * 1.5, abs=0.01)


async def test_my_orders_lies(renter: Renter) -> None:
    row = await renter.rent()
    await renter.fault(my_orders_500=1)
    reply = await renter.api.get("/my_orders")
    assert (reply.status_code, reply.json()) == (500, {"code": 1})
    await renter.fault(my_orders_empty=1)
    assert await renter.get("/my_orders") == {"orders": [], "limit": 50, "code": 0}
    await renter.fault(my_orders_stale=60)
    assert await renter.order(row["si"])
    await renter.post("/cancel_order", {"id": row["id"]})
    assert await renter.order(row["si"]), "the old answer is repeated"
    renter.clock.forward(61)
    assert await renter.order(row["si"]) is None


async def test_cancel_lies(renter: Renter) -> None:
    row = await renter.rent()
    await renter.fault(cancel_500=1)
    assert (await renter.post("/cancel_order", {"id": row["id"]})).status_code == 500
    assert await renter.order(row["si"])
    await renter.fault(cancel_500_but_works=1)
    assert (await renter.post("/cancel_order", {"id": row["id"]})).status_code == 500
    assert await renter.order(row["si"]) is None


async def test_a_cancelled_order_lingers(renter: Renter) -> None:
    row = await renter.rent()
    await renter.fault(cancel_lingers=0.5)
    asked = renter.clock()
    assert (await renter.post("/cancel_order", {"id": row["id"]})).json() == {"code": 0}
    assert await until(lambda: renter.completed(row["id"]))
    [ended] = await renter.log("ended")
    assert ended["ms"] - asked >= 500, "it was up and cost meanwhile"


# --- faults of machines -----------------------------------------------------------------------------------------


async def test_a_machine_that_never_boots_costs_all_the_same(renter: Renter) -> None:
    first, second = [row["id"] for row in (await renter.servers())[:2]]
    await renter.fault(never_boot={"server": first})
    await renter.create(first)
    await renter.create(second)
    await until(lambda: renter.order(second, up=True))
    row = await renter.order(first)
    assert row is not None
    assert row["mon_container"] == 0
    assert row["spend"] > 0
    with pytest.raises(ConnectionRefusedError):
        await renter.connect(row)


async def test_slow_boot(renter: Renter) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.fault(slow_boot={"value": 0.7, "count": 1})
    await renter.create(server)
    await until(lambda: renter.order(server, up=True))
    [created], [up] = await renter.log("created"), await renter.log("up")
    assert up["ms"] - created["ms"] >= 700


async def test_wrong_gpu(renter: Renter) -> None:
    await renter.fault(wrong_gpu=1)
    lying, honest = await renter.rent(), await renter.rent(1)
    for row, other in ((lying, True), (honest, False)):
        async with await renter.connect(row) as connection:
            shown = (await connection.run("nvidia-smi --query-gpu=name --format=csv")).stdout.splitlines()
        advertised = f"{len(shown)}x {shown[0].split(',')[0]}"
        assert (advertised != row["specs"]["gpu"]) is other


async def test_ssh_refuses(renter: Renter) -> None:
    await renter.fault(ssh_refuses=1)
    row = await renter.rent()
    with pytest.raises(ConnectionRefusedError):
        await renter.connect(row)
    async with await renter.connect(await renter.rent(1)) as connection:
        assert (await connection.run("echo in")).stdout == "in\n"


async def test_ssh_drops(renter: Renter) -> None:
    row = await renter.rent()
    async with await renter.connect(row) as connection:
        process = await connection.create_process("echo begun; sleep 300")
        await process.stdout.readline()
        await renter.fault(ssh_drop={"value": 0.1, "count": 1})
        await asyncio.wait_for(connection.wait_closed(), 60)
    async with await renter.connect(row) as connection:
        count = await connection.run('grep -l "$SANDBOX_MARK" /proc/[0-9]*/environ 2>/dev/null | wc -l')
        assert int(str(count.stdout)) >= 3, "the sleeping process goes on"


async def ticks(renter: Renter, number: int = 2) -> None:
    """Let the sandbox look at everything so many times more."""
    seen = renter.sandbox.ticker.ticks
    await until(lambda: renter.sandbox.ticker.ticks >= seen + number)


async def test_host_offline_and_back(renter: Renter) -> None:
    row = await renter.rent()
    async with await renter.connect(row) as connection:
        await connection.run("setsid sleep 300 >/dev/null 2>&1 & echo $! > pid", check=True)
        await renter.fault(host_offline={"value": 0, "back": 1})
        await asyncio.wait_for(connection.wait_closed(), 60)
    back = await until(lambda: renter.order(row["si"], up=True))
    assert (back["online"], back["tcp_ports"]) == (True, row["tcp_ports"])
    async with await renter.connect(back) as connection:
        alive = await connection.run('kill -0 "$(cat pid)"')
    assert alive.exit_status == 0, "processes went on meanwhile"


async def test_a_host_that_stays_offline_costs_no_more(renter: Renter) -> None:
    row = await renter.rent()
    await renter.fault(host_offline=0)
    await until(lambda: renter.log("offline"))
    away = await renter.order(row["si"])
    assert away is not None
    assert (away["online"], away["mon_container"]) == (False, 0)
    with pytest.raises(OSError):
        await renter.connect(row)
    renter.clock.forward(3600)
    assert (await renter.order(row["si"]) or {})["spend"] == away["spend"]
    await renter.post("/cancel_order", {"id": row["id"]})
    assert await until(lambda: renter.log("gone"))


async def test_evict_after(renter: Renter) -> None:
    await renter.fault(evict_after={"value": 100, "count": 1})
    row, other = await renter.rent(0), await renter.rent(1)
    renter.clock.forward(40)
    await ticks(renter)
    assert await renter.order(row["si"])
    renter.clock.forward(61)
    ended = await until(lambda: renter.log("ended"))
    assert [(entry["order"], entry["reason"]) for entry in ended] == [(row["id"], "evicted")]
    assert await renter.order(other["si"])
    listed = next(s for s in (await renter.get("/marketplace"))["servers"] if s["id"] == row["si"])
    assert listed["rented"] is True, "somebody else has it now"


async def test_evict_when_a_file_exists(renter: Renter) -> None:
    await renter.fault(evict_when_file={"value": "**/step-*", "min_seconds": 50, "age": 100})
    first, second = await renter.rent(0), await renter.rent(1)
    async with await renter.connect(second) as connection:
        await connection.run("mkdir -p work/.job/step-dir && touch work/.job/step-empty", check=True)
        renter.clock.forward(200)
        await ticks(renter)
        assert not await renter.log("ended"), "what is empty does not count"
        written = int(str((await connection.run("echo x > work/.job/step-1; stat -c %Y work/.job/step-1")).stdout))
        renter.clock.forward(written + 40 - renter.clock() / 1000)
        await ticks(renter)
        assert not await renter.log("ended"), "too young"
        renter.clock.forward(65)
        ended = await until(lambda: renter.log("ended"))
    assert [entry["order"] for entry in ended] == [second["id"]]
    assert await renter.order(first["si"])


async def test_prices_move(renter: Renter) -> None:
    before = (await renter.servers())[0]
    await renter.fault(price_move={"value": 2, "every": 100})

    async def price() -> float:
        rows = (await renter.get("/marketplace"))["servers"]
        return float(next(s for s in rows if s["id"] == before["id"])["price"]["on_demand"][DOLLARS])

    first = before["price"]["on_demand"][DOLLARS]

    async def reached(factor: float) -> bool:
        return abs(await price() - first * factor) < 0.02

    assert await until(lambda: reached(2))
    renter.clock.forward(101)
    assert await until(lambda: reached(4))


async def test_faults_from_the_command_line_and_a_file_that_changes(make_renter: MakeRenter, tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text("[faults]\nmy_orders_empty = 1\n")

    async def active(renter: Renter) -> set[str]:
        return set((await renter.control.get("/faults")).json()["faults"])

    async with make_renter(faults=("create_500=1",), faults_file=file) as renter:
        assert await active(renter) == {"create_500", "my_orders_empty"}
        file.write_text("[faults]\nhtml_body = {count = 1, path = 'wallets'}\n")
        await until(lambda: _equals(active(renter), {"create_500", "html_body"}))
        file.write_text("[faults]\nnonsense = 1\n")
        problems = await until(lambda: _errors(renter))
        assert "no fault 'nonsense'" in problems[0]["error"]
        assert await active(renter) == {"create_500", "html_body"}
        file.unlink()
        await until(lambda: _equals(active(renter), {"create_500"}))


async def _equals(found: Any, wanted: set[str]) -> bool:
    return bool(await found == wanted)


async def _errors(renter: Renter) -> list[dict[str, Any]]:
    return [entry for entry in await renter.log("faults_file") if "error" in entry]


async def _spot(renter: Renter, index: int = 0) -> dict[str, Any]:
    """A spot order that runs."""
    row = (await renter.servers())[index]
    reply = await renter.create(row["id"], type="spot", spotprice=round(row["price"]["spot"][DOLLARS] * 1.02, 4))
    assert reply.json() == {"code": 0}
    found: dict[str, Any] = await until(lambda: renter.order(row["id"], up=True))
    return found


@pytest.mark.parametrize("gone", [0, 1])
async def test_outbid_after_takes_the_machine_of_a_spot_order(renter: Renter, gone: int) -> None:
    await renter.fault(outbid_after={"value": 0, "gone": gone, "count": 1})
    on_demand = await renter.rent(1)
    row = (await renter.servers())[0]
    await renter.create(row["id"], type="spot", spotprice=row["price"]["spot"][DOLLARS] * 1.02)
    await until(lambda: renter.log("displaced"))
    order = await renter.order(row["id"])
    assert (order is None) == bool(gone)
    assert order is None or order["mon_container"] == 0
    assert (await renter.order(on_demand["si"], up=True)) is not None


async def test_create_outbid_leaves_an_order_that_waits(renter: Renter) -> None:
    await renter.fault(create_outbid=1)
    first, second = (await renter.servers())[:2]
    for row in (first, second):
        await renter.create(row["id"], type="spot", spotprice=row["price"]["spot"][DOLLARS] * 1.02)
    await until(lambda: renter.order(second["id"], up=True))
    waiting = await renter.order(first["id"])
    assert waiting is not None
    assert (waiting["mon_container"], waiting["spend"]) == (0, 0)


async def test_short_rental_ends_an_order_by_itself(renter: Renter) -> None:
    await renter.fault(short_rental={"value": 300, "count": 1})
    row, other = await renter.rent(), await renter.rent(1)
    assert (row["mrl"], other["mrl"] > 3600) == (300, True)
    renter.clock.forward(301)
    ended = await until(lambda: renter.completed(row["id"]))
    assert ended["mrl"] == 300
    assert (await renter.order(other["si"])) is not None


async def test_floors_move_now_and_then(renter: Renter) -> None:
    row = await _spot(renter)
    before = {server["id"]: server["price"]["spot"][DOLLARS] for server in await renter.servers()}
    await renter.fault(floors_move={"value": 0.2, "every": 600})
    renter.clock.forward(590)
    renter.sandbox.ticker.tick()
    assert not await renter.log("floors")
    renter.clock.forward(11)
    await until(lambda: renter.log("floors"))
    after = {server["id"]: server["price"]["spot"][DOLLARS] for server in await renter.servers()}
    assert after != before
    assert all(abs(after[server] - floor) <= 0.2 * floor + 0.01 for server, floor in before.items())
    waits = after[row["si"]] * 0.99999 > row["price"]
    assert (await renter.order(row["si"], up=True) is None) == waits


def test_every_fault_of_the_catalogue_is_tested_here() -> None:
    text = Path(__file__).read_text()
    assert [name for name in CATALOGUE if name not in text] == []


async def test_port_is_refused_until_the_machine_is_up(make_renter: MakeRenter) -> None:
    async with make_renter(boot_seconds=(60, 60)) as renter:
        server = (await renter.servers())[0]["id"]
        await renter.create(server)
        row = await renter.order(server)
        assert row is not None
        assert ssh_port(row) > 0
        with pytest.raises((ConnectionRefusedError, asyncssh.Error)):
            await renter.connect(row)
