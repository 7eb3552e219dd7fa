"""Renting the one offer that a user has chosen: asked for by `commands.rent`, carried out once, or refused with why.

The request is closed in the transaction that writes the intent (`renter`): a request without an intent is carried out
by the next engine, one with an intent never again. All limits are tested there, as for every other machine.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import astuple, dataclass

from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.renter import Answers, Renter
from gpuscale_tui.model.offers import Market, Need, Offer
from gpuscale_tui.model.states import Purpose
from gpuscale_tui.policy.demand import group_jobs
from gpuscale_tui.policy.matching import BANNED, ask_of, mismatch
from gpuscale_tui.policy.wording import usd_at_least
from gpuscale_tui.policy.world import Limits, Rent, World
from gpuscale_tui.providers.base import ProviderError
from gpuscale_tui.store import engines
from gpuscale_tui.store.engines import Request

GIVE_UP_MS = 300_000
"""A request that could not be carried out for so long is refused: its user has done something else by now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request to rent is about: an offer as its user saw it. `rate` (micro-dollars per hour) is what they were
    told it costs, and have agreed to; `despite_ban`: they know that its host or owner is banned, and want it all the
    same."""

    provider: str
    server_id: str
    market: str
    gpu_type: str | None
    gpu_count: int
    rate: int
    despite_ban: bool = False

    @property
    def need(self) -> Need:
        """What its provider is asked for to see it again."""
        gpus = 0 if self.gpu_type is None else self.gpu_count
        return Need("", self.gpu_type, gpus, None, self.provider, Market(self.market))

    def write(self) -> str:
        """As a request keeps it."""
        return json.dumps(astuple(self))

    @classmethod
    def read(cls, about: str) -> Wanted | None:
        """From a request; None where that makes no sense."""
        try:
            provider, server_id, market, gpu_type, gpu_count, rate, despite_ban = json.loads(about)
            gpu = None if gpu_type is None else str(gpu_type)
            return cls(
                str(provider), str(server_id), str(Market(market)), gpu, int(gpu_count), int(rate), bool(despite_ban)
            )
        except (ValueError, TypeError):
            return None


class ByHand:
    """Carries out the requests to rent, one after the other."""

    def __init__(self, context: Context, renter: Renter) -> None:
        self._context = context
        self._renter = renter
        self._waits = ""
        """Why the request cannot be carried out yet."""

    async def carry_out(self, request: Request | None, world: World) -> asyncio.Task[None] | None:
        """Begin to rent what is asked for; what cannot be rented is refused, what cannot be rented yet waits."""
        if request is None:
            return None
        wanted = Wanted.read(request.about)
        refusal = self._hopeless(request, wanted)
        if wanted is None or refusal:
            await self._refuse(request, refusal)
            return None
        self._waits = self._renter.paused(wanted.provider) or ""
        found = None if self._waits else await self._find(wanted)
        if found is None:
            return None
        refusal = against(found, wanted, world.limits)
        if refusal:
            await self._refuse(request, refusal)
            return None
        rent = Rent(found, need_for(found, world), f"asked for by hand by {request.user}", Purpose.HAND)
        return self._renter.begin(rent, Answers(request.id, only_this=True))

    def _hopeless(self, request: Request, wanted: Wanted | None) -> str:
        """Why a request will not be carried out, whatever the market says."""
        if wanted is None:
            return "it makes no sense"
        if self._context.control.drain:
            return "the engine takes no new work"
        if wanted.provider not in self._context.providers:
            return f"provider {wanted.provider} is not set up"
        if self._context.now() - max(request.at, request.due_at) > GIVE_UP_MS:
            return (
                f"it was asked for more than {GIVE_UP_MS // 60_000} min ago{f'; {self._waits}' if self._waits else ''}"
            )
        return ""

    async def _find(self, wanted: Wanted) -> Offer | None:
        """The offer as it is now; None where it is not there, or nobody can say."""
        provider = self._context.providers[wanted.provider]
        try:
            survey = await provider.offers(wanted.need)
        except ProviderError as error:
            self._waits = str(error)
            return None
        same = (wanted.server_id, wanted.market)
        found = next((offer for offer in survey.offers if (offer.server_id, offer.market) == same), None)
        if found is None:
            self._waits = f"server {wanted.server_id} of {wanted.provider} is not on offer"
        return found

    async def _refuse(self, request: Request, why: str) -> None:
        context = self._context
        await context.db.write(engines.refuse, request.id, why, context.now())


def against(offer: Offer, wanted: Wanted, limits: Limits) -> str:
    """Why an offer is not rented as its user meant it: it has become dearer, or was banned since."""
    if offer.rate > wanted.rate:
        return f"it costs {usd_at_least(offer.rate)}/h now, {usd_at_least(wanted.rate)}/h when it was asked for"
    host = limits.paused.get((offer.provider, offer.server_id), "")
    owner = limits.paused_owners.get((offer.provider, offer.owner or ""), "")
    banned = next((words for words in (host, owner) if words.startswith(BANNED)), "")
    return f"it is {banned}" if banned and not wanted.despite_ban else ""


def need_for(offer: Offer, world: World) -> Need:
    """What the machine is rented for, which decides its image: the most urgent waiting jobs that may use it, quality
    aside (its user has looked at that); else the image of the most urgent ones of its GPU, else that of the settings.
    """
    image = "" if world.default_need is None else world.default_need.image
    same: list[Need] = []
    for group in group_jobs(world):
        ask = ask_of(group.need, world.limits)
        if mismatch(offer.gpu_type, offer.gpu_count, offer.provider, offer.market, ask):
            continue
        if offer.rate <= ask.ceiling:
            return group.need
        same.append(group.need)
    gpus = 0 if offer.gpu_type is None else offer.gpu_count
    return Need(same[0].image if same else image, offer.gpu_type, gpus, None)
