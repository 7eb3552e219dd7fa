"""The Clore API, as far as a renter needs it: routes, checks, quirks and error codes.

Everything here follows the Clore API reference (`shared/reference/clore-api.md`). Where it leaves a point open, the
choice made here is: bad key HTTP 401, unknown endpoint 404, bad input 400; cancelling an order that is not live
answers `{"error":"order_not_found","code":6}`; a refused call does not count against the rate limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpuscale_tui.sandbox.billing import CREATION_FEE_MICRO, dollars
from gpuscale_tui.sandbox.fleet import COINS
from gpuscale_tui.sandbox.http import Request, Response, json_response
from gpuscale_tui.sandbox.market import in_currency
from gpuscale_tui.sandbox.orders import Order, OrderBook, Refused, shown_price
from gpuscale_tui.sandbox.views import my_orders, spot_market
from gpuscale_tui.sandbox.wishes import BadInput, read_wish

CALL_MS = 1000
CREATE_MS = 5000
LOWERING_SECONDS = 600
STEP_PART = 0.15
ORDER_LIMIT = 50

Reply = dict[str, Any]


@dataclass(slots=True)
class RateLimiter:
    """One call a second and one create in five, for the one key there is (reference section 1.1)."""

    enabled: bool
    last_call: int = 0
    last_create: int = 0

    def refuses(self, now: int, path: str) -> bool:
        """Whether a call at this time is too early; counts it if it is not."""
        if not self.enabled:
            return False
        create = path == "/v1/create_order"
        if now - self.last_call < CALL_MS or (create and now - self.last_create < CREATE_MS):
            return True
        self.last_call = now
        if create:
            self.last_create = now
        return False


@dataclass(slots=True)
class Api:
    """Answers calls under /v1. Faults of transport are not its business, see `front`."""

    book: OrderBook
    api_key: str
    limiter: RateLimiter
    _stale: tuple[int, Reply] | None = field(default=None)

    def answer(self, request: Request) -> Response:
        """The reply to one call."""
        routes: dict[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "/v1/marketplace"): self._marketplace,
            ("GET", "/v1/wallets"): self._wallets,
            ("GET", "/v1/my_orders"): self._my_orders,
            ("GET", "/v1/spot_marketplace"): self._spot_marketplace,
            ("GET", "/v1/renter_fees"): self._renter_fees,
            ("POST", "/v1/create_order"): self._create_order,
            ("POST", "/v1/cancel_order"): self._cancel_order,
            ("POST", "/v1/set_spot_price"): self._set_spot_price,
        }
        route = routes.get((request.method, request.path))
        if route is None:
            return json_response(404, {"code": 4})
        if request.path != "/v1/marketplace" and request.headers.get("auth") != self.api_key:
            return json_response(401, {"code": 3})
        if self.limiter.refuses(self.book.clock(), request.path):
            return json_response(429, {"code": 5})
        try:
            return json_response(200, {**route(request), "code": 0})
        except Refused as refusal:
            return json_response(refusal.status, refusal.body)
        except BadInput as error:
            return json_response(400, {"error": str(error), "code": 2})

    def answer_later(self, request: Request, seconds: float) -> None:
        """Carry a call out after a while; nobody hears the reply."""
        self.book.spawn(self._late(request, seconds))

    async def _late(self, request: Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.answer(request)

    def _marketplace(self, _request: Request) -> Reply:
        return {"servers": self.book.market.rows(self.book.rented()), "my_servers": []}

    def _wallets(self, _request: Request) -> Reply:
        balances = {"bitcoin": 0.0, "CLORE-Blockchain": None, "USD-Blockchain": dollars(self.book.balance())}
        fees = {"bitcoin": 0.0001, "CLORE-Blockchain": 0.1, "USD-Blockchain": 1.0}
        wallets = [
            {
                "name": name,
                "deposit": f"sandbox-{name.lower()}",
                "balance": balances[name],
                "withdrawal_fee": fees[name],
            }
            for name in COINS
        ]
        return {"wallets": wallets}

    def _my_orders(self, request: Request) -> Reply:
        faults = self.book.faults
        if faults.strike("my_orders_500"):
            raise Refused({"code": 1}, 500)
        if faults.strike("my_orders_empty"):
            return {"orders": [], "limit": ORDER_LIMIT}
        fresh = self._orders_now(request)
        if faults.strike("my_orders_partial"):
            fresh["orders"] = fresh["orders"][1::2]
        if faults.strike("my_orders_doubled"):
            fresh["orders"] = [row for row in reversed(fresh["orders"]) for _ in range(2)]
        if not (stale := faults.strike("my_orders_stale")):
            self._stale = None
            return fresh
        now = self.book.clock()
        if self._stale is None or now - self._stale[0] > stale.amount * 1000:
            self._stale = (now, fresh)
        return self._stale[1]

    def _orders_now(self, request: Request) -> Reply:
        completed = request.query.get("return_completed") == "true"
        return {"orders": my_orders(self.book, completed=completed), "limit": ORDER_LIMIT}

    def _spot_marketplace(self, request: Request) -> Reply:
        wanted = request.query.get("market", "")
        server = self.book.market.servers.get(int(wanted)) if wanted.isdecimal() else None
        return {"market": spot_market(self.book, server), "exists": True} if server else {"market": {}, "exists": False}

    def _renter_fees(self, _request: Request) -> Reply:
        fees = {kind: {"base": dict.fromkeys(COINS, percent)} for kind, percent in (("on_demand", 5), ("spot", 1.25))}
        creation = {coin: in_currency(CREATION_FEE_MICRO, coin) for coin in COINS}
        return {
            "renter_fees": fees,
            "creation_fees": {"on_demand": creation, "spot": creation},
            "poh_config": {"max_reduction_percent": 50, "max_poh_amount": 2_000_000},
            "poh_balance": 0,
        }

    def _create_order(self, request: Request) -> Reply:
        self.book.create(read_wish(_body(request)))
        return {}

    def _cancel_order(self, request: Request) -> Reply:
        body = _body(request)
        issue = body.get("issue", "")
        if not isinstance(issue, str) or len(issue) > 2048:
            raise BadInput("issue")
        order = self._live_order(body.get("id"))
        faults = self.book.faults
        if faults.strike("cancel_500"):
            raise Refused({"code": 1}, 500)
        if lingers := faults.strike("cancel_lingers"):
            self.book.end_later(order, lingers.amount)
            return {}
        self.book.end(order, "cancelled")
        if faults.strike("cancel_500_but_works"):
            raise Refused({"code": 1}, 500)
        return {}

    def _set_spot_price(self, request: Request) -> Reply:
        body = _body(request)
        order = self._live_order(body.get("order_id"))
        desired = body.get("desired_price")
        if not order.spot or not isinstance(desired, int | float) or isinstance(desired, bool):
            raise BadInput("desired_price")
        self._check_step(order, float(desired))
        self.book.set_bid(order, float(desired))
        return {}

    def _check_step(self, order: Order, desired: float) -> None:
        bid, now = shown_price(order), self.book.clock()
        step = round(bid * STEP_PART, 6)
        if desired - bid > step:
            raise Refused({"error": "exceeded_max_step", "max_step": step, "code": 6})
        waited = (now - max(order.lowered, order.created)) // 1000
        if desired < bid and waited < LOWERING_SECONDS:
            left = LOWERING_SECONDS - waited
            raise Refused({"error": "can_lower_every_600_seconds", "time_to_lowering": left, "code": 6})
        floor = self.book.market.price_in(order.server, order.wish.currency, spot=True)
        if desired < floor:
            raise Refused({"error": "too_low_price", "min_price": floor, "code": 6})

    def _live_order(self, number: Any) -> Order:
        if not isinstance(number, int) or isinstance(number, bool):
            raise BadInput("id")
        order = self.book.orders.get(number)
        if order is None or not order.live:
            raise Refused({"error": "order_not_found", "code": 6})
        return order


def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a call. Raises BadInput; a wrong content type counts as no object."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise BadInput("content-type")
    try:
        content = request.json()
    except ValueError:
        raise BadInput("body is not JSON") from None
    if not isinstance(content, dict):
        raise BadInput("body is not an object")
    return content
