"""How other people's hosts stand, by the store alone: what they did, who is paused, who is banned."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from gpuscale_tui.model.hosts import Ban, History, HostHistory, HostId, MarketHistory, Outcome, OwnerId
from gpuscale_tui.model.settings import MachinesConfig
from gpuscale_tui.model.states import WorkerState
from gpuscale_tui.model.workers import Worker
from gpuscale_tui.policy import breakers
from gpuscale_tui.policy.breakers import Breaker, Position, Rule
from gpuscale_tui.policy.matching import BANNED
from gpuscale_tui.store import hosts

K = TypeVar("K")
HISTORY_MS = 90 * breakers.DAY_MS
"""Hosts change hands and hardware: what is older counts no more."""
OWN_HOST_LONGEST_MS = 15 * breakers.MINUTE_MS
TOLD_FROM = 2
"""Failures of one host in a row from which its pause is worth a message to the outside."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How hosts stand now: what is paused, as `policy.world.Limits` has it, and what is known of them."""

    paused: Mapping[HostId, str] = field(default_factory=dict)
    paused_owners: Mapping[OwnerId, str] = field(default_factory=dict)
    paused_images: Mapping[str, str] = field(default_factory=dict)
    paused_markets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    history: History = field(default_factory=History)
    setup_spent: Mapping[str, int] = field(default_factory=dict)


OWN = frozenset({"ssh"})
"""Providers of hosts of our own, where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host with its history, and why it is not rented just now; empty where it would be."""

    history: HostHistory
    stands: str


def host_rows(connection: sqlite3.Connection, settings: MachinesConfig, now: int) -> list[HostRow]:
    """Every host that is known or banned, the newest first; server `*` stands for a banned owner's unknown ones."""
    record = read(connection, None, settings, OWN, now)
    standing = record.opened.standing(record, (), now)
    known = record.history.hosts
    unknown = [host for host in standing.paused if host not in known]
    rows = [*known.values(), *(HostHistory(*host) for host in unknown)]
    owners = {(history.provider, history.owner) for history in rows}
    rows += [HostHistory(owner[0], "*", owner[1]) for owner in standing.paused_owners if owner not in owners]
    return [HostRow(history, stands_of(history, standing)) for history in rows]


def stands_of(history: HostHistory, standing: Standing) -> str:
    """Why a host is not rented just now, by itself or with its owner; empty where it would be."""
    own = standing.paused.get(history.host)
    if own is not None:
        return own
    owner = standing.paused_owners.get((history.provider, history.owner or ""))
    return "" if owner is None else f"owner {history.owner} is {owner}"


@dataclass(frozen=True, slots=True)
class Opened:
    """The breakers that are not closed."""

    hosts: Mapping[HostId, Breaker]
    owners: Mapping[OwnerId, Breaker]
    images: Mapping[str, Breaker]
    markets: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], settings: MachinesConfig, own: frozenset[str], now: int) -> Opened:
        first_ms = round(settings.pause_minutes * breakers.MINUTE_MS)
        rented = Rule(settings.host_failures, first_ms)
        ours = Rule(settings.host_failures, min(first_ms, breakers.OWN_HOST_PAUSE_MS), OWN_HOST_LONGEST_MS)
        return cls(
            breakers.host_breakers(outcomes, lambda host: ours if host[0] in own else rented, now),
            breakers.owner_breakers(outcomes, Rule(settings.owner_failures, 2 * first_ms), now),
            breakers.image_breakers(outcomes, Rule(settings.image_failures, first_ms), now),
            breakers.spot_pauses(outcomes, settings.spot_evictions, now),
        )

    def at(self, now: int) -> Opened:
        """The same at a later time, when nothing new has happened."""
        return replace(
            self,
            hosts={key: found.at(now) for key, found in self.hosts.items()},
            owners={key: found.at(now) for key, found in self.owners.items()},
            images={key: found.at(now) for key, found in self.images.items()},
        )

    def messages(self) -> list[tuple[str, str]]:
        """A key that is the same as long as a breaker stays open, and the words."""
        named = [
            *((f"host {key[1]} of {key[0]}", found) for key, found in self.hosts.items() if found.streak >= TOLD_FROM),
            *((f"all hosts of owner {key[1]} at {key[0]}", found) for key, found in self.owners.items()),
            *((f"image {key}", found) for key, found in self.images.items()),
        ]
        told = [
            (f"breaker:{name}:{found.until}", f"{name}: {found.streak} failures in a row, {found.pause()}")
            for name, found in named
            if found.position == Position.OPEN
        ]
        spot = [(f"breaker:{key}:{why}", f"{key[1]} at {key[0]}: {why}") for key, why in self.markets.items()]
        return told + spot

    def standing(self, record: Record, live: Sequence[Worker], now: int) -> Standing:
        """With users' bans, which come first, and with the machines that are rented now."""
        trying = [worker for worker in live if worker.state in {WorkerState.ORDERING, WorkerState.BOOTING}]
        owners = {(worker.provider, worker.owner or "") for worker in trying}
        images = {worker.image for worker in trying}
        bans = {(ban.scope, ban.provider, ban.key): _ban_text(ban) for ban in record.bans}
        return Standing(
            paused=_pauses(self.hosts, ()) | {key[1:]: text for key, text in bans.items() if key[0] == "host"},
            paused_owners=_pauses(self.owners, owners)
            | {key[1:]: text for key, text in bans.items() if key[0] == "owner"},
            paused_images=_pauses(self.images, images),
            paused_markets=self.markets,
            history=replace(record.history, markets=_with_live(record.history.markets, live, now)),
            setup_spent=record.setup_spent,
        )


JUDGED_ANEW_MS = breakers.MINUTE_MS
"""How long breakers are kept where nothing new happens: what is too old to count drops out then."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the store says, and the breakers that follow of it; `newest` tells whether anything has happened since."""

    newest: int
    judged_at: int
    opened: Opened
    history: History
    bans: Sequence[Ban]
    setup_spent: Mapping[str, int]


def read(
    connection: sqlite3.Connection, before: Record | None, settings: MachinesConfig, own: frozenset[str], now: int
) -> Record:
    """What the store says; only what has changed since `before` is read and judged again."""
    newest = hosts.newest(connection)
    bans, spent = hosts.bans(connection, now), hosts.setup_spent(connection, now - breakers.MEMORY_MS)
    if before is not None and before.newest == newest and now - before.judged_at < JUDGED_ANEW_MS:
        return replace(before, opened=before.opened.at(now), bans=bans, setup_spent=spent)
    since = now - HISTORY_MS
    known = {found.host: found for found in hosts.histories(connection, since)}
    history = History(known, hosts.market_histories(connection, since))
    opened = Opened.of(hosts.outcomes(connection, now - breakers.MEMORY_MS), settings, own, now)
    return Record(newest, now, opened, history, bans, spent)


def _pauses(found: Mapping[K, Breaker], trying: Collection[object]) -> dict[K, str]:
    """Why nothing is rented, by what; `trying` are those with a machine on its way."""
    paused = {key: breaker.pause(trying=key in trying) for key, breaker in found.items()}
    return {key: why for key, why in paused.items() if why is not None}


def _ban_text(ban: Ban) -> str:
    until = "" if ban.until is None else f" until {breakers.clock(ban.until)}"
    return f"{BANNED} by {ban.user}{until}" + (f": {ban.reason}" if ban.reason else "")


def _with_live(
    markets: Mapping[tuple[str, str], MarketHistory], live: Sequence[Worker], now: int
) -> dict[tuple[str, str], MarketHistory]:
    """The hours of machines that are still held count too: a market is not bad because its good machines go on."""
    found = dict(markets)
    for worker in live:
        if worker.held_from is not None and worker.ready_at is not None:
            key = (worker.provider, str(worker.market))
            known = found.get(key, MarketHistory())
            found[key] = replace(known, held_ms=known.held_ms + max(0, now - worker.held_from))
    return found
