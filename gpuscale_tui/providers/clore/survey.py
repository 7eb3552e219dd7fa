"""From a marketplace to offers for one need: which servers could be rented, and what stood in the way of the rest."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from decimal import Decimal

from gpuscale_tui.model.gpus import canonical_gpu
from gpuscale_tui.model.offers import Market, Need, Offer, Survey
from gpuscale_tui.providers.clore import coerce, parse
from gpuscale_tui.providers.clore.pricing import on_demand_terms

LARGEST_GAP = Decimal("0.30")
"""Prices in different coins may differ by this share of the highest (Clore API reference, section 2.2)."""


def survey(market: parse.Market, need: Need, currency: str, taken: Set[int]) -> Survey:
    """The offers for a need, paid in `currency`; servers in `taken` count as rented whatever the market says."""
    matching = _of_model(market.servers, need.gpu_type)
    offers: list[Offer] = []
    rejected: Counter[str] = Counter()
    for server in matching:
        reason = obstacle(server, need, currency, taken)
        if reason is None:
            offers.append(offer(server, currency))
        else:
            rejected[reason] += 1
    nearest = () if matching or need.gpu_type is None else _nearest(need.gpu_type, market.servers)
    return Survey(tuple(offers), dict(rejected), nearest, market.skipped)


def _of_model(servers: Sequence[parse.Server], wanted: str | None) -> Sequence[parse.Server]:
    if wanted is None:
        return servers
    model = canonical_gpu(wanted).casefold()
    return [server for server in servers if server.gpu_type is not None and server.gpu_type.casefold() == model]


def _nearest(wanted: str, servers: Iterable[parse.Server]) -> tuple[str, ...]:
    models = sorted({server.gpu_type for server in servers if server.gpu_type and server.gpu_type != parse.MIXED})
    return tuple(difflib.get_close_matches(canonical_gpu(wanted), models, n=3, cutoff=0.6))


def obstacle(server: parse.Server, need: Need, currency: str, taken: Set[int]) -> str | None:
    """Why this server of the right model can never serve the need now, in words to count by; None when it can."""
    if need.market is Market.SPOT:
        return "rented on demand only"
    if server.gpu_type is None or server.gpu_count < 1:
        return "GPUs not stated"
    if need.gpu_type is not None and server.gpu_count < need.gpu_count:
        return f"{server.gpu_count} {'GPU' if server.gpu_count == 1 else 'GPUs'}, not {need.gpu_count}"
    if server.rented or server.id in taken:
        return "rented"
    if _partly_rented(server):
        return "partly rented"
    return price_obstacle(server, currency)


def price_obstacle(server: parse.Server, currency: str) -> str | None:
    """Why this server cannot be paid for in `currency`; None when it can."""
    if currency not in server.coins or currency not in server.prices:
        return f"not for {currency}"
    if usd_per_day(server, currency) is None:
        return f"no dollar value for its price in {currency}"
    values = list(server.usd.values())
    if parse.USD in server.prices:
        values.append(server.prices[parse.USD])
    if max(values) - min(values) > LARGEST_GAP * max(values):
        return "prices in different coins far apart"
    return None


def usd_per_day(server: parse.Server, currency: str) -> Decimal | None:
    """The listed price in dollars per day: as it stands for dollars, by Clore's own equivalent for another coin."""
    return server.prices.get(currency) if currency == parse.USD else server.usd.get(currency)


def _partly_rented(server: parse.Server) -> bool:
    partial = coerce.mapping(server.row.get("partial_gpu_rental"))
    total, available = (coerce.integer(partial.get(key)) for key in ("total_gpus", "available_gpus"))
    return total is not None and available is not None and available < total


def offer(server: parse.Server, currency: str) -> Offer:
    """The offer of a server that has no obstacle."""
    specs = coerce.mapping(server.row.get("specs"))
    net = coerce.mapping(specs.get("net"))
    owner = coerce.integer(server.row.get("owner"))
    usd = usd_per_day(server, currency)
    assert usd is not None, "a server without a dollar price has an obstacle"
    return Offer(
        provider="clore",
        server_id=str(server.id),
        gpu_type=server.gpu_type,
        gpu_count=server.gpu_count,
        terms=on_demand_terms(usd),
        owner=None if owner is None else str(owner),
        gpu_memory_gb=coerce.small_float(specs.get("gpuram")),
        cpu_threads=parse.cpu_threads(specs.get("cpus")),
        ram_gb=coerce.small_float(specs.get("ram")),
        disk_gb=parse.disk_gb(specs.get("disk")),
        net_down_mbps=coerce.small_float(net.get("down")),
        cuda_version=coerce.text(server.row.get("cuda_version"), 16),
        country=_country(net.get("cc")),
        reliability=_share(server.row.get("reliability")),
        max_hours=coerce.small_float(server.row.get("mrl")),
        pcie_gen=parse.worst_slot(specs, "pcie_gen", "pcie_rev"),
        pcie_width=parse.worst_slot(specs, "pcie_width", "pcie_width"),
        quote=json.dumps({"price": str(server.prices[currency]), "currency": currency, "usd": str(usd)}),
    )


def _country(value: object) -> str | None:
    code = coerce.text(value, 8)
    return code.upper() if code and len(code) == 2 else None


def _share(value: object) -> float | None:
    found = coerce.small_float(value)
    return found if found is not None and found <= 1 else None
