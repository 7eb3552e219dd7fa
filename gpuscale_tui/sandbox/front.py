"""What stands before the API and the control surface: routing, faults of transport, and the log of calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from gpuscale_tui.sandbox.api import Api
from gpuscale_tui.sandbox.control import Control
from gpuscale_tui.sandbox.faults import FaultBoard
from gpuscale_tui.sandbox.history import History
from gpuscale_tui.sandbox.http import Request, Response, json_response

SECRETS = frozenset({"ssh_password", "jupyter_token", "env", "command", "dockerhub_auth"})
HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad gateway</h1></body></html>"
RESET = Response(0, b"", reset=True)
FORBIDDEN = Response(403, b"error code: 1010", "text/plain")

UNDONE = (  # faults that answer instead of doing anything
    ("rate_limit_storm", json_response(429, {"code": 5})),
    ("cloudflare_1010", FORBIDDEN),
    ("html_body", Response(200, HTML, "text/html")),
    ("empty_body", Response(200, b"")),
    ("http_500", json_response(500, {"code": 1})),
    ("connection_reset", RESET),
    ("key_refused", json_response(401, {"code": 3})),
)


@dataclass(slots=True)
class Front:
    """The handler of the HTTP server."""

    api: Api
    control: Control
    faults: FaultBoard
    history: History

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.path.startswith("/sandbox/"):
            return self.control.answer(request)
        if not request.path.startswith("/v1/"):
            return json_response(404, {"code": 4})
        response, done = await self._v1(request)
        self._note(request, response, done)
        if slow := self.faults.strike("slow_replies", path=request.path):
            await asyncio.sleep(slow.amount)
        return response

    async def _v1(self, request: Request) -> tuple[Response, list[str]]:
        """The reply, and the names of the faults that made it."""
        if request.headers.get("user-agent", "").startswith("Python-urllib"):
            return FORBIDDEN, []  # the real service's gateway refuses this agent (reference section 1)
        for name, response in UNDONE:
            if self.faults.strike(name, path=request.path):
                return response, [name]
        if request.path == "/v1/create_order":
            return await self._create(request)
        response = self.api.answer(request)
        if request.path == "/v1/cancel_order" and response.status == 200 and self.faults.strike("cancel_reply_lost"):
            return RESET, ["cancel_reply_lost"]
        return response, []

    async def _create(self, request: Request) -> tuple[Response, list[str]]:
        done = []
        if self.faults.strike("create_500"):
            return json_response(500, {"code": 1}), ["create_500"]
        if late := self.faults.strike("create_500_then_appears"):
            self.api.answer_later(request, late.amount)
            return json_response(500, {"code": 1}), ["create_500_then_appears"]
        if delay := self.faults.strike("create_delayed"):
            done.append("create_delayed")
            await asyncio.sleep(delay.amount)
        response = self.api.answer(request)
        if response.status != 200 or b'"error"' in response.body:
            return response, done
        if self.faults.strike("create_500_after_success"):
            return json_response(500, {"code": 1}), [*done, "create_500_after_success"]
        if self.faults.strike("create_reply_lost"):
            return RESET, [*done, "create_reply_lost"]
        return response, done

    def _note(self, request: Request, response: Response, done: list[str]) -> None:
        self.history.add(
            "call",
            method=request.method,
            path=request.path,
            query=request.query,
            body=_without_secrets(request),
            status=None if response.reset else response.status,
            reply=_short(response),
            faults=done,
        )


def _without_secrets(request: Request) -> Any:
    try:
        body = request.json()
    except ValueError:
        return "not JSON"
    if not isinstance(body, dict):
        return body
    return {key: "..." if key in SECRETS else value for key, value in body.items()}


def _short(response: Response) -> str:
    return response.body[:200].decode("utf-8", "replace")
