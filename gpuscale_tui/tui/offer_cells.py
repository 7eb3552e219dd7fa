"""The columns of the market, and what its filter knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gpuscale_tui.model.query import MONEY, NUMBER, PERCENT, TEXT, FieldKind, words
from gpuscale_tui.tui.cells import text
from gpuscale_tui.tui.format import clean, gpus, span, usd
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.market_read import OfferLine
from gpuscale_tui.tui.widgets.columns import Column

OFFER_FIELDS: Mapping[str, FieldKind] = MappingProxyType({
    "gpu": TEXT.told("its GPU"),
    "gpus": NUMBER.told("how many"),
    "price": MONEY.told("dollars per hour and GPU"),
    "rate": MONEY.told("dollars per hour"),
    "work": MONEY.told("what an hour of useful work is expected to cost"),
    "cheaper": PERCENT.told("than so much of the last days"),
    "rank": NUMBER.told("1 is rented first"),
    "rent": words("yes", "no", help="whether the engine would rent it"),
    "for": TEXT.told("the jobs that it would serve"),
    "verdict": TEXT.told("why it would not be rented"),
    "host": TEXT.told("what its host did for us"),
    "server": TEXT,
    "owner": TEXT,
    "provider": TEXT,
    "market": words("on-demand", "spot", bare=True, help="how it is rented"),
    "reliability": PERCENT.told("as its provider says"),
    "country": TEXT,
})  # fmt: skip
OFFER_SORTS = ("rank", "price", "rate", "work", "cheaper", "gpu", "reliability", "country", "server")


def offer_value(row: OfferLine, name: str) -> object:
    """What an offer has in a field of the filter, or a key to sort by."""
    made = _MADE.get(name)
    return getattr(row.offer, {"server": "server_id"}.get(name, name)) if made is None else made(row)


def host_words(row: OfferLine) -> str:
    """What its host did for us, in a few words."""
    known = row.host
    if known is None:
        return "new"
    failed = known.faults + known.refusals + known.evictions
    if not known.rentals:
        return f"{failed} failed" if failed else "new"
    return f"{failed} of {known.rentals} bad" if failed else f"{known.rentals} fine"


def _host(row: OfferLine, _look: Look, _now: int) -> Span:
    said = host_words(row)
    return said, "muted" if said == "new" else "warn" if said.endswith(("bad", "failed")) else "good"


def _rank(row: OfferLine, _look: Look, _now: int) -> Span:
    return ("-", "muted") if row.offer.rank is None or row.offer.verdict else (str(row.offer.rank), "strong")


def _per_gpu(row: OfferLine, _look: Look, _now: int) -> Span:
    return usd(row.per_gpu), "muted" if row.offer.verdict else "strong"


def _cheaper(row: OfferLine, _look: Look, _now: int) -> Span:
    if not row.standing.enough:
        return "-", "muted"
    share = row.standing.cheaper_than
    return f"{share:.0%}".replace("%", " %"), "good" if share >= 0.75 else "warn" if share < 0.25 else "text"


def _verdict(row: OfferLine, look: Look, _now: int) -> Span:
    offer = row.offer
    if offer.verdict:
        return f"{look.glyphs.states['cancelled']} {clean(offer.verdict, ascii_only=look.glyphs.ascii)}", "muted"
    if "; not now: " in offer.reason:
        why = offer.reason.rpartition("; not now: ")[2]
        return f"{look.glyphs.warn} {clean(why, ascii_only=look.glyphs.ascii)}", "warn"
    return f"{look.glyphs.states['done']} would be rented", "good"


def _for(row: OfferLine, look: Look, _now: int) -> Span:
    if row.wanted is None:
        return ("-" if row.offer.verdict else "scale up"), "muted"
    return clean(row.wanted.words, ascii_only=look.glyphs.ascii), "text"


def _reliability(row: OfferLine, _look: Look, _now: int) -> Span:
    known = row.offer.reliability is not None
    return (f"{row.offer.reliability:.1%}" if known else "-"), "muted"


def _work(row: OfferLine, _look: Look, _now: int) -> Span:
    return ("-" if row.offer.expected is None else usd(row.offer.expected)), "text"


_MADE: Mapping[str, Callable[[OfferLine], object]] = MappingProxyType({
    "gpu": lambda row: gpus(row.offer.gpu_type, row.offer.gpu_count),
    "gpus": lambda row: row.offer.gpu_count,
    "price": lambda row: row.per_gpu,
    "work": lambda row: row.offer.expected,
    "cheaper": lambda row: row.standing.cheaper_than if row.standing.enough else None,
    "rent": lambda row: "no" if row.offer.verdict else "yes",
    "for": lambda row: row.wanted.words if row.wanted else None,
    "host": host_words,
})  # fmt: skip
"""What is not a field of the row in the store."""

OFFER_COLUMNS: tuple[Column[OfferLine], ...] = (
    Column("rank", "#", 3, _rank, right=True, id="rank", value=lambda row, _now: row.offer.rank),
    Column("price", "$/GPU/H", 7, _per_gpu, right=True, value=lambda row, _now: row.per_gpu / 1e6),
    Column("rate", "$/H", 7, lambda row, _look, _now: (usd(row.offer.rate), "text"), right=True,
           value=lambda row, _now: row.offer.rate / 1e6, drop=6),
    Column("work", "WORK/H", 7, _work, right=True, drop=7,
           value=lambda row, _now: None if row.offer.expected is None else row.offer.expected / 1e6),
    Column("cheaper", "7 DAYS", 6, _cheaper, right=True, id="cheaper",
           value=lambda row, _now: row.standing.cheaper_than if row.standing.enough else None),
    Column("gpu", "GPU", 12, lambda row, look, _now: text(gpus(row.offer.gpu_type, row.offer.gpu_count), look), grow=1,
           most=18),
    Column("", "FOR", 12, _for, drop=1),
    Column("", "VERDICT", 26, _verdict, grow=3),
    Column("", "HOST", 8, _host, drop=3),
    Column("server", "SERVER", 8, lambda row, look, _now: text(row.offer.server_id, look, "muted"), drop=2),
    Column("", "PROVIDER", 8, lambda row, look, _now: text(row.offer.provider, look, "muted"), drop=9),
    Column("", "MARKET", 9, lambda row, look, _now: text(row.offer.market, look, "muted"), drop=5),
    Column("reliability", "RELIABLE", 8, _reliability, right=True, drop=8),
    Column("country", "IN", 2, lambda row, look, _now: text(row.offer.country, look, "muted"), drop=4, id="country"),
    Column("", "OWNER", 8, lambda row, look, _now: text(row.offer.owner, look, "muted"), optional=True),
    Column("", "READ", 6, lambda row, _look, now: (span(now - row.offer.read_at), "muted"), right=True, optional=True),
)  # fmt: skip
