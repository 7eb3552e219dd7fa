"""A program of its own that sends one message by Apprise and ends: `python -m gpuscale_tui.engine.messenger`.

Apprise is synchronous, large, and speaks to servers of all kinds. In a process of its own it can be ended at any moment
whatever it waits for, and every connection that it opens can be judged by the address it really leads to. The order
comes on stdin, the result goes to stdout, both as JSON; secrets stand in neither arguments nor environment.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MISSING = "the library for notices is not installed: pip install 'gpuscale-tui[notify]'"
MEMORY_BYTES = 2 * 2**30
LONGEST_ERROR = 500
METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200")
)
"""Where clouds tell a machine its own secrets: no notice goes there, whatever the settings say."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Denied(Exception):
    """A connection that is not opened; the message says why and what to do."""


@dataclass(slots=True)
class Guard:
    """Judges every address that this process connects to, after names were resolved; redirects pass it too.

    `named` are the addresses that the user wrote as numbers, or that lead to the user's proxy. `clear`: the message
    travels without encryption.
    """

    private: bool
    clear: bool = False
    named: set[IPAddress] = field(default_factory=set)
    denied: str = ""

    def judge(self, address: object) -> None:
        """Raise Denied unless a connection to this socket address is in order."""
        try:
            self._check(address)
        except Denied as error:
            self.denied = self.denied or str(error)
            raise

    def _check(self, address: object) -> None:
        place = plain_ip(address)
        if place is None:
            raise Denied("the address leads to no network")
        if place in METADATA or place.is_link_local or place.is_multicast or place.is_unspecified:
            raise Denied(f"{place} is an address that no notice goes to")
        if place.is_global:
            if self.clear:
                raise Denied(f"{place} would be told without encryption: use the form of the address that ends with s")
        elif not self.private and place not in self.named:
            raise Denied(
                f"its name leads to {place}, in a private network: write the number, or set notify.private_network"
            )

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For `sys.addaudithook`: what it raises, the call raises."""
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg"} and len(arguments) > 1:
            self.judge(arguments[1])


def plain_ip(address: object) -> IPAddress | None:
    """The IP address of a socket address; of one in IPv6's clothes the IPv4 address."""
    host = address[0] if isinstance(address, tuple) and address else None
    try:
        found = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def written_numbers(url: str) -> set[IPAddress]:
    """The address that a URL names by number, or this computer by its name."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return set()
    if host == "localhost":
        return {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    try:
        return {ipaddress.ip_address(host)}
    except ValueError:
        return set()


def proxies(environ: Mapping[str, str]) -> set[IPAddress]:
    """Where the user's proxies are: connections go there instead."""
    found: set[IPAddress] = set()
    for name, value in environ.items():
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"} and value:
            host = urlsplit(value if "://" in value else f"http://{value}").hostname or ""
            try:
                rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError:
                continue
            found |= {place for row in rows if (place := plain_ip(row[4])) is not None}
    return found


class _Said(logging.Handler):
    """What the library has to say about a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(record.getMessage())


def send(order: Mapping[str, Any]) -> dict[str, Any]:
    """Send one message: `url`, `title`, `body`, `private`. The result has `ok` and `error`."""
    try:
        import apprise
    except ImportError:
        return {"ok": False, "error": MISSING}
    said = _Said()
    logging.basicConfig(handlers=[said], level=logging.WARNING, force=True)
    url = str(order["url"])
    asset = apprise.AppriseAsset(app_id="gpuscale", app_desc="gpuscale", app_url="", http_redirects=False)
    service = apprise.Apprise.instantiate(url, asset=asset)
    if not isinstance(service, apprise.NotifyBase):
        return {"ok": False, "error": _line(said.lines) or "the address is not understood: Apprise's list has its form"}
    service.redirects = False
    guard = Guard(bool(order["private"]), is_clear(service, url), written_numbers(url) | proxies(os.environ))
    sys.addaudithook(guard.hook)
    try:
        sent = bool(service.notify(body=str(order["body"]), title=str(order["title"]), body_format="text"))
    except Exception as error:  # noqa: BLE001 - a library of two hundred services may raise anything; it is told
        said.lines.append(f"{type(error).__name__}: {error}")
        sent = False
    return {"ok": sent, "error": "" if sent else guard.denied or _line(said.lines) or "it was not accepted"}


def is_clear(service: Any, url: str) -> bool:
    """Whether a service is spoken to without encryption: its scheme is the one of its two that has none."""
    scheme = url.partition("://")[0].lower()
    plain = service.protocol or ()
    return scheme in ((plain,) if isinstance(plain, str) else plain) and not service.secure


def _line(lines: list[str]) -> str:
    return "; ".join(dict.fromkeys(lines))[:LONGEST_ERROR]


def main() -> None:
    """One order in, one result out."""
    order = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    out = sys.stdout
    sys.stdout = sys.stderr  # what a plugin prints is no result
    json.dump(send(order), out)
    out.flush()


if __name__ == "__main__":
    main()
