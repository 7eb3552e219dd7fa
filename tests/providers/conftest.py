"""A virtual clock, Clore.ai bodies and a stand-in for its server, shared by the tests of the providers."""

from __future__ import annotations

import asyncio
import copy
import json
import selectors
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gpuscale_tui.model.offers import Need, Offer
from gpuscale_tui.providers.base import RentRequest
from gpuscale_tui.providers.clore.api import CloreApi
from gpuscale_tui.providers.clore.limiter import Limiter
from gpuscale_tui.providers.clore.provider import CloreProvider

KEY = "k3y-0123456789abcdef0123456789ab"
IMAGE = "cloreai/jupyter:ubuntu24.04-v2"
NOW_MS = 1_790_000_060_000
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0a gpuscale"
USD = "USD-Blockchain"

SERVER: dict[str, Any] = {
    "id": 104512,
    "owner": 3120,
    "mrl": 168,
    "price": {
        "on_demand": {"bitcoin": 0.0000702, "CLORE-Blockchain": 3600.5, USD: 4.5},
        "spot": {"CLORE-Blockchain": 2100.0, USD: 2.6},
        "usd": {"on_demand_btc": 4.502, "on_demand_clore": 4.5001, "on_demand_usd": 4.5, "spot": 0},
    },
    "rented": False,
    "specs": {
        "cpus": "16/32",
        "ram": 62.71,
        "gpu": "1x NVIDIA GeForce RTX 4090",
        "gpuram": 23,
        "disk": "SAMSUNG 980 241.1GB",
        "net": {"up": 310.2, "down": 702.9, "cc": "CZ", "test_history": ["S|1782000000|702.9|310.2"]},
    },
    "reliability": 0.9931,
    "allowed_coins": ["bitcoin", "CLORE-Blockchain", USD],
    "gpu_array": [" RTX 4090"],
    "cuda_version": "12.8",
}

ORDER: dict[str, Any] = {
    "id": 2104417,
    "creation_fee": 0.1,
    "price": 4.5,
    "mrl": 604800,
    "image": IMAGE,
    "currency": USD,
    "spend": 0.003125,
    "ct": 1790000000,
    "si": 104512,
    "mon_container": 0,
    "online": True,
    "pub_cluster": ["n1.de.clorecloud.net"],
    "tcp_ports": ["22:1733"],
    "http_port": "8888",
}


class Samples:
    """Bodies to vary: keyword arguments replace keys, None removes one; `a__b` reaches into objects."""

    key = KEY
    image = IMAGE
    now_ms = NOW_MS

    def server(self, **changes: Any) -> dict[str, Any]:
        return _varied(SERVER, changes)

    def order(self, **changes: Any) -> dict[str, Any]:
        return _varied(ORDER, changes)

    def need(self, gpu_type: str | None = "RTX 4090", gpu_count: int = 1, **fields: Any) -> Need:
        return Need(IMAGE, gpu_type, gpu_count, None, **fields)

    def request(self, offer: Offer, token: str = "t-1", **changes: Any) -> RentRequest:
        fields = {"image": IMAGE, "public_key": PUBLIC_KEY, "max_rate": offer.rate, "requested_at": NOW_MS} | changes
        return RentRequest(token=token, offer=offer, **fields)


def _varied(sample: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    varied = copy.deepcopy(dict(sample))
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = varied
        for name in parents:
            at = at[name]
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value
    return varied


Answer = httpx.Response | Exception | asyncio.Event | Mapping[str, Any]


@dataclass
class FakeClore:
    """Answers calls from a script: per path a list of answers, the last of which stays.

    An exception is raised, an event is waited for (before a plain yes), an object is sent with HTTP 200.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    times: list[tuple[str, float]] = field(default_factory=list)

    def on(self, call: str, *answers: Answer) -> FakeClore:
        self.answers[call] = list(answers)
        return self

    def market(self, *servers: Any) -> FakeClore:
        return self.on("marketplace", {"servers": list(servers), "my_servers": [], "code": 0})

    def orders(self, *orders: Any) -> FakeClore:
        return self.on("my_orders", {"orders": list(orders), "limit": 50, "code": 0})

    def auction(self, server: int, *bids: Mapping[str, Any], floor: float | None = 2.6, **more: Any) -> FakeClore:
        """The spot market of one server: bids such as `{"bid": 2.7, "my": False}`."""
        offers = [{"offer_id": 7, "active": False, "my": False, "currency": USD, **bid} for bid in bids]
        market = {
            "currency_rates_in_usd": {"CLORE-Blockchain": 0.00125, "bitcoin": 64_100, USD: 1},
            "offers": offers,
            "server": {"min_pricing": {} if floor is None else {USD: floor}, "mrl": 168, "online": True, **more},
        }
        return self.on(f"spot_marketplace {server}", {"market": market, "exists": True, "code": 0})

    def calls(self, call: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.url.path == f"/v1/{call}"]

    def sent(self, call: str) -> dict[str, Any]:
        """The body of the only call of this name."""
        (request,) = self.calls(call)
        body: dict[str, Any] = json.loads(request.content)
        return body

    async def handle(self, request: httpx.Request) -> httpx.Response:
        call = request.url.path.removeprefix("/v1/")
        self.requests.append(request)
        self.times.append((call, asyncio.get_running_loop().time()))
        self.arrived.set()
        queue = self.answers.get(f"{call} {request.url.params.get('market')}") or self.answers[call]
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = {"code": 0}
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
        return httpx.Response(200, json=answer)

    def provider(
        self,
        *,
        key: str = KEY,
        deadline_sec: float = 5.0,
        intervals: tuple[float, float] = (0.0, 0.0),
        **options: Any,
    ) -> CloreProvider:
        transport = httpx.MockTransport(self.handle)
        url = "https://clore.test/v1"
        api = CloreApi(key, url, Limiter(*intervals), deadline_sec=deadline_sec, transport=transport)
        return CloreProvider(api, now=lambda: NOW_MS, **options)


@pytest.fixture(scope="session")
def samples() -> Samples:
    return Samples()


@pytest.fixture
def fake() -> FakeClore:
    """A Clore.ai with one free RTX 4090 and no orders, which takes every order."""
    calm = FakeClore().market(SERVER).orders().on("create_order", {"code": 0}).on("cancel_order", {"code": 0})
    return calm.on("spot_marketplace", {"market": {}, "exists": False, "code": 0})


@pytest.fixture(scope="session")
def new_fake() -> type[FakeClore]:
    return FakeClore


class _SkippingSelector(selectors.DefaultSelector):
    """Does not wait: tells the loop how long it would have."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.skipped += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped


@pytest.fixture(scope="session")
def run_virtual() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on a virtual clock that starts at 0."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)

    return run
