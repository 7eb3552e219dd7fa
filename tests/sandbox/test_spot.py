"""The bid queue of spot orders."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import DOLLARS, Renter, until


async def bid(renter: Renter, server: dict[str, Any], factor: float, index: int = 0) -> dict[str, Any]:
    """Place a bid of `factor` times the floor; its row of my_orders."""
    before = {row["id"] for row in (await renter.get("/my_orders"))["orders"]}
    price = round(server["price"]["spot"][DOLLARS] * factor, 4)
    reply = await renter.create(server["id"], type="spot", spotprice=price)
    assert reply.json() == {"code": 0}
    rows = (await renter.get("/my_orders"))["orders"]
    return next(row for row in rows if row["id"] not in before)


async def row_of(renter: Renter, number: int, *, up: bool = False) -> dict[str, Any] | None:
    rows = [row for row in (await renter.get("/my_orders"))["orders"] if row["id"] == number]
    return rows[0] if rows and (not up or rows[0]["mon_container"] == 2) else None


async def test_a_bid_under_the_floor(renter: Renter) -> None:
    server = (await renter.servers())[0]
    floor = server["price"]["spot"][DOLLARS]
    reply = await renter.create(server["id"], type="spot", spotprice=floor - 0.01)
    assert (reply.status_code, reply.json()) == (200, {"error": "too_low_price", "min_price": floor, "code": 6})


async def test_a_winning_bid_runs_at_its_own_price(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.1)
    row = await until(lambda: row_of(renter, order["id"], up=True))
    assert row["spot"] is True
    assert row["price"] == pytest.approx(server["price"]["spot"][DOLLARS] * 1.1, abs=1e-3)
    assert row["spend"] > 0
    listed = next(s for s in (await renter.get("/marketplace"))["servers"] if s["id"] == server["id"])
    assert listed["rented"] is False, "the listing does not show who holds a server by spot"
    await renter.post("/cancel_order", {"id": order["id"]})
    ended = await renter.completed(order["id"])
    assert ended is not None
    assert ended["fee"] == 0.0125


async def test_a_bid_below_a_foreign_one_waits_and_costs_nothing(renter: Renter) -> None:
    server = (await renter.servers("held by somebody"))[0]
    order = await bid(renter, server, 1.1)
    renter.clock.forward(600)
    row = await row_of(renter, order["id"])
    assert row is not None
    assert (row["spend"], row["mon_container"]) == (0, 0)
    assert row["tcp_ports"]
    market = await renter.get("/spot_marketplace", market=server["id"])
    assert market["exists"] is True
    assert [(offer["my"], offer["active"]) for offer in market["market"]["offers"]] == [(False, True), (True, False)]
    assert market["market"]["server"]["min_pricing"][DOLLARS] == server["price"]["spot"][DOLLARS]
    assert market["market"].keys() == {"currency_rates_in_usd", "offers", "server"}
    assert (await renter.get("/spot_marketplace", market=1))["exists"] is False


async def test_a_higher_bid_displaces_and_the_loser_starts_again_empty(renter: Renter) -> None:
    server = (await renter.servers())[0]
    low = await bid(renter, server, 1.1)
    first = await until(lambda: row_of(renter, low["id"], up=True))
    async with await renter.connect(first) as connection:
        await connection.run("echo here > file", check=True)
    high = await bid(renter, server, 1.3)
    await until(lambda: row_of(renter, high["id"], up=True))
    waiting = await row_of(renter, low["id"])
    assert waiting is not None
    assert waiting["mon_container"] == 0
    renter.clock.forward(3600)
    assert (await row_of(renter, low["id"]) or {})["spend"] == waiting["spend"]
    await renter.post("/cancel_order", {"id": high["id"]})
    again = await until(lambda: row_of(renter, low["id"], up=True))
    assert again["tcp_ports"] != first["tcp_ports"]
    async with await renter.connect(again) as connection:
        assert (await connection.run("ls")).stdout == "tmp\n"


async def test_on_demand_takes_the_machine_from_spot(renter: Renter) -> None:
    server = (await renter.servers())[0]
    spot = await bid(renter, server, 1.5)
    await until(lambda: row_of(renter, spot["id"], up=True))
    assert (await renter.create(server["id"])).json() == {"code": 0}
    assert (await row_of(renter, spot["id"]) or {})["mon_container"] == 0


async def test_set_spot_price(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.3)
    price = order["price"]

    async def change(desired: float) -> Any:
        return (await renter.post("/set_spot_price", {"order_id": order["id"], "desired_price": desired})).json()

    assert (await change(price * 2)).keys() == {"error", "max_step", "code"}
    early = await change(price * 0.99)
    assert early["error"] == "can_lower_every_600_seconds"
    assert 0 < early["time_to_lowering"] <= 600
    assert await change(round(price * 1.1, 4)) == {"code": 0}
    assert (await row_of(renter, order["id"]) or {})["price"] == round(price * 1.1, 4)
    renter.clock.forward(601)
    assert await change(price) == {"code": 0}
    renter.clock.forward(601)
    assert (await change(price * 0.5))["error"] == "too_low_price"
    assert (await change(-1))["code"] in {2, 6}
    assert (await renter.post("/set_spot_price", {"order_id": 1, "desired_price": 1})).json()["code"] == 6


async def test_what_ran_at_the_old_bid_is_billed_at_it(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.2)
    renter.clock.forward(90)  # in the second minute, with time to spare on both sides
    spent = (await row_of(renter, order["id"]) or {})["spend"]
    new = round(order["price"] * 1.1, 4)
    await renter.post("/set_spot_price", {"order_id": order["id"], "desired_price": new})
    after = (await row_of(renter, order["id"]) or {})["spend"]
    assert after == pytest.approx(spent + new / 1440, abs=2e-6)


async def control(renter: Renter, path: str, **body: Any) -> Any:
    reply = await renter.control.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def state_of(renter: Renter, order: dict[str, Any]) -> str:
    return next(line["state"] for line in (await renter.bill())["orders"] if line["order"] == order["id"])


async def test_somebody_elses_higher_bid_takes_the_machine_and_its_withdrawal_gives_it_back(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.1)
    await until(lambda: row_of(renter, order["id"], up=True))
    await control(renter, "/bid", server=server["id"], factor=1.5)
    assert await state_of(renter, order) == "waiting"
    market = (await renter.get("/spot_marketplace", market=server["id"]))["market"]
    assert [(offer["my"], offer["active"]) for offer in market["offers"]] == [(False, True), (True, False)]
    assert market["offers"][0]["bid"] == pytest.approx(order["price"] * 1.5, abs=1e-3)
    await control(renter, "/bid", server=server["id"], factor=0)
    await until(lambda: row_of(renter, order["id"], up=True))
    assert len(await renter.log("displaced")) == 1


async def test_a_floor_that_rises_above_a_running_bid_takes_its_machine(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.02)
    await until(lambda: row_of(renter, order["id"], up=True))
    await control(renter, "/floor", server=server["id"], factor=1.01)
    assert (await row_of(renter, order["id"]) or {})["mon_container"] == 2
    await control(renter, "/floor", server=server["id"], factor=1.5)
    waiting = await row_of(renter, order["id"])
    assert waiting is not None
    assert waiting["mon_container"] == 0
    renter.clock.forward(3600)
    assert (await row_of(renter, order["id"]) or {})["spend"] == waiting["spend"]


async def test_an_on_demand_renter_takes_the_machine_from_under_any_bid(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 9)
    await until(lambda: row_of(renter, order["id"], up=True))
    await control(renter, "/take", server=server["id"])
    assert await state_of(renter, order) == "waiting"
    assert (await renter.create(server["id"], type="spot", spotprice=99)).json()["error"] == "server-already-rented"
    await control(renter, "/take", server=server["id"], taken=False)
    await until(lambda: row_of(renter, order["id"], up=True))


async def test_the_bill_of_an_order_that_waited_twice_is_its_stretches(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.1)
    for _ in range(2):
        await until(lambda: row_of(renter, order["id"], up=True))
        renter.clock.forward(90)
        await control(renter, "/bid", server=server["id"], factor=1.5)
        renter.clock.forward(600)
        await control(renter, "/bid", server=server["id"], factor=0)
    await renter.post("/cancel_order", {"id": order["id"]})
    (line,) = (await renter.bill())["orders"]
    a_minute = round(order["price"] * 1_000_000) / 1440
    assert line["minutes"] == 5, "two begun minutes, twice, and the one in which it came back the last time"
    assert abs(line["spend_micro"] - 5 * a_minute) < 3
    assert line["creation_fee_micro"] == 100_000
    assert line["fee_micro"] == (line["spend_micro"] * 125 + 5000) // 10_000


async def test_an_order_ends_with_the_balance(renter: Renter) -> None:
    server = (await renter.servers())[0]
    order = await bid(renter, server, 1.1)
    await until(lambda: row_of(renter, order["id"], up=True))
    assert await control(renter, "/balance", usd=0.02) == {"balance_micro": 20_000}
    wallets = {row["name"]: row["balance"] for row in (await renter.get("/wallets"))["wallets"]}
    assert wallets[DOLLARS] == 0.02
    refused = await renter.create((await renter.servers())[1]["id"])
    assert refused.json()["error"] == "not_enough_balance"
    renter.clock.forward(3600)
    await until(lambda: renter.completed(order["id"]))
    assert (await renter.bill())["orders"][0]["reason"] == "balance"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/bid", {"server": 1, "factor": 2}),
        ("/bid", {"factor": -1}),
        ("/floor", {"factor": "2"}),
        ("/take", {}),
        ("/take", {"server": 1}),
        ("/balance", {"usd": None}),
    ],
)
async def test_wrong_calls_of_the_auctions_switches(renter: Renter, path: str, body: object) -> None:
    assert (await renter.control.post(path, json=body)).status_code == 400


async def test_what_we_hold_on_demand_is_taken_by_nobody(renter: Renter) -> None:
    row = await renter.rent()
    assert (await renter.control.post("/take", json={"server": row["si"]})).status_code == 400
