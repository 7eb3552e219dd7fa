"""Orders as others see them: rows of my_orders, and lines of the sandbox's own bill.

Shapes: Clore API reference (`shared/reference/clore-api.md`), sections 3.4, 3.5 and 11.
"""

from __future__ import annotations

from typing import Any

from gpuscale_tui.sandbox.billing import CREATION_FEE_MICRO, FEE_BASIS_POINTS, dollars
from gpuscale_tui.sandbox.fleet import RATES, Server
from gpuscale_tui.sandbox.market import host_facts, in_currency, specs
from gpuscale_tui.sandbox.orders import Order, OrderBook, shown_price

CONTAINER_RUNS = 2


def my_orders(book: OrderBook, *, completed: bool) -> list[dict[str, Any]]:
    """The rows of my_orders: live orders that show by now, and ended ones when asked for."""
    now = book.clock()
    rows = [live_row(order, now) for order in book.live() if order.visible <= now]
    if completed:
        rows += [ended_row(order, now) for order in book.orders.values() if not order.live]
    return rows


def live_row(order: Order, now: int) -> dict[str, Any]:
    """One live order. Nothing that it was created with is echoed but image and ports."""
    wish, server = order.wish, order.server
    row: dict[str, Any] = {
        "id": order.id,
        "creation_fee": dollars(CREATION_FEE_MICRO),
        "price": shown_price(order),
        "mrl": order.longest // 1000,
        "image": wish.image,
        "currency": wish.currency,
        "spend": in_currency(order.bill(now).spend, wish.currency),
        "ct": order.created // 1000,
        "specs": specs(server),
        "si": server.id,
        "mon_container": CONTAINER_RUNS if order.up is not None else 0,
        "online": not order.offline,
        "pub_cluster": ["127.0.0.1"],
        "tcp_ports": _tcp_ports(order),
        "owner": server.owner,
        **host_facts(server),
    }
    for port in (port for port, protocol in wish.ports.items() if protocol == "http"):
        row |= {"http_port": port, "http_pub": f"order{order.id}.localhost"}
    if order.spot:
        row["spot"] = True
    return row


def _tcp_ports(order: Order) -> list[str]:
    """`"container:public"` for each requested TCP port; nothing listens on those that are not SSH."""
    tcp = [port for port, protocol in order.wish.ports.items() if protocol == "tcp"]
    return [
        f"{port}:{order.machine.port if port == '22' else 10_000 + (order.id + int(port)) % 20_000}" for port in tcp
    ]


def ended_row(order: Order, now: int) -> dict[str, Any]:
    """One ended order: final spend, fee as a fraction, the creation fee if it was charged."""
    wish, cost = order.wish, order.bill(now)
    row: dict[str, Any] = {
        "id": order.id,
        "si": order.server.id,
        "currency": wish.currency,
        "price": shown_price(order),
        "fee": FEE_BASIS_POINTS[wish.kind] / 10_000,
        "creation_fee": dollars(cost.creation_fee),
        "spend": in_currency(cost.spend, wish.currency),
        "ct": order.created // 1000,
        "mrl": order.longest // 1000,
        "image": wish.image,
        "expired": True,
    }
    if order.spot:
        row["spot"] = True
    return row


def spot_market(book: OrderBook, server: Server) -> dict[str, Any]:
    """The `market` object of spot_marketplace: the bids on one server and its floor."""
    offers = [
        {
            "offer_id": order.id,
            "bid": shown_price(order),
            "active": order.since is not None,
            "my": True,
            "currency": order.wish.currency,
        }
        for order in book.live(server.id)
        if order.spot
    ]
    if server.foreign_bid:
        holds = not server.taken and server.id not in book.rented() and not any(offer["active"] for offer in offers)
        foreign = {"offer_id": 2_000_000 + server.id, "bid": dollars(server.foreign_bid), "active": holds, "my": False}
        offers.insert(0, {**foreign, "currency": "USD-Blockchain"})
    floors = {coin: book.market.price_in(server, coin, spot=True) for coin in server.coins}
    return {
        "currency_rates_in_usd": dict(RATES),
        "offers": offers,
        "server": {
            "min_pricing": floors,
            "mrl": server.mrl_hours,
            "online": not server.offline,
            "visibility": "public",
        },
    }


def bill_of(book: OrderBook) -> dict[str, Any]:
    """The sandbox's own bill: each order and the sum, fees included, in micro-dollars and dollars."""
    now = book.clock()
    lines = [bill_line(order, now) for order in book.orders.values()]
    sums = {key: sum(line[key] for line in lines) for key in ("spend_micro", "fee_micro", "creation_fee_micro")}
    whole = sum(sums.values())
    return {
        "now_ms": now,
        "orders": lines,
        "live": len(book.live()),
        "balance_micro": book.balance(),
        **sums,
        "total_micro": whole,
        "total_usd": dollars(whole),
    }


def bill_line(order: Order, now: int) -> dict[str, Any]:
    """One order with all it has cost so far."""
    cost = order.bill(now)
    return {
        "order": order.id,
        "server": order.server.id,
        "gpu": order.server.gpu_text,
        "kind": order.wish.kind,
        "currency": order.wish.currency,
        "state": "ended"
        if not order.live
        else "up"
        if order.up
        else "halted"
        if order.halted
        else "offline"
        if order.offline
        else "booting"
        if order.since
        else "waiting",
        "reason": order.reason,
        "created_ms": order.created,
        "up_ms": order.came_up,
        "ended_ms": order.ended,
        "price_per_day_micro": order.price,
        "minutes": cost.minutes,
        "spend_micro": cost.spend,
        "fee_micro": cost.fee,
        "creation_fee_micro": cost.creation_fee,
        "total_micro": cost.total,
        "total_usd": dollars(cost.total),
    }
