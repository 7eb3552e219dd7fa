"""The port behind which every provider stands.

A provider does what it is told once and says truthfully what came of it. It never retries a create, never decides and
never remembers what the store remembers. Every method is bounded in time and raises only `ProviderError`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.offers import Need, Offer, Rental, Survey


class ProviderError(GpuscaleError):
    """The provider gave no usable answer. Nothing may be concluded from it: an error is not an empty list.

    `retry_after_sec` is when to ask again at the earliest, where the provider said so.
    """

    def __init__(self, message: str, *, retry_after_sec: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_sec = retry_after_sec


class CredentialsRefused(ProviderError):
    """The key is wrong or no longer valid: the user must act."""


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What the engine must know of a provider to plan with it.

    `listing_lag_ms` is the longest time in which a rental that exists may still be absent from `rentals`; until it has
    passed (and three complete listings agree) an order with unknown outcome stays reserved.
    """

    name: str
    elastic: bool
    has_spot: bool
    billing_unit_ms: int
    listing_lag_ms: int
    boots: bool
    recognised_by: str


@dataclass(frozen=True, slots=True)
class RentRequest:
    """One order that we mean to place, exactly as the intent in the store says.

    `token` is unique to the intent. `public_key` is the OpenSSH line that must open the machine. `max_rate` is the
    dearest acceptable rate (micro-dollars per hour, fees included): a provider refuses rather than pay more.
    """

    token: str
    offer: Offer
    image: str
    public_key: str
    max_rate: int
    requested_at: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider said yes. `order_id` is None where its reply does not name the order (Clore)."""

    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class RentRefused:
    """The provider said no and it is certain that no order came of it.

    `pause_server` asks to leave this server alone for a while. `moved`: only the price stood in the way; the next look
    at the offers has the new one, so nobody needs to be left alone.
    """

    reason: str
    pause_server: bool = False
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """No usable answer: an order may or may not exist.

    Only listings can tell; the call is never repeated to find out.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left to pay with: micro-dollars, in the wallet that orders are paid from."""

    micros: int
    wallet: str


RentOutcome = Accepted | RentRefused | Unknown


@dataclass(frozen=True, slots=True)
class Claim:
    """What the store remembers of an order that we placed, to recognise its rental by.

    `known_orders` are the order ids that the provider listed before the call: none of them can be ours.
    """

    token: str
    server_id: str
    image: str
    requested_at: int
    known_orders: frozenset[str] = field(default_factory=frozenset)


class Provider(Protocol):
    """Where workers come from."""

    @property
    def facts(self) -> ProviderFacts:
        """The provider's unchanging properties."""
        ...

    async def offers(self, need: Need) -> Survey:
        """What could be rented now for this need, in any order, and why the rest could not. Raises ProviderError.

        Only machines that could never serve the need are left out: another GPU model, too few GPUs, taken, not
        payable. Price limits, reliability and countries are the policy's to judge.
        """
        ...

    async def rent(self, request: RentRequest) -> RentOutcome:
        """Place one order. Never raises for a failed call: what is not certain is `Unknown`."""
        ...

    async def rentals(self) -> tuple[Rental, ...]:
        """Everything on this account that lives, plus recently ended rentals (`ended`) where the provider lists them.

        Complete or an error: raises ProviderError for anything short of a whole, successful listing.
        """
        ...

    def recognises(self, claim: Claim, rental: Rental) -> bool:
        """Whether this rental is certainly the one that the claim asked for. Doubt is False."""
        ...

    async def release(self, order_id: str) -> None:
        """Give a rental back; harmless to repeat and for an id that is gone. Raises ProviderError when it did not work.

        Success is the provider's word only; `rentals` decides whether it is gone.
        """
        ...

    async def balance(self) -> Balance | None:
        """What is left in the wallet that pays; None where a provider has no such thing. Raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
