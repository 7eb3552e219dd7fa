"""Reading the body of create_order: what is mandatory, how long things may be, what breaks the real service.

Source: Clore API reference (`shared/reference/clore-api.md`), section 4.1.
"""

from __future__ import annotations

from typing import Any

from gpuscale_tui.sandbox.fleet import COINS
from gpuscale_tui.sandbox.orders import Refused, Wish

LONGEST = {"ssh_password": 32, "jupyter_token": 32, "ssh_key": 3072, "image": 512, "command": 65536}
ENV_KEY, ENV_VALUE, ENV_TOTAL = 128, 1536, 12288


class BadInput(ValueError):
    """Code 2: the message names the field."""


def read_wish(body: dict[str, Any]) -> Wish:
    """The wish in a create_order body. Raises BadInput, or Refused for what the real service answers with code 1."""
    for name, longest in LONGEST.items():
        text = body.get(name, "")
        if not isinstance(text, str) or len(text) > longest:
            raise BadInput(name)
    server, kind, currency = body.get("renting_server"), body.get("type"), body.get("currency")
    if not isinstance(server, int) or isinstance(server, bool):
        raise BadInput("renting_server")
    if kind not in {"on-demand", "spot"}:
        raise BadInput("type")
    if currency not in COINS:
        raise BadInput("currency")
    if not body.get("image"):
        raise BadInput("image")
    if kind == "spot" and body.get("spotprice") is None:
        raise BadInput("spotprice")
    return Wish(
        server=server,
        kind=kind,
        currency=currency,
        image=body["image"],
        ports=_ports(body.get("ports", {})),
        env=_env(body.get("env", {})),
        ssh_key=body.get("ssh_key", ""),
        ssh_password=body.get("ssh_password", ""),
        command=body.get("command", ""),
        autossh=_flag(body.get("autossh_entrypoint", False)),
        bid=_price("spotprice", body.get("spotprice")),
        required_price=_price("required_price", body.get("required_price")),
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadInput("autossh_entrypoint")
    return value


def _price(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise BadInput(name)
    return float(value)


def _ports(ports: Any) -> dict[str, str]:
    if not isinstance(ports, dict):
        raise BadInput("ports")
    for port, protocol in ports.items():
        if not port.isdecimal() or not 0 < int(port) < 65536 or protocol not in {"tcp", "http"}:
            raise BadInput("ports")
    if list(ports.values()).count("http") > 1:
        raise BadInput("ports: one HTTP port an order")
    return dict(ports)


def _env(env: Any) -> dict[str, str]:
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise BadInput("env")
    sizes = [(len(key), len(value)) for key, value in env.items()]
    if any(key > ENV_KEY or value > ENV_VALUE for key, value in sizes) or sum(map(sum, sizes)) > ENV_TOTAL:
        raise BadInput("env: too long")
    if any("\0" in key + value or "=" in key or not key for key, value in env.items()):
        raise BadInput("env")
    if any("&" in value for value in env.values()):
        raise Refused({"code": 1}, 500)  # recorded behaviour of the real service: an opaque database error
    return dict(env)
