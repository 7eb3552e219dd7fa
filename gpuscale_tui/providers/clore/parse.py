"""Reading the bodies of `marketplace` and `my_orders`: each row on its own, the envelope strictly.

A row without the little that identifies it is skipped and counted; an envelope that is not as documented is an error,
never an empty list (Clore API reference, sections 3.3, 3.4 and 10 items 5 to 10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache

from gpuscale_tui.model.gpus import canonical_gpu, leading_count
from gpuscale_tui.providers.base import ProviderError
from gpuscale_tui.providers.clore import coerce

SSH_PORT = 22
MIXED = "Mixed GPUs"

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_DISK_SIZE = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,6})?)\s*GB", re.IGNORECASE)
_PORT_PAIR = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Server:
    """One row of the marketplace. Prices are per day for the whole server, by currency, only those above zero.

    `usd` is what the price in each currency is worth in US dollars per day; `floors` are the least bids of the spot
    auction.
    """

    id: int
    gpu_type: str | None
    gpu_count: int
    rented: bool
    coins: frozenset[str]
    prices: Mapping[str, Decimal]
    usd: Mapping[str, Decimal]
    floors: Mapping[str, Decimal] = field(default_factory=dict)
    row: Mapping[str, object] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Market:
    """A whole marketplace reply; `skipped` rows could not be read."""

    servers: tuple[Server, ...]
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """One row of `my_orders`, as far as it could be read. `ports` maps container ports to public ones."""

    id: int
    server: int | None
    created_sec: int | None
    longest_sec: int | None
    image: str | None
    currency: str | None
    price: Decimal | None
    spend: Decimal | None
    fee: Decimal | None
    creation_fee: Decimal | None
    container: int | None
    host: str | None
    ports: Mapping[int, int]
    spot: bool
    expired: bool


USD = "USD-Blockchain"
_EQUIVALENTS = {"bitcoin": "on_demand_btc", "CLORE-Blockchain": "on_demand_clore", USD: "on_demand_usd"}


def market_rows(body: Mapping[str, object]) -> Sequence[object]:
    """The rows of a marketplace reply. Raises ProviderError when the envelope is not as documented."""
    return _rows(body, "servers", "marketplace")


def order_rows(body: Mapping[str, object]) -> Sequence[object]:
    """The rows of a my_orders reply. Raises ProviderError when the envelope is not as documented."""
    return _rows(body, "orders", "my_orders")


def _rows(body: Mapping[str, object], key: str, call: str) -> Sequence[object]:
    rows = body.get(key)
    if not isinstance(rows, list):
        raise ProviderError(f"Clore.ai answered {call} without a list of {key}: nothing can be concluded from it")
    return rows


def parse_market(rows: Sequence[object]) -> Market:
    """Every readable server. Raises ProviderError when there are rows and none of them can be read."""
    servers = tuple(server for server in map(parse_server, rows) if server is not None)
    return market_of(servers, len(rows))


def market_of(servers: tuple[Server, ...], rows: int) -> Market:
    """The market that `rows` rows gave. Raises ProviderError when none of them could be read."""
    if rows and not servers:
        raise ProviderError(f"Clore.ai's marketplace listed {rows} servers in a form that this program cannot read")
    return Market(servers, rows - len(servers))


def parse_server(row: object) -> Server | None:
    """One server, None when it has no usable id. A server that does not say that it is free counts as rented."""
    fields = coerce.mapping(row)
    server_id = coerce.identifier(fields.get("id"))
    if server_id is None:
        return None
    price = coerce.mapping(fields.get("price"))
    gpu_type, gpu_count = _gpus(fields)
    return Server(
        id=server_id,
        gpu_type=gpu_type,
        gpu_count=gpu_count,
        rented=coerce.flag(fields.get("rented")) is not False,
        coins=frozenset(coin for coin in coerce.array(fields.get("allowed_coins")) if isinstance(coin, str)),
        prices=prices(coerce.mapping(price.get("on_demand"))),
        usd=_equivalents(coerce.mapping(price.get("usd"))),
        floors=prices(coerce.mapping(price.get("spot"))),
        row=fields,
    )


def prices(listed: Mapping[str, object]) -> Mapping[str, Decimal]:
    """A list of prices by currency, only those above zero."""
    found = {currency: coerce.positive(value) for currency, value in listed.items()}
    return {currency: value for currency, value in found.items() if value is not None}


def _equivalents(listed: Mapping[str, object]) -> Mapping[str, Decimal]:
    found = {currency: coerce.positive(listed.get(key)) for currency, key in _EQUIVALENTS.items()}
    return {currency: value for currency, value in found.items() if value is not None}


def _gpus(fields: Mapping[str, object]) -> tuple[str | None, int]:
    """Model and count: the list has one entry a card; the specification says "2x ..." and names laptops in full.

    Where the two name the model differently the longer name counts: it has the "Laptop" or "Ti" that the other lacks.
    """
    cards = _flat(coerce.array(fields.get("gpu_array")))
    spec = coerce.text(coerce.mapping(fields.get("specs")).get("gpu"))
    models = {_canonical(card) for card in cards}
    listed = models.pop() if len(models) == 1 else MIXED if models else None
    specified = _canonical(spec) if spec else None
    names = [name for name in (listed, specified) if name]
    model = MIXED if MIXED in names else max(names, key=len, default=None)
    return model, len(cards) or (leading_count(spec) or 1 if spec else 0)


def _flat(cards: Sequence[object]) -> list[str]:
    """The card names, one level of nesting allowed; empty when an entry is no name, for then the count is unsure."""
    entries = [entry for card in cards for entry in (card if isinstance(card, list) else [card])]
    names = [coerce.text(entry) for entry in entries]
    return [name for name in names if name] if all(names) else []


@lru_cache(maxsize=1024)
def _canonical(name: str) -> str:
    return canonical_gpu(name)


def disk_gb(value: object) -> float | None:
    """The size in `"2320 102.4688GB"`: the last number before GB."""
    sizes = _DISK_SIZE.findall(value) if isinstance(value, str) else []
    return float(sizes[-1]) if sizes else None


def cpu_threads(value: object) -> int | None:
    """88 for `"44/88"` (cores/threads)."""
    last = value.rsplit("/", 1)[-1] if isinstance(value, str) else value
    return coerce.identifier(last)


def worst_slot(specs: Mapping[str, object], card_key: str, host_key: str) -> int | None:
    """The least figure over the cards where `specs.gpus` states one, else the one that the host states for itself."""
    cards = (coerce.mapping(card) for card in coerce.array(specs.get("gpus")))
    stated = [found for card in cards if (found := coerce.identifier(card.get(card_key))) is not None]
    return min(stated) if stated else coerce.identifier(specs.get(host_key))


def parse_order(row: object) -> Order | None:
    """One order, None when it has no usable id."""
    fields = coerce.mapping(row)
    order_id = coerce.identifier(fields.get("id"))
    if order_id is None:
        return None
    image = fields.get("image")
    return Order(
        id=order_id,
        server=coerce.identifier(fields.get("si")),
        created_sec=coerce.identifier(fields.get("ct")),
        longest_sec=coerce.identifier(fields.get("mrl")),
        image=image if isinstance(image, str) else None,
        currency=coerce.text(fields.get("currency")),
        price=coerce.positive(fields.get("price")),
        spend=coerce.number(fields.get("spend")),
        fee=coerce.number(fields.get("fee")),
        creation_fee=coerce.number(fields.get("creation_fee")),
        container=coerce.integer(fields.get("mon_container")),
        host=_host(fields.get("pub_cluster")),
        ports=_ports(fields.get("tcp_ports")),
        spot=coerce.flag(fields.get("spot")) is True,
        expired=coerce.flag(fields.get("expired")) is True,
    )


def _host(value: object) -> str | None:
    """The relay's name if it is one: it is handed to SSH, so nothing but letters, digits, dots and inner hyphens."""
    first = next(iter(value), None) if isinstance(value, list) else value
    return first if isinstance(first, str) and len(first) <= 253 and _HOST_NAME.fullmatch(first) else None


def _ports(value: object) -> Mapping[int, int]:
    """`["22:1972"]`, or `{"22": 1972}` as the vendor's own library has it."""
    pairs = [f"{inner}:{outer}" for inner, outer in value.items()] if isinstance(value, dict) else coerce.array(value)
    found = (_PORT_PAIR.fullmatch(pair) for pair in pairs if isinstance(pair, str))
    ports = {int(match[1]): int(match[2]) for match in found if match}
    return {inner: outer for inner, outer in ports.items() if 0 < inner < 65_536 and 0 < outer < 65_536}
