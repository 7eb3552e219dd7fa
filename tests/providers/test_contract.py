"""The contract that every provider keeps: Clore.ai against the sandbox's real process, our own hosts on real files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpuscale_tui.model.offers import Market, Need, Offer, Rental
from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, ScalerConfig, Settings, SshConfig, SshHost
from gpuscale_tui.providers import ssh
from gpuscale_tui.providers.base import Accepted, Claim, Provider, ProviderError, RentRefused, RentRequest, Unknown
from gpuscale_tui.providers.registry import build_providers

IMAGE = "cloreai/jupyter:ubuntu24.04-v2"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0a gpuscale"
CALL_BOUND_SEC = 60.0
CHANGE_BOUND_SEC = 60.0


class Sandbox:
    """A running sandbox: its address and its switches."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.url: str = start["url"]
        self.key: str = start["api_key"]
        self._control = httpx.Client(
            base_url=start["control_url"], headers={"x-sandbox-token": start["control_token"]}, trust_env=False
        )
        self.renter = httpx.Client(base_url=self.url, headers={"auth": self.key}, trust_env=False)

    def faults(self, **wanted: Any) -> None:
        """Make these the only faults."""
        self._control.post("/faults", json={"clear": True, "set": wanted}).raise_for_status()

    def bill(self) -> dict[str, Any]:
        found: dict[str, Any] = self._control.get("/bill").raise_for_status().json()
        return found

    def close(self) -> None:
        self._control.close()
        self.renter.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    command = [sys.executable, "-m", "gpuscale_tui.sandbox", "serve", "--boot-seconds", "0.2", "--listing-lag", "0.3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        running = Sandbox(json.loads(process.stdout.readline()))
        yield running
        running.close()
        process.stdin.close()
        assert process.wait(20) == 0


class Place(ABC):
    """One provider with the means to disturb it."""

    provider: Provider
    need = Need(IMAGE, "RTX 4090", 1, None)

    @abstractmethod
    async def rent_as_somebody_else(self, offer: Offer) -> None:
        """Make a rental on this account that is not ours: same image, about the same time."""

    @abstractmethod
    def lose_the_next_reply(self) -> None:
        """The next rent happens, but its reply does not arrive."""

    @abstractmethod
    def break_the_listing(self) -> None:
        """From now on the list of rentals cannot be read."""

    @abstractmethod
    async def again(self) -> Provider:
        """The provider as a new process would build it."""

    @abstractmethod
    def mend(self) -> None:
        """End every disturbance."""

    async def end_everything(self) -> None:
        """Release all rentals, also those that no listing shows yet."""
        for rental in live(await self.provider.rentals()):
            await self.provider.release(rental.order_id)


class ClorePlace(Place):
    lease_hours = 12.0

    def __init__(self, sandbox: Sandbox, state_dir: Path, market: Market = Market.ON_DEMAND) -> None:
        self._sandbox = sandbox
        self._state_dir = state_dir
        self.need = replace(Place.need, market=market)
        self.provider = self._build()

    def _build(self) -> Provider:
        clore = CloreConfig(enabled=True, request_interval_sec=0, create_interval_sec=0)
        environ = {"CLORE_API_KEY": self._sandbox.key, "GPUSCALE_CLORE_URL": self._sandbox.url}
        settings = Settings(scaler=ScalerConfig(lease_hours=self.lease_hours), providers=ProvidersConfig(clore=clore))
        built = build_providers(settings, state_dir=self._state_dir, environ=environ, clore_cache_sec=0.05)
        return built["clore"]

    async def rent_as_somebody_else(self, offer: Offer) -> None:
        order = {
            "renting_server": int(offer.server_id),
            "type": offer.market.value,
            "spotprice": float(json.loads(offer.quote)["price"]),
            "currency": "USD-Blockchain",
            "image": IMAGE,
            "ports": {"22": "tcp", "8080": "tcp"},
            "ssh_key": PUBLIC_KEY,
            "autossh_entrypoint": True,
        }
        reply = await asyncio.to_thread(self._sandbox.renter.post, "/create_order", json=order)
        assert reply.json() == {"code": 0}

    def lose_the_next_reply(self) -> None:
        self._sandbox.faults(create_reply_lost=1)

    def break_the_listing(self) -> None:
        self._sandbox.faults(my_orders_500=1000)

    async def again(self) -> Provider:
        await self.provider.aclose()
        self.provider = self._build()
        return self.provider

    def mend(self) -> None:
        self._sandbox.faults()

    async def end_everything(self) -> None:
        for line in self._sandbox.bill()["orders"]:
            if line["state"] != "ended":
                await self.provider.release(str(line["order"]))


class SshPlace(Place):
    def __init__(self, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._state_dir = state_dir
        self._monkeypatch = monkeypatch
        self._broken = state_dir / "ssh" / "other.json"
        self.provider = self._build()

    def _build(self) -> Provider:
        hosts = tuple(
            SshHost(f"box{n}", "127.0.0.1", 2200 + n, gpu_type="rtx 4090", gpu_count=1, price_per_hour=0.2)
            for n in range(4)
        )
        settings = Settings(providers=ProvidersConfig(ssh=SshConfig(hosts)))
        return build_providers(settings, state_dir=self._state_dir, environ={})["ssh"]

    async def rent_as_somebody_else(self, offer: Offer) -> None:
        assert isinstance(await self._build().rent(_request(offer, "somebody-else")), Accepted)

    def lose_the_next_reply(self) -> None:
        def fail(path: Path) -> None:
            raise OSError(5, "Input/output error")

        self._monkeypatch.setattr(ssh, "_sync_directory", fail)

    def break_the_listing(self) -> None:
        self._broken.parent.mkdir(parents=True, exist_ok=True)
        self._broken.write_bytes(b'{"name": "oth')

    async def again(self) -> Provider:
        self.provider = self._build()
        return self.provider

    def mend(self) -> None:
        self._monkeypatch.undo()
        self._broken.unlink(missing_ok=True)


@pytest.fixture(params=["clore", "clore-spot", "ssh"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    found: Place
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param.startswith("clore"):
            market = Market.SPOT if request.param == "clore-spot" else Market.ON_DEMAND
            found = ClorePlace(request.getfixturevalue("sandbox"), tmp_path, market)
        else:
            found = SshPlace(tmp_path, monkeypatch)
        yield found
        found.mend()
        await found.end_everything()
        await found.provider.aclose()


def _request(offer: Offer, token: str, **changes: Any) -> RentRequest:
    now = time.time_ns() // 1_000_000
    return RentRequest(token, offer, IMAGE, PUBLIC_KEY, changes.get("max_rate", offer.rate), now)


def _claim(request: RentRequest, before: tuple[Rental, ...]) -> Claim:
    known = frozenset(rental.order_id for rental in before)
    return Claim(request.token, request.offer.server_id, request.image, request.requested_at, known)


async def bounded(call: Awaitable[Any]) -> Any:
    """Every method ends within its bound."""
    async with asyncio.timeout(CALL_BOUND_SEC):
        return await call


async def listing(provider: Provider, until: Callable[[tuple[Rental, ...]], bool]) -> tuple[Rental, ...]:
    """Listings until one is as expected; fails after a generous while."""
    async with asyncio.timeout(CHANGE_BOUND_SEC):
        while True:
            found = await provider.rentals()
            if until(found):
                return found
            await asyncio.sleep(0.05)


async def rent_one(place: Place, token: str) -> tuple[RentRequest, Claim]:
    before = await place.provider.rentals()
    offer = (await place.provider.offers(place.need)).offers[0]
    request = _request(offer, token)
    assert isinstance(await bounded(place.provider.rent(request)), Accepted)
    return request, _claim(request, before)


def live(rentals: tuple[Rental, ...]) -> list[Rental]:
    return [rental for rental in rentals if not rental.ended]


async def test_offers_are_what_was_asked_for(place: Place) -> None:
    survey = await bounded(place.provider.offers(place.need))
    assert survey.offers
    for offer in survey.offers:
        assert (offer.provider, offer.gpu_type) == (place.provider.facts.name, "RTX 4090")
        assert offer.market == (place.need.market or Market.ON_DEMAND)
        assert offer.gpu_count >= 1
        assert offer.terms.rate > 0
        assert offer.server_id
        json.loads(offer.quote)
    assert len({offer.server_id for offer in survey.offers}) == len(survey.offers)


async def test_an_unknown_gpu_has_no_offers_and_no_error(place: Place) -> None:
    survey = await bounded(place.provider.offers(Need(IMAGE, "RTX 9999 Quantum", 1, None)))
    assert survey.offers == ()


async def test_what_is_rented_is_listed_recognised_released_and_gone(place: Place) -> None:
    provider = place.provider
    _, claim = await rent_one(place, "token-a")
    found = await listing(provider, lambda rentals: any(provider.recognises(claim, each) for each in rentals))
    (ours,) = [rental for rental in found if provider.recognises(claim, rental)]
    up = await listing(provider, lambda rentals: any(each.up for each in rentals if each.order_id == ours.order_id))
    (ready,) = [rental for rental in up if rental.order_id == ours.order_id]
    assert ready.endpoint is not None
    assert ready.endpoint.host == "127.0.0.1"
    await bounded(provider.release(ours.order_id))
    left = await listing(provider, lambda rentals: ours.order_id not in {each.order_id for each in live(rentals)})
    assert not any(provider.recognises(claim, rental) for rental in live(left))


async def test_a_rented_machine_is_not_offered(place: Place) -> None:
    request, _ = await rent_one(place, "token-a")
    survey = await place.provider.offers(place.need)
    assert request.offer.server_id not in {offer.server_id for offer in survey.offers}
    assert sum(survey.rejected.values()) >= 1


async def test_a_second_rent_of_the_same_machine_is_refused(place: Place) -> None:
    request, _ = await rent_one(place, "token-a")
    outcome = await bounded(place.provider.rent(_request(request.offer, "token-b")))
    assert isinstance(outcome, RentRefused)


async def test_more_than_the_highest_rate_is_never_paid(place: Place) -> None:
    offer = (await place.provider.offers(place.need)).offers[0]
    outcome = await bounded(place.provider.rent(_request(offer, "token-a", max_rate=offer.rate - 1)))
    assert isinstance(outcome, RentRefused)
    await asyncio.sleep(0.4)  # longer than the sandbox's listing lag: an order, if there were one, would show
    assert not live(await place.provider.rentals())


async def test_what_somebody_else_rented_is_never_recognised(place: Place) -> None:
    provider = place.provider
    first, second = (await provider.offers(place.need)).offers[:2]
    request = _request(first, "token-a")
    claims = [_claim(request, ()), _claim(_request(second, "token-b"), ())]
    await place.rent_as_somebody_else(first)
    found = await listing(provider, lambda rentals: bool(live(rentals)))
    assert not any(provider.recognises(claim, rental) for claim in claims for rental in found)


async def test_of_two_rentals_each_claim_recognises_its_own(place: Place) -> None:
    provider = place.provider
    claims = [(await rent_one(place, token))[1] for token in ("token-a", "token-b")]
    found = await listing(provider, lambda rentals: len(live(rentals)) == 2)
    ours = [[rental.order_id for rental in found if provider.recognises(claim, rental)] for claim in claims]
    assert [len(each) for each in ours] == [1, 1]
    assert ours[0] != ours[1]


async def test_release_may_be_repeated_and_an_id_that_is_gone_is_fine(place: Place) -> None:
    provider = place.provider
    _, claim = await rent_one(place, "token-a")
    found = await listing(provider, lambda rentals: any(provider.recognises(claim, each) for each in rentals))
    order_id = next(rental.order_id for rental in found if provider.recognises(claim, rental))
    for _ in range(3):
        await bounded(provider.release(order_id))
    await listing(provider, lambda rentals: not live(rentals))


async def test_an_old_release_does_not_end_a_new_rental(place: Place) -> None:
    provider = place.provider
    _, claim = await rent_one(place, "token-a")
    found = await listing(provider, lambda rentals: any(provider.recognises(claim, each) for each in rentals))
    old = next(rental.order_id for rental in found if provider.recognises(claim, rental))
    await provider.release(old)
    await listing(provider, lambda rentals: not live(rentals))
    await rent_one(place, "token-b")
    await listing(provider, lambda rentals: len(live(rentals)) == 1)
    await provider.release(old)
    assert len(live(await provider.rentals())) == 1


async def test_a_lost_reply_is_unknown_and_the_order_is_found_in_the_listing(place: Place) -> None:
    provider = place.provider
    before = await provider.rentals()
    offer = (await provider.offers(place.need)).offers[0]
    request = _request(offer, "token-a")
    place.lose_the_next_reply()
    assert isinstance(await bounded(provider.rent(request)), Unknown)
    place.mend()
    claim = _claim(request, before)
    found = await listing(provider, lambda rentals: any(provider.recognises(claim, each) for each in rentals))
    assert len([rental for rental in found if provider.recognises(claim, rental)]) == 1


async def test_an_unreadable_listing_is_an_error_never_an_empty_list(place: Place) -> None:
    await rent_one(place, "token-a")
    place.break_the_listing()
    with pytest.raises(ProviderError):
        await bounded(place.provider.rentals())
    place.mend()
    assert len(await listing(place.provider, lambda rentals: bool(live(rentals)))) >= 1


async def test_a_new_process_finds_and_releases_what_an_old_one_rented(place: Place) -> None:
    _, claim = await rent_one(place, "token-a")
    await listing(place.provider, lambda rentals: bool(live(rentals)))
    provider = await place.again()
    found = await provider.rentals()
    (ours,) = [rental for rental in found if provider.recognises(claim, rental)]
    await provider.release(ours.order_id)
    await listing(provider, lambda rentals: not live(rentals))


# Clore.ai alone


@pytest.fixture(params=[Market.ON_DEMAND])
async def clore(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[ClorePlace]:
    place = ClorePlace(sandbox, tmp_path, request.param)
    yield place
    place.mend()
    await place.end_everything()
    await place.provider.aclose()


@pytest.mark.parametrize("clore", list(Market), indirect=True)
async def test_the_bill_is_the_sandboxs_to_the_micro_dollar(sandbox: Sandbox, clore: ClorePlace) -> None:
    provider = clore.provider
    _, claim = await rent_one(clore, "token-a")
    found = await listing(provider, lambda rentals: any(provider.recognises(claim, each) for each in rentals))
    ours = next(rental for rental in found if provider.recognises(claim, rental))
    await provider.release(ours.order_id)
    ended = await listing(
        provider, lambda rentals: any(each.ended and each.order_id == ours.order_id for each in rentals)
    )
    (final,) = [rental for rental in ended if rental.order_id == ours.order_id]
    lines = [line for line in sandbox.bill()["orders"] if str(line["order"]) == ours.order_id]
    assert [final.billed] == [line["total_micro"] for line in lines]
    assert ours.rate is not None
    assert ours.expires_at is not None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"create_500_after_success": 1}, Unknown),
        ({"create_500": 1}, Unknown),
        ({"create_lost_race": 1}, RentRefused),
        ({"server_offline": 1}, RentRefused),
        ({"not_enough_balance": 1}, RentRefused),
        ({"rate_limit_storm": {"count": 1, "path": "create_order"}}, RentRefused),
        ({"html_body": {"count": 1, "path": "create_order"}}, Unknown),
        ({"connection_reset": {"count": 1, "path": "create_order"}}, Unknown),
        ({"create_price_moved": 1.5}, (RentRefused, Unknown)),
    ],
)
async def test_the_sandboxs_misbehaviour_is_judged_rightly(
    sandbox: Sandbox, clore: ClorePlace, fault: dict[str, Any], expected: type
) -> None:
    offer = (await clore.provider.offers(clore.need)).offers[0]
    sandbox.faults(**fault)
    outcome = await bounded(clore.provider.rent(_request(offer, "token-a")))
    assert isinstance(outcome, expected)
    sandbox.faults()
    if "create_500_after_success" in fault:
        await listing(clore.provider, lambda rentals: bool(live(rentals)))


async def test_a_machine_that_no_engine_comes_to_ends_itself(sandbox: Sandbox, clore: ClorePlace) -> None:
    """Whoever ordered it died before calling on it: it must not cost money until somebody looks."""
    clore.lease_hours = 1 / 3600
    await clore.again()
    await rent_one(clore, "token-a")
    await listing(clore.provider, lambda _: any(line["state"] == "halted" for line in sandbox.bill()["orders"]))


async def test_a_dead_server_is_an_error_for_reads_and_a_certain_no_for_rent(
    clore: ClorePlace, tmp_path: Path, unused_port: int
) -> None:
    offer = (await clore.provider.offers(clore.need)).offers[0]
    environ = {"CLORE_API_KEY": "k" * 32, "GPUSCALE_CLORE_URL": f"http://127.0.0.1:{unused_port}/v1"}
    settings = Settings(providers=ProvidersConfig(clore=CloreConfig(enabled=True, request_interval_sec=0)))
    dead = build_providers(settings, state_dir=tmp_path, environ=environ)["clore"]
    for call in (dead.rentals(), dead.offers(clore.need), dead.release("1")):
        with pytest.raises(ProviderError):
            await bounded(call)
    assert isinstance(await bounded(dead.rent(_request(offer, "token-a"))), RentRefused)
    await dead.aclose()


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    with contextlib.suppress(asyncio.CancelledError):
        await server.wait_closed()
    return port
