"""Reading the settings anew while the engine works: all of them or, where something is wrong, none.

What costs money keeps to the stricter of old and new in between: the limits are written in the transaction that
accepts the settings, and every intent is held against them (`renter`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gpuscale_tui.config import value_of
from gpuscale_tui.config_keys import AT_THE_NEXT_START, HOSTS, keys_of, toml_value
from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Context
from gpuscale_tui.engine.redaction import hide_from_logs
from gpuscale_tui.model.errors import GpuscaleError
from gpuscale_tui.model.plain import clean
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.providers.base import Provider
from gpuscale_tui.providers.registry import build_providers, prints
from gpuscale_tui.store import engines, workers
from gpuscale_tui.store.engines import Limits, Request
from gpuscale_tui.store.home import Home


@dataclass(slots=True)
class FileSources:
    """Settings as `read_again` gives them, providers as the registry builds them. Owns all that it has built."""

    read_again: Callable[[], Settings]
    home: Home
    environ: Mapping[str, str]
    cache_sec: float
    built: list[Provider] = field(default_factory=list)

    def read(self) -> Settings:
        """See `Sources.read`."""
        settings = self.read_again()
        hide_from_logs(self.home, settings)
        return settings

    def prints(self, settings: Settings) -> Mapping[str, object]:
        """See `Sources.prints`."""
        return prints(settings, self.environ)

    def providers(self, settings: Settings) -> Mapping[str, Provider]:
        """See `Sources.providers`."""
        made = build_providers(
            settings, state_dir=self.home.providers, environ=self.environ, clore_cache_sec=self.cache_sec
        )
        self.built += made.values()
        return made

    async def aclose(self) -> None:
        """Close every provider that was built, also those that were replaced meanwhile."""
        for provider in self.built:
            await provider.aclose()


@dataclass(frozen=True, slots=True)
class _Made:
    """What was read, checked and built, to be taken over at once."""

    settings: Settings
    prints: Mapping[str, object]
    providers: Mapping[str, Provider]


class Reloader:
    """Takes settings over that were changed in their files."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._prints: Mapping[str, object] = {} if context.sources is None else context.sources.prints(context.settings)

    async def reload(self, request: Request) -> None:
        """Do what the request asks; what is wrong is told and leaves everything as it is."""
        context = self._context
        made = await self._made()
        if isinstance(made, str):
            await context.db.write(_refuse, request.id, made, now=context.now(), epoch=context.epoch)
            return
        words = "; ".join(differences(context.settings, made.settings)) or "nothing has changed"
        limits = Limits(view.cap(made.settings), made.settings.scaler.max_workers)
        rented = await context.db.write(_accept, request.id, limits, words, now=context.now(), epoch=context.epoch)
        waits = self._take_over(made, rented)
        context.bells.ring()
        for name in waits:
            await context.warn(
                f"{name}: its new settings count once no machine is rented there any more and they are read again"
            )

    async def _made(self) -> _Made | str:
        """Everything new, or why not."""
        sources = self._context.sources
        if sources is None:
            return "this engine was given its settings by the program that started it"
        try:
            settings = await asyncio.to_thread(sources.read)
            fresh = sources.prints(settings)
            return _Made(settings, fresh, sources.providers(settings) if fresh != self._prints else {})
        except (GpuscaleError, OSError) as error:
            return str(error)

    def _take_over(self, made: _Made, rented: Iterable[str]) -> list[str]:
        """From here on everybody works with the new settings; returns the providers that have to wait for theirs.

        A provider with machines keeps its port: another account's would not list them, and they would seem to be gone.
        One that is switched off keeps it as well, to give back what is rented there.
        """
        context, before = self._context, self._prints
        ports, taken, waits = dict(context.providers), dict(before), []
        for name, port in made.providers.items():
            if made.prints[name] == before.get(name):
                continue
            if name in ports and ports[name].facts.boots and name in rented:
                waits.append(name)
                continue
            ports[name], taken[name] = port, made.prints[name]
        context.settings, context.providers = made.settings, ports
        context.switched_off = frozenset(ports.keys() - made.prints.keys())
        self._prints = taken
        return waits


def _accept(
    connection: sqlite3.Connection, request_id: int, limits: Limits, words: str, *, now: int, epoch: int
) -> frozenset[str]:
    """Write the limits and what has changed; returns the providers with machines in this very moment."""
    engines.adopt(connection, request_id, limits, words, now=now, epoch=epoch)
    return frozenset(worker.provider for worker in workers.live(connection))


def _refuse(connection: sqlite3.Connection, request_id: int, why: str, *, now: int, epoch: int) -> None:
    from gpuscale_tui.store import events

    text = f"the settings stay as they were: {clean(why)[:1000]}"
    engines.close_request(connection, request_id, text, now)
    events.append(connection, now, "warning", text, epoch=epoch)


def differences(before: Settings, after: Settings) -> Iterator[str]:
    """What has changed, setting by setting, without secrets."""
    for key in keys_of(Settings):
        old, new = value_of(before, key.dotted), value_of(after, key.dotted)
        if old != new:
            later = " (at the next start)" if key.dotted in AT_THE_NEXT_START else ""
            yield f"{key.dotted} {_said(key.shown(old))} -> {_said(key.shown(new))}{later}"
    if value_of(before, HOSTS) != value_of(after, HOSTS):
        yield f"{HOSTS}: {len(after.providers.ssh.hosts)} hosts"


def _said(value: object) -> str:
    text = "not set" if value is None else toml_value(value)
    return clean(text if len(text) <= 60 else f"{text[:57]}...")
