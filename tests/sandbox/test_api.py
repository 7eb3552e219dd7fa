"""Every endpoint and quirk of the Clore API reference, over real sockets."""

from __future__ import annotations

import httpx
import pytest

from gpuscale_tui.sandbox.billing import micro

from .conftest import DOLLARS, MakeRenter, Renter, until

LIVE_KEYS = {
    "id",
    "creation_fee",
    "price",
    "mrl",
    "image",
    "currency",
    "spend",
    "ct",
    "specs",
    "si",
    "mon_container",
    "online",
    "pub_cluster",
    "tcp_ports",
    "http_port",
    "http_pub",
    "rating",
    "reliability",
    "owner",
    "cuda_version",
    "gpu_array",
}


async def test_marketplace_needs_no_key(renter: Renter) -> None:
    async with httpx.AsyncClient() as stranger:
        reply = await stranger.get(renter.sandbox.url + "/marketplace")
    assert reply.status_code == 200
    assert reply.json().keys() == {"servers", "my_servers", "code"}


@pytest.mark.parametrize("path", ["/wallets", "/my_orders", "/renter_fees"])
async def test_everything_else_needs_the_key(renter: Renter, path: str) -> None:
    for headers in ({}, {"auth": "wrong"}, {"Authorization": f"Bearer {renter.sandbox.api_key}"}):
        async with httpx.AsyncClient(headers=headers) as stranger:
            reply = await stranger.get(renter.sandbox.url + path)
        assert (reply.status_code, reply.json()) == (401, {"code": 3})


async def test_unknown_endpoint_and_wrong_method(renter: Renter) -> None:
    for reply in (await renter.api.get("/no_such_thing"), await renter.api.get("/create_order")):
        assert (reply.status_code, reply.json()) == (404, {"code": 4})


async def test_the_gateway_refuses_the_default_agent_of_urllib(renter: Renter) -> None:
    reply = await renter.api.get("/marketplace", headers={"user-agent": "Python-urllib/3.11"})
    assert (reply.status_code, reply.text) == (403, "error code: 1010")


async def test_wallets(renter: Renter) -> None:
    wallets = (await renter.get("/wallets"))["wallets"]
    assert [wallet["name"] for wallet in wallets] == ["bitcoin", "CLORE-Blockchain", DOLLARS]
    assert all(wallet.keys() == {"name", "deposit", "balance", "withdrawal_fee"} for wallet in wallets)
    assert wallets[2]["balance"] == 100.0
    assert wallets[1]["balance"] is None


async def test_renter_fees(renter: Renter) -> None:
    fees = await renter.get("/renter_fees")
    assert fees["renter_fees"]["on_demand"]["base"][DOLLARS] == 5
    assert fees["renter_fees"]["spot"]["base"][DOLLARS] == 1.25
    assert fees["creation_fees"]["spot"][DOLLARS] == 0.1
    assert fees.keys() == {"renter_fees", "creation_fees", "poh_config", "poh_balance", "code"}


async def test_a_new_order_shows_after_a_lag_and_boots_later(make_renter: MakeRenter) -> None:
    async with make_renter(listing_lag=0.3, boot_seconds=(0.8, 0.8)) as renter:
        server = (await renter.servers())[0]["id"]
        assert (await renter.create(server)).json() == {"code": 0}
        assert await renter.order(server) is None
        row = await until(lambda: renter.order(server))
        assert row["mon_container"] == 0
        assert row["online"] is True
        assert (await until(lambda: renter.order(server, up=True)))["tcp_ports"] == row["tcp_ports"]


async def test_a_live_order_has_the_keys_of_the_reference(renter: Renter) -> None:
    market = (await renter.servers())[0]
    row = await renter.rent(ports={"22": "tcp", "6006": "tcp", "8888": "http"})
    assert row.keys() == LIVE_KEYS
    assert row["si"] == market["id"]
    assert row["price"] == market["price"]["on_demand"][DOLLARS]
    assert row["mrl"] == market["mrl"] * 3600
    assert row["pub_cluster"] == ["127.0.0.1"]
    assert [text.partition(":")[0] for text in row["tcp_ports"]] == ["22", "6006"]
    assert row["http_port"] == "8888"
    assert row["creation_fee"] == 0.1
    assert abs(row["ct"] - renter.clock() // 1000) < 60
    assert micro(row["spend"]) == (2 * micro(row["price"]) + 1440) // 2880


async def test_spend_grows_with_each_begun_minute(renter: Renter) -> None:
    row = await renter.rent()
    renter.clock.forward(150)
    later = await renter.order(row["si"])
    assert later is not None
    assert later["spend"] == pytest.approx(3 * row["price"] / 1440, abs=1e-6)


async def test_cancel_leaves_my_orders_and_shows_as_ended(renter: Renter) -> None:
    row = await renter.rent()
    assert (await renter.post("/cancel_order", {"id": row["id"], "issue": "done"})).json() == {"code": 0}
    assert await renter.order(row["si"]) is None
    ended = await renter.completed(row["id"])
    assert ended is not None
    assert ended["expired"] is True
    assert (ended["fee"], ended["creation_fee"], ended["ct"]) == (0.05, 0.0, row["ct"])
    assert {"spend", "price", "si", "image", "mrl", "currency"} <= ended.keys()
    renter.clock.forward(7200)
    assert await renter.completed(row["id"]) == ended, "an ended order costs nothing more"


async def test_the_creation_fee_stays_on_orders_over_ten_minutes(renter: Renter) -> None:
    row = await renter.rent()
    renter.clock.forward(601)
    await renter.post("/cancel_order", {"id": row["id"]})
    ended = await renter.completed(row["id"])
    assert ended is not None
    assert ended["creation_fee"] == 0.1
    assert ended["spend"] == pytest.approx(11 * row["price"] / 1440, abs=1e-6)


async def test_an_order_ends_by_itself_at_mrl(renter: Renter) -> None:
    row = await renter.rent()
    renter.clock.forward(row["mrl"] + 1)
    assert (await until(lambda: renter.completed(row["id"])))["expired"] is True


async def test_cancel_of_what_is_not_live(renter: Renter) -> None:
    for number in (1, (await renter.rent())["id"]):
        await renter.post("/cancel_order", {"id": number})
        reply = await renter.post("/cancel_order", {"id": number})
        assert reply.json() == {"error": "order_not_found", "code": 6}
    assert (await renter.post("/cancel_order", {"id": "x"})).json()["code"] == 2


async def test_a_second_create_on_our_own_server(renter: Renter) -> None:
    row = await renter.rent()
    reply = await renter.create(row["si"])
    assert reply.status_code == 200
    assert reply.json() == {"status": "error", "error": "server-already-rented", "code": 6}
    listed = next(s for s in (await renter.get("/marketplace"))["servers"] if s["id"] == row["si"])
    assert listed["rented"] is True


@pytest.mark.parametrize(
    ("note", "status", "error"),
    [
        ("already rented", 200, "server-already-rented"),
        ("zero price", 200, "server-already-rented"),
        ("does not take dollars", 500, "currency-not-allowed"),
        ("answers currency-not-allowed", 500, "currency-not-allowed"),
        ("offline", 200, "server-offline"),
    ],
)
async def test_traps_refuse(renter: Renter, note: str, status: int, error: str) -> None:
    reply = await renter.create((await renter.servers(note))[0]["id"])
    assert (reply.status_code, reply.json()["error"], reply.json()["code"]) == (status, error, 6)
    assert (await renter.get("/my_orders"))["orders"] == []


async def test_required_price_must_be_the_listed_one(renter: Renter) -> None:
    row = (await renter.servers())[0]
    price = row["price"]["on_demand"][DOLLARS]
    reply = await renter.create(row["id"], required_price=price - 0.01)
    assert (reply.status_code, reply.json()) == (500, {"code": 1})
    assert (await renter.create(row["id"], required_price=price)).json() == {"code": 0}


async def test_an_ampersand_in_env_is_a_database_error(renter: Renter) -> None:
    reply = await renter.create((await renter.servers())[0]["id"], env={"URL": "a=1&b=2"})
    assert (reply.status_code, reply.json()) == (500, {"code": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"renting_server": "12"},
        {"renting_server": 1},
        {"type": "lease"},
        {"currency": "EUR"},
        {"image": ""},
        {"ports": {"22": "udp"}},
        {"ports": {"80": "http", "81": "http"}},
        {"ssh_password": "x" * 33},
        {"ssh_key": "x" * 3073},
        {"env": {"A": 1}},
        {"env": {"A": "x" * 1537}},
        {"env": {f"A{i}": "x" * 1500 for i in range(9)}},
        {"autossh_entrypoint": "true"},
        {"type": "spot"},
        {"required_price": "4"},
        {"command": 5},
    ],
)
async def test_bad_input(renter: Renter, change: dict[str, object]) -> None:
    reply = await renter.create((await renter.servers())[0]["id"], **change)
    assert (reply.status_code, reply.json()["code"]) == (400, 2)


async def test_a_body_that_is_no_json_object(renter: Renter) -> None:
    for content, kind in ((b"{", "application/json"), (b"[]", "application/json"), (b"{}", "text/plain")):
        reply = await renter.api.post("/create_order", content=content, headers={"content-type": kind})
        assert (reply.status_code, reply.json()["code"]) == (400, 2)


@pytest.mark.parametrize(
    ("change", "comes_up"),
    [
        ({"image": "pytorch/pytorch:2.4", "autossh_entrypoint": True}, True),
        ({"image": "pytorch/pytorch:2.4", "autossh_entrypoint": None}, False),
        ({"image": "docker.io/pytorch/pytorch:2.4", "autossh_entrypoint": True}, False),
        ({"image": "cloreai/jupyter:ubuntu24.04-v2", "autossh_entrypoint": None}, True),
    ],
)
async def test_which_images_come_up(renter: Renter, change: dict[str, object], comes_up: bool) -> None:
    server = (await renter.servers())[0]["id"]
    await renter.create(server, **change)
    seen = "up" if comes_up else "stuck"
    assert (await until(lambda: renter.log(seen)))[0]["server"] == server
    row = await renter.order(server)
    assert row is not None
    assert row["mon_container"] == (2 if comes_up else 0)
    assert row["spend"] > 0


async def test_other_currencies(renter: Renter) -> None:
    row = await renter.rent(currency="CLORE-Blockchain")
    assert row["currency"] == "CLORE-Blockchain"
    assert row["price"] == pytest.approx((await renter.bill())["orders"][0]["price_per_day_micro"] / 1e6 / 0.00125)


async def test_balance(make_renter: MakeRenter) -> None:
    async with make_renter(balance=0.2) as renter:
        server = (await renter.servers())[0]["id"]
        reply = await renter.create(server)
        assert reply.json() == {"error": "not_enough_balance", "code": 6}
    async with make_renter(balance=1.0) as renter:
        row = await renter.rent()
        renter.clock.forward(86_400)
        assert await until(lambda: renter.completed(row["id"]))


async def test_rate_limits(make_renter: MakeRenter) -> None:
    async with make_renter(rate_limits=True) as renter:
        server = (await renter.servers())[0]["id"]
        refused = await renter.api.get("/wallets")
        assert (refused.status_code, refused.json()) == (429, {"code": 5})
        renter.clock.forward(1.1)
        assert (await renter.create(server)).json() == {"code": 0}
        renter.clock.forward(1.1)
        assert (await renter.create(server)).status_code == 429
        assert (await renter.api.get("/my_orders")).status_code == 200
        renter.clock.forward(4)
        assert (await renter.create(server)).json()["error"] == "server-already-rented"


async def test_one_connection_carries_many_calls_and_bad_http_is_answered(renter: Renter) -> None:
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
        replies = [await client.get(renter.sandbox.url + "/marketplace") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", int(renter.sandbox.url.split(":")[2].split("/")[0]))
    writer.write(b"NONSENSE\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()
