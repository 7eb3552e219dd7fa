"""The columns of events, as `cells` has those of jobs and machines."""

from __future__ import annotations

import re
from types import MappingProxyType

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.store.events import Event
from gpuscale_tui.tui.cells import text
from gpuscale_tui.tui.format import clean, size
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.widgets.columns import Column

CAUSES = MappingProxyType({
    "finished": "",
    "user_error": "the command failed",
    "timeout": "it ran longer than it may",
    "cancelled": "it was cancelled",
    "preempted": "the machine was taken away",
    "host_fault": "the machine failed",
    "provider_fault": "the provider failed",
    "our_fault": "gpuscale failed it",
    "budget": "of the budget",
})  # fmt: skip
"""What follows on `because`."""
_BYTES = re.compile(r"\b(\d{4,15}) bytes\b")


def _event_on(row: Event, _look: Look, _now: int) -> Span:
    job = job_label(row.job_id) if row.job_id is not None else ""
    attempt = f".{row.attempt}" if row.attempt is not None and job else ""
    worker = worker_label(row.worker_id) if row.worker_id is not None else ""
    return " ".join(part for part in (job + attempt, worker) if part) or "-", "strong"


def _event_what(row: Event, look: Look, _now: int) -> Span:
    loud = row.to_state in {"failed", "lost", "done", "released"}
    role = "warn" if row.kind == "warning" else f"state-{row.to_state}" if loud else "text"
    return clean(event_told(row), ascii_only=look.glyphs.ascii), role


EVENT_COLUMNS: tuple[Column[Event], ...] = (
    Column("", "WHEN", 11, lambda row, look, now: (look.when(row.at, now), "muted")),
    Column("", "ON", 11, _event_on),
    Column("", "KIND", 8, lambda row, look, _now: text(row.kind, look, "muted"), drop=2),
    Column("", "WHAT", 38, _event_what, grow=1),
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


def event_told(event: Event) -> str:
    """What happened, with its cause in words."""
    change = event.to_state or ""
    if event.from_state and event.to_state and event.kind != "attempt":
        change = f"{event.from_state} > {event.to_state}"
    cause = CAUSES.get(event.cause or "", (event.cause or "").replace("_", " "))
    because = f"{change}, because {cause}" if change and cause else change or cause
    detail = _BYTES.sub(lambda match: size(int(match[1])), event.detail)
    return ": ".join(part for part in (because, detail) if part) or event.kind
