"""The market: the shape of the reference, believable prices, and every trap that a client must survive."""

from __future__ import annotations

from typing import Any

from gpuscale_tui.sandbox.fleet import RATES
from gpuscale_tui.sandbox.market import Market

DOLLARS = "USD-Blockchain"
KEYS = {
    "id",
    "owner",
    "mrl",
    "price",
    "rented",
    "specs",
    "reliability",
    "rating",
    "gpu_array",
    "cuda_version",
    "allowed_coins",
}
SPECS = {
    "mb",
    "cpu",
    "cpus",
    "ram",
    "gpu",
    "gpuram",
    "disk",
    "disk_speed",
    "net",
    "backend_version",
    "pcie_rev",
    "pcie_width",
    "xfs",
    "stock_pl",
}


def rows(seed: int = 7) -> list[dict[str, Any]]:
    return [row for row in Market(seed).rows(set()) if isinstance(row["id"], int)]


def noted(text: str) -> dict[str, Any]:
    market = Market(7)
    server = next(server for server in market.servers.values() if text in server.note)
    return market.row(server, set())


def test_about_forty_machines_the_same_for_the_same_seed() -> None:
    assert 38 <= len(rows()) <= 50
    assert rows(7) == rows(7)
    assert rows(7) != rows(8)


def test_ordinary_rows_have_every_key_of_the_reference() -> None:
    ordinary = [Market(7).row(server, set()) for server in Market(7).servers.values() if not server.note]
    assert len(ordinary) >= 30
    for row in ordinary:
        assert row.keys() == KEYS
        assert row["specs"].keys() == SPECS
        assert len(row["gpu_array"]) == int(row["specs"]["gpu"].partition("x")[0])
        assert all(label.startswith(" ") and "NVIDIA" not in label for label in row["gpu_array"])
        assert row["price"].keys() == {"on_demand", "spot", "usd"}
        assert row["price"]["usd"]["spot"] == 0


def test_prices_are_per_day_for_the_whole_machine() -> None:
    singles = [row for row in rows() if row["specs"]["gpu"] == "1x NVIDIA GeForce RTX 4090"]
    hourly = sorted(row["price"]["on_demand"][DOLLARS] / 24 for row in singles)
    ordinary = [price for price in hourly if price > 0.2]
    assert len(ordinary) >= 8
    assert 0.25 <= ordinary[0] < ordinary[-1] <= 0.55
    eight = next(row for row in rows() if row["specs"]["gpu"] == "8x NVIDIA GeForce RTX 4090")
    assert eight["price"]["on_demand"][DOLLARS] / 24 / 8 > 0.2


def test_three_currencies_say_the_same_price() -> None:
    row = next(row for row in rows() if row["specs"]["gpu"] == "1x NVIDIA GeForce RTX 5090")
    dollars = row["price"]["on_demand"][DOLLARS]
    for coin, rate in RATES.items():
        assert abs(row["price"]["on_demand"][coin] * rate - dollars) < 1e-4
    assert row["price"]["usd"]["on_demand_clore"] == dollars


def test_namesakes_are_all_there() -> None:
    names = {row["specs"]["gpu"].partition("x ")[2].removeprefix("NVIDIA GeForce ") for row in rows()}
    assert {"RTX 4070", "RTX 4070 SUPER", "RTX 4070 Ti", "RTX 4070 Ti SUPER", "RTX 4090", "RTX 4090 D"} <= names
    assert {"RTX 4090 Laptop GPU", "RTX 5090 Laptop GPU"} <= names


def test_traps_with_missing_fields() -> None:
    bare, unlabelled = noted("price.usd, rating"), noted("gpu_array and specs.net")
    assert "usd" not in bare["price"]
    assert not {"rating", "reliability"} & bare.keys()
    assert "gpu_array" not in unlabelled
    assert "net" not in unlabelled["specs"]
    assert DOLLARS not in unlabelled["price"]["spot"]


def test_traps_of_money_and_time() -> None:
    coins = noted("does not take dollars")
    assert coins["price"]["on_demand"][DOLLARS] > 0
    assert DOLLARS not in coins["allowed_coins"]
    assert noted("zero price")["price"]["on_demand"][DOLLARS] == 0
    assert noted("one hour only")["mrl"] == 1
    assert noted("0.31")["reliability"] == 0.31
    gap = noted("currency-not-allowed")["price"]
    assert gap["usd"]["on_demand_clore"] > 1.3 * gap["on_demand"][DOLLARS]


def test_the_rented_trap_is_the_cheapest_desktop_4090() -> None:
    rented = noted("already rented")
    assert rented["rented"] is True
    others = [row for row in rows() if row["specs"]["gpu"] == rented["specs"]["gpu"] and row["id"] != rented["id"]]
    positive = [row["price"]["on_demand"][DOLLARS] for row in others if row["price"]["on_demand"][DOLLARS]]
    assert rented["price"]["on_demand"][DOLLARS] < min(positive)


def test_mixed_cards_and_a_row_that_fits_no_schema() -> None:
    assert noted("mixed")["specs"]["gpu"] == "6x Mixed GPUs"
    assert len(set(noted("mixed")["gpu_array"])) == 3
    broken = [row for row in Market(7).rows(set()) if not isinstance(row["id"], int)]
    assert broken == [{"id": "10x", "price": None, "specs": "unavailable", "rented": "no"}]


def test_a_price_moves_by_its_factor_to_the_cent() -> None:
    market = Market(7)
    one, other = list(market.servers.values())[:2]
    before, untouched = one.price, other.price
    market.move_prices(1.37, one.id)
    assert abs(one.price - before * 1.37) <= 5_000
    assert one.price % 10_000 == 0
    assert other.price == untouched
