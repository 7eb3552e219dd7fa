"""Writing an order, judging the reply to it, and finding it again among the orders of the account.

The reply to a create names no order and nothing that we send is echoed but server, image and ports, so an order is
recognised by those and by its time (Clore API reference, sections 4.1 and 7).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.offers import Market, Rental
from gpuscale_tui.providers.base import Accepted, Claim, RentOutcome, RentRefused, RentRequest, Unknown
from gpuscale_tui.providers.clore import coerce
from gpuscale_tui.providers.clore.onstart import start_script
from gpuscale_tui.providers.clore.parse import SSH_PORT, USD, Order
from gpuscale_tui.providers.clore.pricing import (
    BILLING_UNIT_MS,
    CREATION_FEE,
    CREATION_FEE_AFTER_MS,
    FREE_MINUTES,
    ON_DEMAND_FEE,
    SPOT_FEE,
    billed_micros,
    hourly_rate,
    minutes_spent,
)
from gpuscale_tui.providers.clore.reply import APPLICATION, BAD_KEY, Reply

FIRST_MARK, MARKS = 20_000, 40_000
SEVERAL_MARKS = 0
"""The `mark` of a rental that publishes more ports than ours ever do."""

EARLIEST_MS = 120_000
LATEST_MS = 900_000
"""An order may seem this much older than its request (clocks differ), and this much younger (it waited its turn)."""
MARKED_MS = 26 * 3_600_000
"""The same for an order with our mark: by that it is known, even if this computer's clock is wrong by a day."""

TOO_LOW = "too_low_price"
CERTAIN = {
    "server_already_rented": ("somebody else rents this server", True),
    "currency_not_allowed": ("the server does not take this currency", True),
    "server_offline": ("the server is offline", True),
    TOO_LOW: ("the price is under the server's floor", True),
    "not_enough_balance": ("the wallet has not enough balance", False),
}
"""Application errors (code 6) after which it is certain that no order exists, and whether the server is at fault."""

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_KEY_LINE = re.compile(r"[\x20-\x7e]{1,3072}")
_ENV_VALUE = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Quote:
    """What an offer was read from: the price per day in `currency` (for spot our bid), and that in US dollars."""

    price: Decimal
    currency: str
    usd: Decimal
    market: Market = Market.ON_DEMAND

    @property
    def fee(self) -> Fraction:
        """The renter's share on top of the price."""
        return SPOT_FEE if self.market is Market.SPOT else ON_DEMAND_FEE


def read_quote(text: str) -> Quote | None:
    """The quote of an offer, None when it is not one of ours."""
    try:
        fields = coerce.mapping(json.loads(text))
    except ValueError:
        return None
    price, usd = coerce.positive(fields.get("price")), coerce.positive(fields.get("usd"))
    currency = coerce.text(fields.get("currency"))
    market = Market.SPOT if fields.get("market") == Market.SPOT.value else Market.ON_DEMAND
    return Quote(price, currency, usd, market) if price and usd and currency else None


def mark_of(token: str) -> int:
    """The number of an extra container port, made from the token: Clore echoes it, which tells our orders apart."""
    return FIRST_MARK + int.from_bytes(hashlib.sha256(token.encode()).digest()[:8], "big") % MARKS


def wire_image(image: str) -> str:
    """The image's short name: with `docker.io/` before it orders never leave deploying (section 4.1)."""
    return image.removeprefix("docker.io/").removeprefix("library/") if image.startswith("docker.io/") else image


def unfit(request: RentRequest, quote: Quote | None) -> str | None:
    """Why this request must not be sent at all; None when it may."""
    mine = quote is not None and quote.market is request.offer.market
    if quote is None or not mine or coerce.identifier(request.offer.server_id) is None:
        return "the offer is not one of Clore.ai's"
    if not _IMAGE.fullmatch(request.image):
        return "the image's name is not one that Clore.ai takes"
    if not _KEY_LINE.fullmatch(request.public_key):
        return "the public key is not one line of at most 3072 characters"
    if max(request.offer.rate, hourly_rate(quote.usd, quote.fee)) > request.max_rate:
        return "the price is above the highest acceptable rate"
    return None


def create_body(request: RentRequest, quote: Quote, lease_sec: int = 0) -> dict[str, object]:
    """The body of `create_order`. `required_price` makes Clore refuse if the host's price has moved; for spot the price
    is our bid, which Clore refuses under its floor. A machine that nobody calls for `lease_sec` ends itself."""
    spot = quote.market is Market.SPOT
    return {
        "renting_server": int(request.offer.server_id),
        "type": quote.market.value,
        "currency": quote.currency,
        "image": wire_image(request.image),
        "ports": {str(SSH_PORT): "tcp", str(mark_of(request.token)): "tcp"},
        "env": {"GPUSCALE_ORDER": request.token} if _ENV_VALUE.fullmatch(request.token) else {},
        "ssh_key": request.public_key,
        "command": start_script(lease_sec),
        "spotprice" if spot else "required_price": wire_price(quote.price),
        "autossh_entrypoint": True,
    }


def wire_price(price: Decimal) -> int | float:
    """A price as the JSON number that the market itself would print."""
    return int(price) if price == price.to_integral_value() else float(price)


def told_floor(reply: Reply) -> Decimal | None:
    """The server's floor now, where a bid was refused for being under it (section 1.2)."""
    if reply.code != APPLICATION or reply.name != TOO_LOW or reply.body is None:
        return None
    return coerce.positive(reply.body.get("min_price"))


def judge(reply: Reply) -> RentOutcome:
    """What came of a create. Only documented refusals are certain; everything else may have made an order."""
    if reply.good:
        return Accepted()
    if reply.too_many:
        return RentRefused("Clore.ai's rate limit")
    if reply.code == BAD_KEY:
        return RentRefused("Clore.ai does not accept the API key")
    if reply.code in {2, 4}:
        return RentRefused(f"Clore.ai did not take the order: {reply.describe()}")
    if told_floor(reply) is not None:
        return RentRefused(f"the bid is under the server's floor, which is {told_floor(reply)} a day now", moved=True)
    if reply.code == APPLICATION and reply.name in CERTAIN:
        reason, at_fault = CERTAIN[reply.name]
        return RentRefused(reason, pause_server=at_fault)
    return Unknown(f"Clore.ai's answer leaves open whether there is an order: {reply.describe()}")


def rental_of(order: Order, now_ms: int, usd_per_coin: Decimal | None, *, waiting: bool = False) -> Rental:
    """An order as the port shows it. Without `usd_per_coin` rate and bill of an order in another coin are None.

    `now_ms` is when it was seen: for an ended one, when it was first seen so. `waiting` spot orders hold no machine.
    """
    unit = Decimal(1) if order.currency == USD else usd_per_coin
    fee = _fee(order)
    created_at = 1000 * (order.created_sec or 0)
    ssh_port = order.ports.get(SSH_PORT)
    return Rental(
        order_id=str(order.id),
        server_id="" if order.server is None else str(order.server),
        created_at=created_at,
        up=order.container == 2 and not order.expired and not waiting,
        ended=order.expired,
        endpoint=Endpoint(order.host, ssh_port) if order.host and ssh_port else None,
        image=order.image,
        mark=_mark(order.ports),
        rate=None if unit is None or order.price is None else hourly_rate(order.price * unit, fee),
        billed=None if unit is None else _billed(order, fee, unit, now_ms),
        expires_at=created_at + 1000 * order.longest_sec if created_at and order.longest_sec else None,
        waiting=waiting,
    )


def _fee(order: Order) -> Fraction:
    if order.fee is not None and 0 <= order.fee <= Decimal("0.2"):
        return Fraction(order.fee)
    return SPOT_FEE if order.spot else ON_DEMAND_FEE


def _billed(order: Order, fee: Fraction, unit: Decimal, now_ms: int) -> int | None:
    """Spend, fee on it, and the creation fee once the order is older than ten minutes (section 2.3).

    The age is read from the charged minutes; by our clock only with a minute's grace, for orders that stand paused. An
    ended spot order may have waited uncharged: one that was ended within ten minutes owes none, else its row says.
    """
    if order.spend is None or order.spend < 0:
        return None
    minutes = minutes_spent(order.spend, order.price or Decimal(0))
    age_ms = now_ms - 1000 * order.created_sec if order.created_sec else 0
    if order.expired:
        due = minutes > FREE_MINUTES or (order.spot and age_ms > CREATION_FEE_AFTER_MS)
    else:
        due = minutes > FREE_MINUTES or age_ms > CREATION_FEE_AFTER_MS + 60_000
    listed = order.creation_fee if order.creation_fee is not None and order.creation_fee >= 0 else None
    creation_fee = Decimal(CREATION_FEE) / 1_000_000 if listed is None else listed
    return billed_micros(order.spend * unit, fee, creation_fee if due else Decimal(0))


def ended_about(order: Order) -> int:
    """UTC ms at which an ended order ended at the earliest: its beginning and the minutes that were charged."""
    minutes = minutes_spent(order.spend or Decimal(0), order.price or Decimal(0))
    return 1000 * (order.created_sec or 0) + BILLING_UNIT_MS * minutes


def _mark(ports: Mapping[int, int]) -> int | None:
    extra = [port for port in ports if port != SSH_PORT]
    if len(extra) > 1:
        return SEVERAL_MARKS
    return extra[0] if extra else None


def is_ours(claim: Claim, rental: Rental) -> bool:
    """Whether this rental is certainly the one that the claim asked for.

    Clore does not echo the ports of ended orders. Such an order could be an earlier one of the same server and image;
    taking it for ours would mean to forget the one that lives. Hence an ended order without a mark is nobody's.
    """
    age = rental.created_at - claim.requested_at
    if rental.mark == mark_of(claim.token):
        known = -MARKED_MS <= age <= MARKED_MS
    else:
        known = rental.mark is None and not rental.ended and -EARLIEST_MS <= age <= LATEST_MS
    return (
        known
        and rental.server_id == claim.server_id
        and rental.order_id not in claim.known_orders
        and rental.image == wire_image(claim.image)
    )
