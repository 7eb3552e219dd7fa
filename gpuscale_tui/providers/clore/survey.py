"""From a marketplace to offers for one need: which servers could be rented, and what stood in the way of the rest.

A server may be offered twice: on demand at its listed price, and on the spot market at the bid that should win it.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal

from gpuscale_tui.model.gpus import canonical_gpu
from gpuscale_tui.model.offers import Market, Need, Offer, Survey
from gpuscale_tui.providers.clore import coerce, parse
from gpuscale_tui.providers.clore.pricing import ON_DEMAND_FEE, SPOT_FEE, bid_above, terms_at
from gpuscale_tui.providers.clore.spot import Auction

LARGEST_GAP = Decimal("0.30")
"""Prices in different coins may differ by this share of the highest (Clore API reference, section 2.2)."""

LEAST_VOTES = 5
"""Renters who must have rated a host (Clore API reference, section 3.3)."""
FAR_APART = "prices in different coins far apart"


@dataclass(frozen=True, slots=True)
class Terms:
    """How offers are made. `markets` are those that the settings allow where a need names none.

    Servers in `taken` count as rented whatever the market says; `auction` gives what is known of a server's bids, and
    `usd_per_coin` what a coin of `currency` is worth.
    """

    currency: str
    taken: Set[int] = frozenset()
    markets: Set[Market] = frozenset({Market.ON_DEMAND})
    auction: Callable[[int], Auction | None] = field(default=lambda _server: None)
    usd_per_coin: Decimal | None = None

    def wanted(self, need: Need) -> Set[Market]:
        """The markets that this need is offered: its own word wins."""
        return self.markets if need.market is None else frozenset({need.market})


def survey(market: parse.Market, need: Need, terms: Terms) -> Survey:
    """The offers for a need on these terms."""
    matching = of_model(market.servers, need.gpu_type)
    offers: list[Offer] = []
    rejected: Counter[str] = Counter()
    for server in matching:
        found, reason = _offers_of(server, need, terms)
        offers += found
        if not found:
            rejected[reason] += 1
    nearest = () if matching or need.gpu_type is None else _nearest(need.gpu_type, market.servers)
    return Survey(tuple(offers), dict(rejected), nearest, market.skipped)


def _offers_of(server: parse.Server, need: Need, terms: Terms) -> tuple[list[Offer], str]:
    """What one server is offered for; and, where that is nothing, what stood in the way."""
    wanted = terms.wanted(need)
    reason = obstacle(server, need, terms.taken)
    if reason is not None:
        return [], reason
    found: list[Offer] = []
    reasons: list[str] = []
    if Market.ON_DEMAND in wanted:
        against = price_obstacle(server, terms.currency)
        found += [] if against else [offer(server, terms.currency)]
        reasons += [against] if against else []
    if Market.SPOT in wanted:
        bid = spot_bid(server, terms)
        found += [] if isinstance(bid, str) else [spot_offer(server, terms.currency, bid)]
        reasons += [bid] if isinstance(bid, str) else []
    return found, next(iter(reasons), "")


def of_model(servers: Sequence[parse.Server], wanted: str | None) -> Sequence[parse.Server]:
    """The servers with the wanted GPU model; all of them where none is wanted."""
    if wanted is None:
        return servers
    model = canonical_gpu(wanted).casefold()
    return [server for server in servers if server.gpu_type is not None and server.gpu_type.casefold() == model]


def _nearest(wanted: str, servers: Iterable[parse.Server]) -> tuple[str, ...]:
    models = sorted({server.gpu_type for server in servers if server.gpu_type and server.gpu_type != parse.MIXED})
    return tuple(difflib.get_close_matches(canonical_gpu(wanted), models, n=3, cutoff=0.6))


def obstacle(server: parse.Server, need: Need, taken: Set[int]) -> str | None:
    """Why this server of the right model can never serve the need now, in words to count by; None when it can."""
    if server.gpu_type is None or server.gpu_count < 1:
        return "GPUs not stated"
    if need.gpu_type is not None and server.gpu_count < need.gpu_count:
        return f"{server.gpu_count} {'GPU' if server.gpu_count == 1 else 'GPUs'}, not {need.gpu_count}"
    if server.rented or server.id in taken:
        return "rented"
    return "partly rented" if _partly_rented(server) else None


def price_obstacle(server: parse.Server, currency: str) -> str | None:
    """Why this server cannot be paid for in `currency`; None when it can."""
    if currency not in server.coins or currency not in server.prices:
        return f"not for {currency}"
    if usd_per_day(server, currency) is None:
        return f"no dollar value for its price in {currency}"
    return FAR_APART if _far_apart(server) else None


def _far_apart(server: parse.Server) -> bool:
    """Whether its prices on demand mean so different amounts that one of them is hardly meant."""
    values = list(server.usd.values())
    if parse.USD in server.prices:
        values.append(server.prices[parse.USD])
    return bool(values) and max(values) - min(values) > LARGEST_GAP * max(values)


@dataclass(frozen=True, slots=True)
class SpotBid:
    """What would be bid a day for a server, in the wallet's currency and in dollars."""

    price: Decimal
    usd: Decimal


def spot_bid(server: parse.Server, terms: Terms) -> SpotBid | str:
    """The bid that should win a server, by what is known of its auction or its listed floor; or why there is none.

    A bid that is no lower than the price on demand buys nothing but the risk.
    """
    currency, auction = terms.currency, terms.auction(server.id)
    least = server.floors.get(currency) if auction is None else auction.least(currency)
    if currency not in server.coins or least is None:
        return f"no spot for {currency}"
    if auction is not None and not auction.online:
        return "offline"
    if _far_apart(server):
        return FAR_APART
    unit = Decimal(1) if currency == parse.USD else terms.usd_per_coin
    if unit is None:
        return f"no dollar value for its price in {currency}"
    price = bid_above(least)
    usd, listed = price * unit, usd_per_day(server, currency)
    if listed is not None and usd * (1 + Decimal(SPOT_FEE.numerator) / SPOT_FEE.denominator) >= listed * (
        1 + Decimal(ON_DEMAND_FEE.numerator) / ON_DEMAND_FEE.denominator
    ):
        return "bids as high as its price on demand"
    return SpotBid(price, usd)


def usd_per_day(server: parse.Server, currency: str) -> Decimal | None:
    """The listed price in dollars per day: as it stands for dollars, by Clore's own equivalent for another coin."""
    return server.prices.get(currency) if currency == parse.USD else server.usd.get(currency)


def _partly_rented(server: parse.Server) -> bool:
    partial = coerce.mapping(server.row.get("partial_gpu_rental"))
    total, available = (coerce.integer(partial.get(key)) for key in ("total_gpus", "available_gpus"))
    return total is not None and available is not None and available < total


def offer(server: parse.Server, currency: str) -> Offer:
    """The on-demand offer of a server that has no obstacle."""
    usd = usd_per_day(server, currency)
    assert usd is not None, "a server without a dollar price has an obstacle"
    return _offer(server, Market.ON_DEMAND, server.prices[currency], currency, usd)


def spot_offer(server: parse.Server, currency: str, bid: SpotBid) -> Offer:
    """The spot offer of a server, at the bid that we would place."""
    return _offer(server, Market.SPOT, bid.price, currency, bid.usd)


def _offer(server: parse.Server, market: Market, price: Decimal, currency: str, usd: Decimal) -> Offer:
    specs = coerce.mapping(server.row.get("specs"))
    net = coerce.mapping(specs.get("net"))
    owner = coerce.integer(server.row.get("owner"))
    return Offer(
        provider="clore",
        server_id=str(server.id),
        gpu_type=server.gpu_type,
        gpu_count=server.gpu_count,
        terms=terms_at(usd, SPOT_FEE if market is Market.SPOT else ON_DEMAND_FEE),
        market=market,
        owner=None if owner is None else str(owner),
        gpu_memory_gb=coerce.small_float(specs.get("gpuram")),
        cpu_threads=parse.cpu_threads(specs.get("cpus")),
        ram_gb=coerce.small_float(specs.get("ram")),
        disk_gb=parse.disk_gb(specs.get("disk")),
        net_down_mbps=coerce.small_float(net.get("down")),
        cuda_version=coerce.text(server.row.get("cuda_version"), 16),
        country=_country(net.get("cc")),
        reliability=_share(server.row.get("reliability")),
        rating=_rating(coerce.mapping(server.row.get("rating"))),
        max_hours=coerce.small_float(server.row.get("mrl")),
        pcie_gen=parse.worst_slot(specs, "pcie_gen", "pcie_rev"),
        pcie_width=parse.worst_slot(specs, "pcie_width", "pcie_width"),
        quote=json.dumps({"price": str(price), "currency": currency, "usd": str(usd), "market": market.value}),
    )


def candidates(market: parse.Market, need: Need, terms: Terms) -> list[int]:
    """The servers that could be bid for, the cheapest per GPU first, as far as their auctions are known."""
    found: list[tuple[Decimal, int]] = []
    for server in of_model(market.servers, need.gpu_type):
        bid = None if obstacle(server, need, terms.taken) else spot_bid(server, terms)
        if isinstance(bid, SpotBid):
            found.append((bid.usd / server.gpu_count, server.id))
    return [server_id for _, server_id in sorted(found)]


def _country(value: object) -> str | None:
    code = coerce.text(value, 8)
    return code.upper() if code and len(code) == 2 else None


def _rating(said: Mapping[str, object]) -> float | None:
    """The mean of what renters gave the host, 0 to 5; None where too few did for it to mean anything."""
    votes, mean = coerce.integer(said.get("cnt")), coerce.small_float(said.get("avg"))
    return mean if votes is not None and votes >= LEAST_VOTES and mean is not None and mean <= 5 else None


def _share(value: object) -> float | None:
    found = coerce.small_float(value)
    return found if found is not None and found <= 1 else None
