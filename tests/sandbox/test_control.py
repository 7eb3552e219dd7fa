"""The control surface: the bill adds up, the log tells what was done, wrong calls are refused with a reason."""

from __future__ import annotations

import httpx
import pytest

from gpuscale_tui.sandbox.billing import dollars

from .conftest import DOLLARS, Renter, until


async def test_it_needs_the_token(renter: Renter) -> None:
    for headers in ({}, {"x-sandbox-token": "wrong"}, {"auth": renter.sandbox.api_key}):
        async with httpx.AsyncClient(headers=headers) as stranger:
            assert (await stranger.get(renter.sandbox.control_url + "/bill")).status_code == 401


async def test_the_bill_adds_up_and_agrees_with_the_api(renter: Renter) -> None:
    rows = [await renter.rent(index) for index in range(3)]
    renter.clock.forward(125)
    await renter.post("/cancel_order", {"id": rows[0]["id"]})
    renter.clock.forward(700)
    await renter.post("/cancel_order", {"id": rows[1]["id"]})
    bill = await renter.bill()
    assert bill["live"] == 1
    assert [line["state"] for line in bill["orders"]] == ["ended", "ended", "up"]
    assert [line["creation_fee_micro"] for line in bill["orders"]] == [0, 100_000, 100_000]
    assert [line["minutes"] for line in bill["orders"]] == [3, 14, 14]
    for line in bill["orders"]:
        assert line["total_micro"] == line["spend_micro"] + line["fee_micro"] + line["creation_fee_micro"]
        assert line["total_usd"] == dollars(line["total_micro"])
    assert bill["total_micro"] == sum(line["total_micro"] for line in bill["orders"])
    for row, line in zip(rows[:2], bill["orders"][:2], strict=True):
        ended = await renter.completed(row["id"])
        assert ended is not None
        assert dollars(line["spend_micro"]) == ended["spend"]
        assert dollars(line["creation_fee_micro"]) == ended["creation_fee"]
    wallet = (await renter.get("/wallets"))["wallets"][2]
    assert wallet["balance"] == dollars(100_000_000 - bill["total_micro"])


async def test_evict_by_order_and_by_server(renter: Renter) -> None:
    first, second = await renter.rent(0), await renter.rent(1)
    assert (await renter.control.post("/evict", json={"order": first["id"]})).json() == {"evicted": [first["id"]]}
    assert (await renter.control.post("/evict", json={"server": second["si"]})).json() == {"evicted": [second["id"]]}
    assert (await renter.get("/my_orders"))["orders"] == []
    ended = await renter.completed(first["id"])
    assert ended is not None
    assert ended["expired"] is True
    assert (await renter.control.post("/evict", json={"order": first["id"]})).status_code == 400


async def test_price(renter: Renter) -> None:
    row = (await renter.servers())[0]
    reply = await renter.control.post("/price", json={"server": row["id"], "factor": 2})
    assert reply.status_code == 200
    now = next(s for s in (await renter.get("/marketplace"))["servers"] if s["id"] == row["id"])
    assert now["price"]["on_demand"][DOLLARS] == 2 * row["price"]["on_demand"][DOLLARS]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/price", {"server": 1, "factor": 2}),
        ("/price", {"factor": 0}),
        ("/price", {"factor": "2"}),
        ("/evict", {}),
        ("/evict", []),
        ("/faults", {"set": {"nonsense": 1}}),
        ("/faults", {"set": []}),
        ("/faults", {"clear": "all"}),
    ],
)
async def test_wrong_calls(renter: Renter, path: str, body: object) -> None:
    reply = await renter.control.post(path, json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]


async def test_unknown_paths(renter: Renter) -> None:
    assert (await renter.control.get("/nothing")).status_code == 404
    assert (await renter.control.post("/bill", json={})).status_code == 404


async def test_faults_are_cleared(renter: Renter) -> None:
    await renter.fault(html_body=True, empty_body=2)
    shown = (await renter.control.post("/faults", json={"clear": ["html_body"]})).json()["faults"]
    assert shown == {"empty_body": {"value": None, "left": 2, "struck": 0, "source": "control"}}
    assert (await renter.control.post("/faults", json={"clear": True})).json() == {"faults": {}}


async def test_the_log_tells_the_story_without_secrets(renter: Renter) -> None:
    row = await renter.rent(ssh_password="hush-hush", env={"TOKEN": "hush-hush"}, command="echo hush-hush")
    await renter.post("/cancel_order", {"id": row["id"]})
    await until(lambda: renter.log("gone"))
    text = (await renter.control.get("/log")).text
    assert "hush-hush" not in text
    assert renter.sandbox.api_key not in text
    whats = [entry["what"] for entry in (await renter.control.get("/log")).json()["log"] if entry["what"] != "call"]
    assert whats == ["created", "up", "ended", "gone"]
    numbers = [entry["n"] for entry in (await renter.control.get("/log")).json()["log"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert (await renter.control.get("/log", params={"since": 3})).json()["log"][0]["n"] == 4


async def test_orders_and_servers(renter: Renter) -> None:
    row = await renter.rent()
    order = (await renter.control.get("/orders")).json()["orders"][0]
    assert (order["order"], order["server"], order["up"], order["connections"]) == (row["id"], row["si"], True, 0)
    async with await renter.connect(row):
        assert (await renter.control.get("/orders")).json()["orders"][0]["connections"] == 1
    servers = (await renter.control.get("/servers")).json()["servers"]
    assert next(server for server in servers if server["id"] == row["si"])["rented"] is True
