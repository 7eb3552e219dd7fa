"""A small client of Clore.ai's HTTP API: one method a call, one HTTP request a method, nothing repeated.

The key travels in the `auth` header and appears nowhere else: not in logs, not in the text of an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import httpx
import msgspec

from gpuscale_tui import __version__
from gpuscale_tui.providers.base import ProviderError
from gpuscale_tui.providers.clore.address import on_this_computer
from gpuscale_tui.providers.clore.limiter import Limiter, Priority
from gpuscale_tui.providers.clore.reply import Reply, demand, read_reply

USER_AGENT = f"gpuscale-tui/{__version__}"
"""Said openly: the front door turns away clients by their library's default name (section 1)."""

LARGEST_MARKET = 64 * 2**20
LARGEST_REPLY = 8 * 2**20
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class NotSent(ProviderError):
    """The call never reached Clore.ai: it is certain that nothing came of it."""


class NoReply(ProviderError):
    """The call was sent and no readable reply came back: what came of it is not known."""


class CloreApi:
    """The calls that renting needs. Every call is bounded: `patience_sec` for its turn, then `deadline_sec`.

    All methods raise ProviderError; `create_order` alone hands back whatever reply there was, to be judged.
    """

    def __init__(
        self,
        key: str,
        base_url: str,
        limiter: Limiter,
        *,
        deadline_sec: float = 60.0,
        patience_sec: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._key = key
        self._limiter = limiter
        self._deadline = deadline_sec
        self._patience = patience_sec
        timeout = httpx.Timeout(min(30.0, deadline_sec), connect=min(10.0, deadline_sec), pool=min(10.0, deadline_sec))
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers={"auth": key, "User-Agent": USER_AGENT, "Accept": "application/json"},
            timeout=timeout,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=4),
            trust_env=not on_this_computer(base_url),
            verify=_tls(base_url),
            transport=transport,
        )

    async def marketplace(self) -> Mapping[str, object]:
        """The body of `GET /marketplace`: several megabytes."""
        reply = await self._call("GET", "marketplace", Priority.MARKET, largest=LARGEST_MARKET)
        return demand(reply, "marketplace")

    async def my_orders(self, *, completed: bool = False) -> Mapping[str, object]:
        """The body of `GET /my_orders`: live orders, with `completed` the ended ones too."""
        query = "?return_completed=true" if completed else ""
        return demand(await self._call("GET", f"my_orders{query}", Priority.ORDERS), "my_orders")

    async def spot_marketplace(self, server_id: int, priority: Priority = Priority.MARKET) -> Mapping[str, object]:
        """The body of `GET /spot_marketplace`: the bids on one server and its floor."""
        reply = await self._call("GET", f"spot_marketplace?market={server_id:d}", priority)
        return demand(reply, "spot_marketplace")

    async def wallets(self) -> Mapping[str, object]:
        """The body of `GET /wallets`."""
        return demand(await self._call("GET", "wallets", Priority.ORDERS), "wallets")

    async def create_order(self, order: Mapping[str, object]) -> Reply:
        """`POST /create_order`, once. Raises NotSent when it certainly was not sent, NoReply when nobody knows."""
        return await self._call("POST", "create_order", Priority.CREATE, order)

    async def cancel_order(self, order_id: int) -> Reply:
        """`POST /cancel_order`."""
        return await self._call("POST", "cancel_order", Priority.CANCEL, {"id": order_id})

    async def aclose(self) -> None:
        """Close connections."""
        self._limiter.close()
        await self._client.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        priority: Priority,
        body: Mapping[str, object] | None = None,
        largest: int = LARGEST_REPLY,
    ) -> Reply:
        call = path.partition("?")[0]
        try:
            await self._limiter.turn(priority, self._patience)
        except TimeoutError as error:
            raise NotSent(f"{call} waited {self._patience:g} s for its turn at Clore.ai") from error
        reply = await self._exchange(method, path, body, largest)
        if reply.too_many:
            self._limiter.refused(reply.retry_after)
        else:
            self._limiter.answered()
        return self._without_key(reply)

    async def _exchange(self, method: str, path: str, body: Mapping[str, object] | None, largest: int) -> Reply:
        call = path.partition("?")[0]
        content = None if body is None else msgspec.json.encode(body)
        headers = None if body is None else {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._client.stream(method, path, content=content, headers=headers) as response,
            ):
                raw = await _bounded(response, call, largest)
                return read_reply(response.status_code, raw, response.headers.get("Retry-After"))
        except _NEVER_SENT as error:
            raise NotSent(f"Clore.ai could not be reached for {call}: {self._clean(error)}") from error
        except TimeoutError as error:
            raise NoReply(f"Clore.ai did not answer {call} within {self._deadline:g} s") from error
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise NoReply(f"the connection to Clore.ai broke during {call}: {self._clean(error)}") from error

    def _clean(self, error: BaseException) -> str:
        return (str(error) or type(error).__name__).replace(self._key, "[key]")

    def _without_key(self, reply: Reply) -> Reply:
        """Should a reply's error text ever quote the key, it goes no further."""
        folded = self._key.lower().replace("-", "_")
        if folded not in reply.name:
            return reply
        return Reply(reply.status, reply.body, reply.code, reply.name.replace(folded, "[key]"), reply.retry_after)


async def _bounded(response: httpx.Response, call: str, largest: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > largest:
            raise NoReply(f"Clore.ai's answer to {call} is larger than {largest // 2**20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def _tls(base_url: str) -> ssl.SSLContext | bool:
    """Certificates are loaded (which takes a while) only where they will be needed; the other context trusts none."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if base_url.startswith("http://") else True
