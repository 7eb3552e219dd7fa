"""What the market has for each group of jobs, judged without a look at every offer for every group."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.policy.matching import Ask, ask_of, host_verdict, mismatch, over_price
from gpuscale_tui.policy.world import Limits, MarketView, World

_by_price = attrgetter("terms.rate", "provider", "server_id")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a market has for one ask: the offers that may be rented, and how many others fail for which reason.

    `cheapest` is the lowest rate among those that may be rented, `cheapest_dear` among those that only the price
    speaks against.
    """

    offers: Sequence[Offer] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)
    cheapest: int | None = None
    cheapest_dear: int | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """Offers that differ in price and host only, the cheapest first, and what speaks against their hosts."""

    gpu_type: str | None
    gpu_count: int
    provider: str
    market: Market
    verdict: str
    offers: Sequence[Offer]
    rates: Sequence[int]


class Stock:
    """One list of offers, by kind: there are few kinds, and within a kind only the price decides."""

    def __init__(self, offers: Iterable[Offer], limits: Limits) -> None:
        kinds: dict[tuple[str | None, int, str, Market, str], list[Offer]] = {}
        for offer in offers:
            verdict = host_verdict(offer, limits)
            key = (offer.gpu_type, offer.gpu_count, offer.provider, offer.market, verdict)
            kinds.setdefault(key, []).append(offer)
        self._kinds: list[_Kind] = []
        for key, members in kinds.items():
            members.sort(key=_by_price)
            self._kinds.append(_Kind(*key, members, [offer.terms.rate for offer in members]))

    def judge(self, ask: Ask) -> Judged:
        """Every offer's verdict, summed up; the same as `offer_verdict` gives one by one."""
        good: list[Offer] = []
        verdicts: dict[str, int] = {}
        cheapest: list[int] = []
        dear: list[int] = []
        for kind in self._kinds:
            against = mismatch(kind.gpu_type, kind.gpu_count, kind.provider, kind.market, ask) or kind.verdict
            within = 0 if against else bisect_right(kind.rates, ask.ceiling)
            if within:
                good += kind.offers[:within]
                cheapest.append(kind.rates[0])
            if within == len(kind.rates):
                continue
            if not against:
                dear.append(kind.rates[within])
            against = against or over_price(ask)
            verdicts[against] = verdicts.get(against, 0) + len(kind.rates) - within
        return Judged(good, verdicts, min(cheapest, default=None), min(dear, default=None))


class Markets:
    """The market as each group may use it. Groups that ask the same of the same offers are judged once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stocks: dict[int, Stock] = {}
        self._judged: dict[tuple[int, Ask], Judged] = {}

    def view(self, key: str) -> MarketView | None:
        """What was read for a group, None where nothing was."""
        return self._world.markets.get(key)

    def of(self, need: Need, key: str) -> Judged:
        """What there is for a need; nothing where its market was not read."""
        view = self._world.markets.get(key)
        if view is None:
            return _NOTHING
        same = id(view.offers)  # alive as long as the world: no other tuple has this id
        ask = ask_of(need, self._world.limits)
        judged = self._judged.get((same, ask))
        if judged is None:
            if same not in self._stocks:
                self._stocks[same] = Stock(view.offers, self._world.limits)
            judged = self._judged[same, ask] = self._stocks[same].judge(ask)
        return judged


_NOTHING = Judged()
