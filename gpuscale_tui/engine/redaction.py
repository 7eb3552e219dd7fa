"""Secrets taken out of texts by their value, wherever in a text they stand, and whatever they are called there."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from gpuscale_tui.engine.s3_places import storage_secrets
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.plain import clean_lines
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.secrets import read_job_secrets

KEY_VARIABLE = "CLORE_API_KEY"
MARK = "[secret]"
SHORTEST = 4
"""A shorter secret is none: taking it out would tell it."""
TELLING_PART = 8
"""From how many letters on a part of an address (a token in its path or its query) is a secret by itself."""
SIGNED = re.compile(r"(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+")
"""What makes an address of object storage one that everybody may use."""


class Redactor:
    """Replaces secrets by a mark; longer ones first, so that none is left half."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote(secret))}
        self._values = sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        for value in self._values:
            text = text.replace(value, MARK)
        return SIGNED.sub(rf"\1{MARK}", text)

    def with_more(self, secrets: Iterable[str]) -> Redactor:
        """One that takes these out too."""
        return Redactor([*self._values, *secrets])


class PlainFormatter(logging.Formatter):
    """Log lines without secrets and without anything that a terminal would obey."""

    def __init__(self, layout: str, redact: Redactor) -> None:
        super().__init__(layout)
        self._redact = redact

    def add(self, secrets: Iterable[str]) -> None:
        """More secrets from now on: the settings were read anew."""
        self._redact = self._redact.with_more(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return clean_lines(self._redact(super().format(record)))


def api_keys(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The keys of the providers' APIs, as far as they can be read."""
    keys = [environ.get(KEY_VARIABLE, "").strip()]
    if settings.providers.clore.api_key_file is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            keys.append(Path(settings.providers.clore.api_key_file).expanduser().read_text(encoding="utf-8").strip())
    return [key for key in keys if key]


def parts_of(url: str) -> list[str]:
    """An address and everything in it that may be a secret by itself: user, password, tokens in path and query."""
    found = [url]
    try:
        split = urlsplit(url)
        found += [split.username or "", split.password or ""]
    except ValueError:
        return found
    # addresses of Slack and its like have a token where others have the host
    pieces = [*split.path.split("/"), *split.query.replace("=", "&").split("&"), split.netloc.rpartition("@")[2]]
    plain_host = "." in split.netloc or "localhost" in split.netloc or split.netloc.startswith("[")
    found += [piece for piece in pieces[: -1 if plain_host else None] if len(piece) >= TELLING_PART]
    return [each for value in found if value for each in {value, unquote(value)}]


def known_secrets(
    home: Home, settings: Settings, environ: Mapping[str, str], urls: Iterable[str] = (), jobs: Iterable[int] = ()
) -> list[str]:
    """Every secret that a text could hold: keys of APIs, addresses of notices, secrets of these jobs."""
    values = [*api_keys(settings, environ), *storage_secrets(settings, environ)]
    values += [part for url in urls for part in parts_of(url)]
    for job in jobs:
        with contextlib.suppress(GpuscaleError, OSError):
            values += read_job_secrets(home, job).values()
    return values


def log_formatter(home: Home, settings: Settings, layout: str) -> PlainFormatter:
    """For the log lines of an engine in this process."""
    return PlainFormatter(layout, Redactor(_of_settings(home, settings)))


def hide_from_logs(home: Home, settings: Settings) -> None:
    """Let no log line of this process tell the secrets of settings that were read anew."""
    secrets = _of_settings(home, settings)
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, PlainFormatter):
            handler.formatter.add(secrets)


def _of_settings(home: Home, settings: Settings) -> list[str]:
    from gpuscale_tui.engine.addresses import readable

    return known_secrets(home, settings, os.environ, readable(settings, os.environ))
