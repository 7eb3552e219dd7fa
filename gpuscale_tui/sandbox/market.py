"""The market as the API shows it: rows of servers, prices in three currencies.

Shapes: Clore API reference (`shared/reference/clore-api.md`), sections 2.1, 2.2 and 3.3.
"""

from __future__ import annotations

from typing import Any

from gpuscale_tui.sandbox.billing import dollars
from gpuscale_tui.sandbox.fleet import MALFORMED, RATES, Server, build_fleet

DOLLARS = "USD-Blockchain"


def in_currency(amount_micro: int, currency: str) -> float:
    """Micro-dollars as a number of coins, exact for dollars and to ten digits for others."""
    return dollars(amount_micro) if currency == DOLLARS else round(dollars(amount_micro) / RATES[currency], 10)


def to_micro(amount: float, currency: str) -> int:
    """A number of coins as micro-dollars."""
    return round(amount * RATES[currency] * 1_000_000)


class Market:
    """The servers by id, and their rows."""

    def __init__(self, seed: int) -> None:
        self.servers = {server.id: server for server in build_fleet(seed)}

    def price_in(self, server: Server, currency: str, *, spot: bool = False) -> float:
        """The listed price per day, or the floor of the spot auction. 0 when not offered."""
        amount = server.spot_floor if spot else server.price
        return in_currency(amount if currency == DOLLARS else round(amount * server.coin_factor), currency)

    def move_prices(self, factor: float, server_id: int | None = None) -> None:
        """Multiply the prices of one server, or of all. Raises KeyError when there is no such server."""
        for server in self.servers.values() if server_id is None else [self.servers[server_id]]:
            server.move_price(factor)

    def rows(self, rented: set[int]) -> list[Any]:
        """The list of `GET /marketplace`; `rented` names the servers that we rent on demand."""
        rows: list[Any] = [self.row(server, rented) for server in self.servers.values()]
        rows.insert(len(rows) // 2, dict(MALFORMED))
        return rows

    def row(self, server: Server, rented: set[int]) -> dict[str, Any]:
        """One server of the listing."""
        row: dict[str, Any] = {
            "id": server.id,
            "owner": server.owner,
            "mrl": server.mrl_hours,
            "price": self._prices(server),
            "rented": server.taken or server.id in rented,
            "specs": specs(server),
            **host_facts(server),
            "allowed_coins": list(server.coins),
        }
        for path in server.missing:
            _drop(row, path)
        return row

    def _prices(self, server: Server) -> dict[str, Any]:
        on_demand = {coin: self.price_in(server, coin) for coin in RATES}
        return {
            "on_demand": on_demand,
            "spot": {coin: self.price_in(server, coin, spot=True) for coin in ("CLORE-Blockchain", DOLLARS)},
            "usd": {
                "on_demand_btc": round(on_demand["bitcoin"] * RATES["bitcoin"], 4),
                "on_demand_clore": round(on_demand["CLORE-Blockchain"] * RATES["CLORE-Blockchain"], 4),
                "on_demand_usd": on_demand[DOLLARS],
                "spot": 0,
            },
        }


def host_facts(server: Server) -> dict[str, Any]:
    """What both a market row and an order say about the host."""
    return {
        "reliability": server.reliability,
        "rating": {"avg": server.rating[0], "cnt": server.rating[1]},
        "gpu_array": list(server.labels),
        "cuda_version": server.cuda,
    }


def specs(server: Server) -> dict[str, Any]:
    """The `specs` object."""
    board, cpu, cpus, disk, country = server.hardware
    up, down = server.net
    return {
        "mb": board,
        "cpu": cpu,
        "cpus": cpus,
        "ram": server.ram,
        "gpu": server.gpu_text,
        "gpuram": server.gpu.memory,
        "disk": disk,
        "disk_speed": round(900 + server.id % 1700 + 0.4, 1),
        "net": {"up": up, "down": down, "cc": country, "test_history": [f"S|1782000000|{down}|{up}"]},
        "backend_version": 21,
        "pcie_rev": 4,
        "pcie_width": 16,
        "xfs": 1,
        "stock_pl": [450] * server.cards,
    }


def _drop(row: dict[str, Any], path: str) -> None:
    *parents, last = path.split(".")
    for name in parents:
        row = row[name]
    row.pop(last, None)
