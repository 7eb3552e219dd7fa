"""The faults that exist. Each has a name, what its value means, and one sentence (shown by `serve --list-faults`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of fault.

    `takes` says what VALUE means ("count", "seconds", "factor", "glob"); `needed`: it cannot be left out; `count`:
    how often it strikes when nothing else is said (None: for ever); `keys`: further settings; `lasts`: it is over so
    many seconds after it was switched on.
    """

    name: str
    does: str
    takes: str = "count"
    needed: bool = False
    count: int | None = None
    keys: tuple[str, ...] = ()
    lasts: bool = False


_PATH = ("path",)
_SERVER = ("server",)


def _seconds(name: str, does: str, **more: Any) -> Kind:
    return Kind(name, does, "seconds", needed=True, **more)


def _factor(name: str, does: str, **more: Any) -> Kind:
    return Kind(name, does, "factor", needed=True, **more)


_TRANSPORT = (
    Kind(
        "rate_limit_storm",
        'Calls are refused with 429 {"code":5}; with VALUE only for so many seconds from now.',
        "seconds",
        keys=_PATH,
        lasts=True,
    ),
    _seconds("slow_replies", "Replies come VALUE seconds late; the work is done first.", keys=_PATH),
    Kind("html_body", "HTTP 200 with an HTML page; nothing is done.", keys=_PATH),
    Kind("empty_body", "HTTP 200 with an empty body; nothing is done.", keys=_PATH),
    Kind("cloudflare_1010", 'HTTP 403 with the text "error code: 1010"; nothing is done.', keys=_PATH),
    Kind("http_500", 'HTTP 500 {"code":1}; nothing is done.', keys=_PATH),
    Kind("connection_reset", "The connection is reset before anything is done.", keys=_PATH),
    Kind("key_refused", 'HTTP 401 {"code":3}, as if the API key had been withdrawn; nothing is done.', keys=_PATH),
)
_CALLS = (
    Kind("create_500_after_success", 'The order is made, the answer is HTTP 500 {"code":1}.'),
    Kind("create_500", 'No order is made, the answer is HTTP 500 {"code":1}: looks the same as the one above.'),
    _seconds("create_500_then_appears", 'The answer is HTTP 500 {"code":1}, the order is made VALUE seconds later.'),
    Kind("create_reply_lost", "The order is made, then the connection is reset without an answer."),
    _seconds("create_delayed", "The order is made and answered VALUE seconds late, even if the client has gone."),
    Kind("create_lost_race", "Somebody else gets the server first: server-already-rented.", keys=_SERVER),
    Kind(
        "create_outbid",
        "Somebody bids more than a spot order in the moment in which it is made: it is taken, listed, and waits.",
        keys=_SERVER,
    ),
    _factor("create_price_moved", "The server's price is multiplied by VALUE just before the order.", keys=_SERVER),
    Kind("server_offline", "create_order answers server-offline.", keys=_SERVER),
    Kind("not_enough_balance", "create_order answers not_enough_balance."),
    Kind("my_orders_500", 'my_orders answers HTTP 500 {"code":1}.'),
    Kind("my_orders_empty", "my_orders answers code 0 and no orders at all."),
    _seconds("my_orders_stale", "my_orders repeats one answer for VALUE seconds, then takes a new one."),
    Kind("my_orders_partial", "my_orders leaves out every other order, the first one first, and does not say so."),
    Kind("my_orders_doubled", "my_orders lists the orders in the wrong order and each of them twice."),
    Kind("cancel_reply_lost", "The order is cancelled, then the connection is reset without an answer."),
    Kind("cancel_500_but_works", 'The order is cancelled, the answer is HTTP 500 {"code":1}.'),
    Kind("cancel_500", 'Nothing is cancelled, the answer is HTTP 500 {"code":1}.'),
    _seconds("cancel_lingers", "cancel_order answers code 0, but the order lives (and costs) VALUE seconds longer."),
)
_MACHINES = (
    Kind("never_boot", "The machine of a new order never gets beyond mon_container 0.", keys=_SERVER),
    Kind(
        "wrong_gpu",
        "The machine of a new order shows another GPU than is advertised, or one too few.",
        keys=_SERVER,
    ),
    _seconds("slow_boot", "The machine of a new order takes VALUE seconds longer to come up.", keys=_SERVER),
    Kind("ssh_refuses", "The container is up (mon_container 2), but nothing listens on its SSH port.", keys=_SERVER),
    _seconds("ssh_drop", "All SSH connections of all machines are cut, each VALUE seconds."),
    _seconds("evict_after", "An order ends without notice VALUE seconds after its machine came up.", keys=_SERVER),
    _seconds(
        "host_offline",
        "VALUE seconds after its machine came up an on-demand order's host loses its network: online false, SSH dead,"
        " nothing billed, processes go on; it comes back after `back` seconds, if that is given. Once, unless `count`"
        " says more.",
        count=1,
        keys=("back", "server"),
    ),
    Kind(
        "evict_when_file",
        "An order ends without notice once its machine has a non-empty file or directory that matches VALUE (a glob"
        " in the machine's directory), is `age` seconds old, and the machine has been up for `min_seconds`."
        " Strikes once, unless `count` says more.",
        "glob",
        needed=True,
        count=1,
        keys=("min_seconds", "age", "server"),
    ),
    _seconds(
        "outbid_after",
        "Somebody bids more than a spot order VALUE seconds after its machine came up: it loses the machine without"
        " notice, stays listed and waits; with `gone=1` it is ended instead. Once, unless `count` says more.",
        count=1,
        keys=("gone", "server"),
    ),
    _seconds("short_rental", "A new order may be kept for VALUE seconds only, and ends by itself then.", keys=_SERVER),
    _factor(
        "floors_move",
        "Every `every` seconds (600) the floor of each spot auction moves at random by up to VALUE of itself, up or"
        " down; who bids less than the floor waits.",
        keys=("every", "server"),
    ),
    _factor(
        "price_move",
        "All prices (or those of `server`) are multiplied by VALUE, once, or again each `every` seconds.",
        keys=("every", "server"),
    ),
)
_KINDS = (*_TRANSPORT, *_CALLS, *_MACHINES)

CATALOGUE = {kind.name: kind for kind in _KINDS}


def as_text() -> str:
    """The catalogue for people, one fault a paragraph."""
    return "\n".join(f"{kind.name}{_value(kind)}\n    {kind.does}{_keys(kind)}" for kind in _KINDS)


def _value(kind: Kind) -> str:
    value = "TIMES" if kind.takes == "count" else kind.takes.upper()
    return f"={value}" if kind.needed else f"[={value}]"


def _keys(kind: Kind) -> str:
    return f" Settings: {', '.join(kind.keys)}." if kind.keys else ""
