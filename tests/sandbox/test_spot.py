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
    renter.clock.forward(119)
    spent = (await row_of(renter, order["id"]) or {})["spend"]
    new = round(order["price"] * 1.1, 4)
    await renter.post("/set_spot_price", {"order_id": order["id"], "desired_price": new})
    after = (await row_of(renter, order["id"]) or {})["spend"]
    assert after == pytest.approx(spent + new / 1440, abs=2e-6)
