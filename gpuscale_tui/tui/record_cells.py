"""The columns of events, offers and snapshots, as `cells` has those of jobs and machines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.events import Event
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.snapshots import SnapshotRow
from gpuscale_tui.tui.cells import text
from gpuscale_tui.tui.format import clean, gpus, size, span, usd
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.widgets.columns import Column

_BYTES = re.compile(r"\b(\d{4,15}) bytes\b")


def _event_on(row: Event, _look: Look, _now: int) -> Span:
    job = job_label(row.job_id) if row.job_id is not None else ""
    attempt = f".{row.attempt}" if row.attempt is not None and job else ""
    worker = worker_label(row.worker_id) if row.worker_id is not None else ""
    return " ".join(part for part in (job + attempt, worker) if part) or "-", "strong"


def _event_what(row: Event, look: Look, _now: int) -> Span:
    loud = row.to_state in {"failed", "lost", "done", "released"}
    role = "warn" if row.kind == "warning" else f"state-{row.to_state}" if loud else "text"
    return clean(event_words(row), ascii_only=look.glyphs.ascii), role


EVENT_COLUMNS: tuple[Column[Event], ...] = (
    Column("", "WHEN", 11, lambda row, look, now: (look.when(row.at, now), "muted")),
    Column("", "ON", 11, _event_on),
    Column("", "KIND", 8, lambda row, look, _now: text(row.kind, look, "muted"), drop=2),
    Column("", "WHAT", 30, _event_what, grow=1),
    Column("", "BY", 8, lambda row, _look, _now: ("user" if row.epoch is None else "engine", "muted"), drop=3),
)


def event_words(event: Event) -> str:
    """What happened, in a few words."""
    change = event.to_state or ""
    if event.from_state and event.to_state and event.kind != "attempt":
        change = f"{event.from_state} > {event.to_state}"
    if event.cause and event.cause != "finished":
        change = f"{change} ({event.cause.replace('_', ' ')})".strip()
    detail = _BYTES.sub(lambda match: size(int(match[1])), event.detail)
    return ": ".join(part for part in (change, detail) if part) or event.kind


@dataclass(frozen=True, slots=True)
class OfferLine:
    """One offer of the market; its id is where it stands in the market."""

    offer: OfferRow

    @property
    def id(self) -> tuple[str, str, str]:
        """Provider, server and how it is rented."""
        return (self.offer.provider, self.offer.server_id, self.offer.market)


def _per_gpu(row: OfferLine, _look: Look, _now: int) -> Span:
    return usd(-(-row.offer.rate // max(1, row.offer.gpu_count))), "strong" if not row.offer.verdict else "muted"


def _verdict(row: OfferLine, look: Look, _now: int) -> Span:
    if row.offer.verdict:
        return f"{look.glyphs.states['cancelled']} {clean(row.offer.verdict, ascii_only=look.glyphs.ascii)}", "muted"
    return f"{look.glyphs.states['done']} would be rented", "good"


def _reliability(row: OfferLine, _look: Look, _now: int) -> Span:
    known = row.offer.reliability is not None
    return (f"{row.offer.reliability:.1%}" if known else "-"), "muted"


OFFER_COLUMNS: tuple[Column[OfferLine], ...] = (
    Column("", "$/GPU/H", 7, _per_gpu, right=True),
    Column("", "$/H", 7, lambda row, _look, _now: (usd(row.offer.rate), "text"), right=True),
    Column("", "GPU", 18, lambda row, look, _now: text(gpus(row.offer.gpu_type, row.offer.gpu_count), look), grow=1,
           most=28),
    Column("", "VERDICT", 27, _verdict, grow=3),
    Column("", "PROVIDER", 8, lambda row, look, _now: text(row.offer.provider, look, "muted"), drop=1),
    Column("", "SERVER", 8, lambda row, look, _now: text(row.offer.server_id, look, "muted"), drop=2),
    Column("", "MARKET", 9, lambda row, look, _now: text(row.offer.market, look, "muted"), drop=5),
    Column("", "RELIABLE", 8, _reliability, right=True, drop=4),
    Column("", "IN", 2, lambda row, look, _now: text(row.offer.country, look, "muted"), drop=3),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """One snapshot with its job's name."""

    snapshot: SnapshotRow
    name: str

    @property
    def id(self) -> tuple[int, int]:
        """Job and number."""
        return (self.snapshot.job_id, self.snapshot.number)


def _kept(row: SnapshotLine, look: Look, _now: int) -> Span:
    if row.snapshot.pruned_at is None:
        return f"{look.glyphs.states['done']} kept", "good"
    return f"{look.glyphs.states['cancelled']} removed", "muted"


SNAPSHOT_COLUMNS: tuple[Column[SnapshotLine], ...] = (
    Column("", "JOB", 6, lambda row, _look, _now: (job_label(row.snapshot.job_id), "strong")),
    Column("", "NAME", 24, lambda row, look, _now: text(row.name, look), grow=1, most=60),
    Column("", "NO", 4, lambda row, _look, _now: (str(row.snapshot.number), "strong"), right=True),
    Column("", "TRY", 3, lambda row, _look, _now: (str(row.snapshot.attempt), "muted"), right=True),
    Column("", "TAKEN", 11, lambda row, look, now: (look.when(row.snapshot.at, now), "text")),
    Column("", "AGE", 6, lambda row, _look, now: (span(now - row.snapshot.at), "muted"), right=True, drop=2),
    Column("", "FILES", 5, lambda row, _look, _now: (str(row.snapshot.files), "text"), right=True, drop=3),
    Column("", "SIZE", 8, lambda row, _look, _now: (size(row.snapshot.bytes), "text"), right=True),
    Column("", "ON DISK", 9, _kept),
)
