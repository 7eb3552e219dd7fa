"""One HTTP reply of Clore.ai: the body is read first, whatever the status says.

The status is no reliable second signal: business errors come with 200 and with 500, the rate limit with 429, and the
front door answers in plain text (Clore API reference, sections 1.1, 1.2 and 10 items 1 and 2).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import msgspec

from gpuscale_tui.providers.base import CredentialsRefused, ProviderError
from gpuscale_tui.providers.clore import coerce

RATE_LIMIT = 5
BAD_KEY = 3
APPLICATION = 6

MEANINGS = {
    1: "database error",
    2: "invalid input",
    BAD_KEY: "the API key is not accepted",
    4: "unknown endpoint",
    RATE_LIMIT: "too many requests",
    APPLICATION: "refused",
}


class CloreRefusal(ProviderError):
    """Clore.ai understood the call and said no. `code` is its number, `name` the folded error text, if any."""

    def __init__(self, message: str, code: int, name: str, *, retry_after_sec: float | None = None) -> None:
        super().__init__(message, retry_after_sec=retry_after_sec)
        self.code = code
        self.name = name


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as far as it could be read. `code` and `body` are None for anything but a JSON object with a code.

    `name` is the `error` text folded: lower case, underscores (`server-already-rented` is `server_already_rented`).
    """

    status: int
    body: Mapping[str, object] | None = None
    code: int | None = None
    name: str = ""
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        """Whether this is a plain yes: a code of 0 and no HTTP error."""
        return self.code == 0 and self.status < 400

    @property
    def too_many(self) -> bool:
        """Whether the rate limit spoke: HTTP 429, or code 5 with any status."""
        return self.status == 429 or self.code == RATE_LIMIT

    def describe(self) -> str:
        """What the reply says, in a few words fit to be shown."""
        if self.code is None:
            return f"HTTP {self.status} without a readable answer"
        meaning = self.name or MEANINGS.get(self.code, "an unknown code")
        return f"{meaning} (code {self.code}, HTTP {self.status})"


def read_reply(status: int, raw: bytes, retry_after: str | None = None) -> Reply:
    """The reply in these bytes; never raises."""
    pause = retry_after_seconds(retry_after)
    body = _json_object(raw)
    if body is None:
        return Reply(status, retry_after=pause)
    return Reply(status, body, coerce.integer(body.get("code")), fold(body.get("error")), pause)


def _json_object(raw: bytes) -> Mapping[str, object] | None:
    try:
        body = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def fold(error: object) -> str:
    """An error name in one spelling: Clore mixes hyphens and underscores."""
    return (coerce.text(error, 80) or "").lower().replace("-", "_")


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds from a `Retry-After` header, which may also be a date; None when there is none to be read."""
    if value is None:
        return None
    seconds = coerce.small_float(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def demand(reply: Reply, call: str) -> Mapping[str, object]:
    """The body of a good reply. Raises ProviderError for any other: nothing may be concluded from those."""
    if reply.good and reply.body is not None:
        return reply.body
    if reply.code == BAD_KEY or (reply.code is None and reply.status == 401):
        raise CredentialsRefused(f"Clore.ai refused {call}: {MEANINGS[BAD_KEY]}")
    if reply.too_many:
        message = f"Clore.ai refused {call}: {MEANINGS[RATE_LIMIT]}"
        raise CloreRefusal(message, RATE_LIMIT, reply.name, retry_after_sec=reply.retry_after)
    if reply.code:
        raise CloreRefusal(f"Clore.ai refused {call}: {reply.describe()}", reply.code, reply.name)
    if reply.status == 403:
        raise ProviderError(f"Clore.ai's front door refused {call}: HTTP 403, before the API saw it")
    raise ProviderError(f"Clore.ai gave no usable answer to {call}: {reply.describe()}")
