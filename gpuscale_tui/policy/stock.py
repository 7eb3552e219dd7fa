"""What the market has for each group of jobs, judged without a look at every offer for every group."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter

from gpuscale_tui.model.cuda import Cuda
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.policy.demand import Group
from gpuscale_tui.policy.matching import (
    Ask,
    ask_of,
    host_verdict,
    is_too_short,
    mismatch,
    offer_cuda,
    over_price,
    too_short,
    unsuitable,
)
from gpuscale_tui.policy.world import Limits, MarketView, World

_Verdict = tuple[Cuda | None, str]
"""The CUDA of an offer's driver, and what speaks against its host."""
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
    """Offers that differ in price and host only, the cheapest first, and what speaks against their hosts.

    `hours` is the least time for which one of them is on offer.
    """

    gpu_type: str | None
    gpu_count: int
    provider: str
    market: Market
    cuda: Cuda | None
    verdict: str
    offers: Sequence[Offer]
    rates: Sequence[int]
    hours: float


class Stock:
    """One list of offers, by kind: there are few kinds, and within a kind only the price decides."""

    def __init__(self, offers: Iterable[Offer], limits: Limits, known: dict[int, _Verdict] | None = None) -> None:
        """`known` keeps what was found of each offer, by its identity, for other lists that have it too."""
        self._limits = limits
        known = {} if known is None else known
        kinds: dict[tuple[str | None, int, str, Market, Cuda | None, str], list[Offer]] = {}
        for offer in offers:
            found = known.get(id(offer))
            if found is None:
                found = known[id(offer)] = (offer_cuda(offer, limits), host_verdict(offer, limits))
            key = (offer.gpu_type, offer.gpu_count, offer.provider, offer.market, *found)
            kinds.setdefault(key, []).append(offer)
        self._kinds: list[_Kind] = []
        for key, members in kinds.items():
            members.sort(key=_by_price)
            hours = min((offer.max_hours for offer in members if offer.max_hours is not None), default=inf)
            self._kinds.append(_Kind(*key, members, [offer.terms.rate for offer in members], hours))

    def judge(self, ask: Ask) -> Judged:
        """Every offer's verdict, summed up; the same as `offer_verdict` gives one by one."""
        good: list[Offer] = []
        verdicts: Counter[str] = Counter()
        cheapest: list[int] = []
        dear: list[int] = []
        for kind in self._kinds:
            against = self._against(kind, ask)
            if against:
                verdicts[against] += len(kind.rates)
                continue
            offers, rates = self._long_enough(kind, ask)
            if len(rates) < len(kind.rates):
                verdicts[too_short(ask)] += len(kind.rates) - len(rates)
            within = bisect_right(rates, ask.ceiling)
            if within:
                good += offers[:within]
                cheapest.append(rates[0])
            if within < len(rates):
                dear.append(rates[within])
                verdicts[over_price(ask)] += len(rates) - within
        return Judged(good, verdicts, min(cheapest, default=None), min(dear, default=None))

    def _against(self, kind: _Kind, ask: Ask) -> str:
        """What speaks against all offers of a kind, prices and lengths aside."""
        return (
            mismatch(kind.gpu_type, kind.gpu_count, kind.provider, kind.market, ask)
            or unsuitable(kind.provider, kind.market, kind.cuda, ask, self._limits)
            or kind.verdict
        )

    def _long_enough(self, kind: _Kind, ask: Ask) -> tuple[Sequence[Offer], Sequence[int]]:
        """The offers of a kind that last for as long as the job may need, and their rates."""
        if ask.hours <= kind.hours:
            return kind.offers, kind.rates
        offers = [offer for offer in kind.offers if not is_too_short(offer, ask, self._limits)]
        return offers, [offer.terms.rate for offer in offers]


class Markets:
    """The market as each group may use it. Groups that ask the same of the same offers are judged once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stocks: dict[int, Stock] = {}
        self._known: dict[int, _Verdict] = {}
        self._judged: dict[tuple[int, Ask], Judged] = {}

    def view(self, key: str) -> MarketView | None:
        """What was read for a group, None where nothing was."""
        return self._world.markets.get(key)

    def of_group(self, group: Group) -> Judged:
        """What there is for the most urgent job of a group."""
        return self.of(group.need, group.key, group.hours)

    def of(self, need: Need, key: str, hours: float = 0.0) -> Judged:
        """What there is for a need, for so many hours; nothing where its market was not read."""
        view = self._world.markets.get(key)
        if view is None:
            return _NOTHING
        same = id(view.offers)  # alive as long as the world: no other tuple has this id
        ask = ask_of(need, self._world.limits, hours)
        judged = self._judged.get((same, ask))
        if judged is None:
            if same not in self._stocks:
                self._stocks[same] = Stock(view.offers, self._world.limits, self._known)
            judged = self._judged[same, ask] = self._stocks[same].judge(ask)
        return judged


_NOTHING = Judged()
