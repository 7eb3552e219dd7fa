"""The control surface under /sandbox/: the bill, the orders, the log, and switches for misbehaviour.

Each call needs the header `x-sandbox-token` with the token printed at the start. Replies are JSON objects; a refusal
is HTTP 400, 401 or 404 with `{"error": "..."}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuscale_tui.sandbox.billing import micro
from gpuscale_tui.sandbox.faults import FaultError
from gpuscale_tui.sandbox.fleet import Server
from gpuscale_tui.sandbox.history import History
from gpuscale_tui.sandbox.http import Request, Response, json_response
from gpuscale_tui.sandbox.orders import Order, OrderBook
from gpuscale_tui.sandbox.views import bill_of

Reply = dict[str, Any]


class ControlError(ValueError):
    """A call that cannot be carried out; the message says why."""


@dataclass(slots=True)
class Control:
    """Answers calls under /sandbox/."""

    book: OrderBook
    history: History
    token: str

    def answer(self, request: Request) -> Response:
        """The reply to one call."""
        if request.headers.get("x-sandbox-token") != self.token:
            return json_response(401, {"error": "the header x-sandbox-token must have the control token"})
        routes: dict[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "/sandbox/bill"): self._bill,
            ("GET", "/sandbox/orders"): self._orders,
            ("GET", "/sandbox/log"): self._log,
            ("GET", "/sandbox/servers"): self._servers,
            ("GET", "/sandbox/faults"): self._faults,
            ("POST", "/sandbox/faults"): self._set_faults,
            ("POST", "/sandbox/evict"): self._evict,
            ("POST", "/sandbox/price"): self._price,
            ("POST", "/sandbox/bid"): self._bid,
            ("POST", "/sandbox/floor"): self._floor,
            ("POST", "/sandbox/take"): self._take,
            ("POST", "/sandbox/balance"): self._balance,
        }
        route = routes.get((request.method, request.path))
        if route is None:
            return json_response(404, {"error": f"no {request.method} {request.path}"})
        try:
            return json_response(200, route(request))
        except (ControlError, FaultError) as error:
            return json_response(400, {"error": str(error)})

    def _bill(self, _request: Request) -> Reply:
        return bill_of(self.book)

    def _orders(self, _request: Request) -> Reply:
        return {"orders": [_order(order) for order in self.book.orders.values()]}

    def _log(self, request: Request) -> Reply:
        since = request.query.get("since", "0")
        return {"log": self.history.since(int(since) if since.isdecimal() else 0)}

    def _servers(self, _request: Request) -> Reply:
        rented = self.book.rented()
        servers = [
            {
                "id": server.id,
                "gpu": server.gpu_text,
                "price_per_day_micro": server.price,
                "spot_floor_micro": server.spot_floor,
                "other_bid_micro": server.foreign_bid,
                "rented": server.taken or server.id in rented,
                "note": server.note,
            }
            for server in self.book.market.servers.values()
        ]
        return {"servers": servers}

    def _faults(self, _request: Request) -> Reply:
        return {"faults": {name: fault.describe() for name, fault in self.book.faults.active.items()}}

    def _set_faults(self, request: Request) -> Reply:
        """`{"set": {NAME: SETTING}, "clear": true | [NAME, ...]}`; clearing comes first."""
        body = _object(request)
        clear, wanted = body.get("clear", []), body.get("set", {})
        if not isinstance(wanted, dict) or not isinstance(clear, list | bool):
            raise ControlError('"set" is an object of faults, "clear" a list of names or true')
        board = self.book.faults
        if clear is True:
            board.clear()
        for name in clear if isinstance(clear, list) else []:
            board.set(str(name), False)
        for name, setting in wanted.items():
            board.set(name, setting)
        self.history.add("faults", set=wanted, clear=clear)
        return self._faults(request)

    def _evict(self, request: Request) -> Reply:
        """`{"order": ID}` or `{"server": ID}`: end it without notice; somebody else has the server then."""
        body = _object(request)
        orders = [o for o in self.book.live() if body.get("order") == o.id or body.get("server") == o.server.id]
        if not orders:
            raise ControlError('no live order of that "order" or "server"')
        for order in orders:
            self.book.evict(order)
        return {"evicted": [order.id for order in orders]}

    def _price(self, request: Request) -> Reply:
        """`{"server": ID, "factor": F}`; without a server all prices move."""
        body = _object(request)
        factor, server = _number(body, "factor"), body.get("server")
        if factor == 0:
            raise ControlError('"factor" must be a number above 0')
        self._wanted(body)
        self.book.move_prices(factor, server)
        self.history.add("price", server=server, factor=factor)
        return self._servers(request)

    def _bid(self, request: Request) -> Reply:
        """`{"server": ID, "factor": F}`: somebody bids F times the highest bid there, or the floor; 0 withdraws it."""
        body = _object(request)
        factor = _number(body, "factor")
        for server in self._wanted(body):
            ours = [order.price for order in self.book.live(server.id) if order.spot]
            server.foreign_bid = round(max([server.spot_floor, *ours]) * factor)
            self.book.settle(server)
        self.history.add("bid", server=body.get("server"), factor=factor)
        return self._servers(request)

    def _floor(self, request: Request) -> Reply:
        """`{"server": ID, "factor": F}`: the floor of its auction moves; without a server all floors do."""
        body = _object(request)
        factor = _number(body, "factor")
        for server in self._wanted(body):
            self.book.set_floor(server, server.spot_floor * factor)
        self.history.add("floors", server=body.get("server"), factor=factor)
        return self._servers(request)

    def _take(self, request: Request) -> Reply:
        """`{"server": ID, "taken": true|false}`: somebody rents it on demand, from under any bid, or gives it back."""
        body = _object(request)
        taken = body.get("taken", True)
        if not isinstance(taken, bool) or "server" not in body:
            raise ControlError('"server" is an id, "taken" true or false')
        for server in self._wanted(body):
            if server.id in self.book.rented():
                raise ControlError(f"server {server.id} is rented on demand by you")
            server.taken = taken
            self.book.settle(server)
        self.history.add("taken" if taken else "freed", server=body["server"])
        return self._servers(request)

    def _balance(self, request: Request) -> Reply:
        """`{"usd": X}`: make this what is left on the account."""
        self.book.set_balance(micro(_number(_object(request), "usd")))
        return {"balance_micro": self.book.balance()}

    def _wanted(self, body: dict[str, Any]) -> list[Server]:
        """The server that is named, or all."""
        servers = self.book.market.servers
        if body.get("server") is None:
            return list(servers.values())
        if body["server"] not in servers:
            raise ControlError(f"no server {body['server']!r}")
        return [servers[body["server"]]]


def _number(body: dict[str, Any], key: str) -> float:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ControlError(f'"{key}" must be a number, 0 or more')
    return float(value)


def _object(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError:
        raise ControlError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise ControlError("the body is not an object")
    return body


def _order(order: Order) -> Reply:
    machine = order.machine
    return {
        "order": order.id,
        "server": order.server.id,
        "kind": order.wish.kind,
        "image": order.wish.image,
        "live": order.live,
        "up": order.up is not None,
        "reason": order.reason,
        "port": machine.port,
        "directory": str(machine.spec.directory),
        "connections": len(machine.connections),
    }
