"""The simulated world with a few more things that may happen in it, for scenarios that must come by rare places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpuscale_tui.model.hosts import Examination
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.offers import Rental
from gpuscale_tui.providers.base import Accepted, Balance, Provider, ProviderError, RentOutcome, RentRequest
from gpuscale_tui.remote.attempts import AttemptRef
from gpuscale_tui.remote.pulse import Pulse
from gpuscale_tui.remote.site import Site
from tests.sim import machines
from tests.sim.market import BazaarPort, Order
from tests.sim.world import Universe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sim.market import Bazaar
    from tests.sim.world import Plan


@dataclass(slots=True)
class Fate:
    """What a scenario lets happen now."""

    outbid: bool = False
    """Orders are listed and hold no machine."""
    ends_in_sec: float | None = None
    """Rentals say that they end so long after they began."""
    dollars: float = 1_000.0
    """In the wallet; below zero it cannot be read."""
    bare: bool = False
    """Machines lack what the run protocol needs."""
    odd: bool = False
    """The provider's module fails in a way that nobody foresaw."""
    skew_ms: int = 0
    """By how much the clocks of machines differ."""
    still: bool = False
    """Jobs do nothing at all."""
    late_sec: float = 0.0
    """How long a new order stays out of the lists, against all that the marketplace promises."""
    dearer: int = 0
    """By how much (micro-dollars per hour) rentals are listed dearer than they were ordered."""
    listed: bool = True
    """Whether the marketplace lists our orders at all: without it, it forgets them against all that it promises."""


DOWN_SEC = 3.0
"""How long no engine runs after the end of one."""


class Stage(Universe):
    """A universe with a fate."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.fate = Fate()
        self.down_sec = DOWN_SEC
        super().__init__(plan, directory)

    def providers(self) -> dict[str, Provider]:
        """See `Universe.providers`."""
        return {bazaar.name: StagePort(bazaar, self) for bazaar in self.bazaars}

    async def _connect(self, endpoint: Endpoint) -> Site:
        return StageSite(await machines.connect(self, endpoint), self)  # type: ignore[return-value]

    def live(self, *, exit_when_idle: bool = False) -> str:
        """See `Universe.live`; who is dead is not told to end."""
        try:
            return super().live(exit_when_idle=exit_when_idle)
        finally:
            self._main = None


class StageSite:
    """A machine to which the fate may happen."""

    def __init__(self, site: machines.PretendedSite, stage: Stage) -> None:
        self._site = site
        self._stage = stage

    def __getattr__(self, name: str) -> object:
        return getattr(self._site, name)

    async def is_usable(self) -> bool:
        """See `Site`."""
        return await self._site.is_usable() and not self._stage.fate.bare

    async def examine(self, base: str, now: Callable[[], int]) -> Examination:
        """See `Site`."""
        return replace(await self._site.examine(base, now), skew_ms=self._stage.fate.skew_ms)

    async def pulse(self, ref: AttemptRef) -> Pulse:
        """See `Site`."""
        pulse = await self._site.pulse(ref)
        return Pulse(1, 0) if self._stage.fate.still else pulse


class StagePort(BazaarPort):
    """The marketplace's port."""

    def __init__(self, bazaar: Bazaar, stage: Stage) -> None:
        super().__init__(bazaar)
        self._stage = stage

    def _rental(self, order: Order, at: int) -> Rental | None:
        rental, fate = super()._rental(order, at), self._stage.fate
        if rental is None or not order.ours or rental.ended:
            return rental
        if not fate.listed:
            self._stage.forgivable.add(order.token)
            return None
        if fate.ends_in_sec is not None:
            rental = replace(rental, expires_at=order.created_at + int(fate.ends_in_sec * 1000))
        if fate.dearer and rental.rate is not None:
            rental = replace(rental, rate=rental.rate + fate.dearer)
        return replace(rental, waiting=True, up=False, billed=0) if fate.outbid else rental

    async def rentals(self) -> tuple[Rental, ...]:
        """See `Provider.rentals`."""
        if self._stage.fate.odd:
            raise RuntimeError("nobody thought of this")
        return await super().rentals()

    async def rent(self, request: RentRequest) -> RentOutcome:
        """See `Provider.rent`; what appears later than promised is forgiven."""
        outcome = await super().rent(request)
        for order in self._bazaar.orders.values():
            if order.token == request.token and self._stage.fate.late_sec:
                self._stage.forgivable.add(order.token)
                order.shown_at = self._stage.now() + int(self._stage.fate.late_sec * 1000)
        if not isinstance(outcome, Accepted):
            self._stage.forgivable.add(request.token)
        return outcome

    async def balance(self) -> Balance | None:
        """See `Provider.balance`."""
        await super().balance()
        if self._stage.fate.dollars < 0:
            raise ProviderError("HTTP 500")
        return Balance(int(self._stage.fate.dollars * 1_000_000), "USD")
