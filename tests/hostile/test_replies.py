"""A marketplace that is not one: every hostile reply ends in an error that is ours, quickly, with nothing concluded."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, Settings
from gpuscale_tui.providers.base import Provider, ProviderError
from gpuscale_tui.providers.registry import build_providers

KEY = "canary-api-key-0123456789"
MEGABYTE = b"x" * 2**20


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except OSError:  # the client has had enough
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}/v1"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def saying(body: bytes, *, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A reply that never ends, without a length."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b'{"code": 0, "orders": ["')
    for _ in range(4096):
        handler.wfile.write(MEGABYTE)


BOMB = gzip.compress(b'{"code":0,"orders":[],"x":"' + b"0" * 200 * 2**20 + b'"}', compresslevel=1)
LIES: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "html": saying(b"<html>it works</html>"),
    "nothing": saying(b""),
    "cut short": saying(b'{"code": 0, "orders": [{"id": 1'),
    "no length": saying(b'{"code": 0, "ord', Content_Length="100000"),
    "deep lists": saying(b'{"code":0,"orders":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "deep objects": saying(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a number that is none": saying(b'{"code": NaN, "orders": []}'),
    "infinity": saying(b'{"code": 0, "orders": [{"id": 1, "price": Infinity}]}'),
    "a number without end": saying(b'{"code": ' + b"9" * 100_000 + b', "orders": []}'),
    "wrong types": saying(b'{"code": 0, "orders": "none"}'),
    "a list": saying(b"[]"),
    "another code": saying(b'{"code": "0x0", "orders": []}'),
    "no utf-8": saying(b'{"code": 0, "orders": ["\xff\xfe"]}'),
    "a gzip bomb": saying(BOMB, Content_Encoding="gzip"),
    "no gzip": saying(b"not compressed", Content_Encoding="gzip"),
    "endless": endless,
    "an error page": saying(b"\x1b]0;OWNED\x07" * 1000, status=502),
    "a header without end": saying(b"{}", X_Long="y" * 200_000),
}


def provider(url: str, place: Path) -> Provider:
    clore = CloreConfig(enabled=True, base_url=url, request_interval_sec=0.0, create_interval_sec=0.0)
    settings = Settings(providers=ProvidersConfig(clore=clore))
    return build_providers(settings, state_dir=place, environ={"CLORE_API_KEY": KEY})["clore"]


@pytest.mark.parametrize("lie", LIES)
async def test_a_hostile_reply_is_no_list(tmp_path: Path, lie: str) -> None:
    """Never an empty list of rentals, never a crash, never more memory than the cap; the key is in no error."""
    with server(LIES[lie]) as url:
        asked = provider(url, tmp_path)
        try:
            with pytest.raises(ProviderError) as refused:
                await asked.rentals()
        finally:
            await asked.aclose()
    assert KEY not in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert "\x1b" not in str(refused.value)


async def test_a_hostile_reply_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """The key goes to the address that was set and to no other."""
    heard: list[str] = []

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        heard.append(handler.path)
        saying(json.dumps({"code": 0, "orders": []}).encode())(handler)

    with server(elsewhere) as other, server(saying(b"", status=302, Location=f"{other}/my_orders")) as url:
        asked = provider(url, tmp_path)
        try:
            with pytest.raises(ProviderError):
                await asked.rentals()
        finally:
            await asked.aclose()
    assert heard == []
