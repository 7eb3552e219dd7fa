"""Notices: what a message to the outside may be about."""

from __future__ import annotations

from enum import StrEnum


class NoticeKind(StrEnum):
    """What a message is about; users choose by these names."""

    JOB_DONE = "job_done"
    JOB_FAILED = "job_failed"
    MACHINE_LOST = "machine_lost"
    BUDGET = "budget"
    BALANCE = "balance"
    ORPHAN = "orphan"
    BREAKER = "breaker"
    STALLED = "stalled"
    LEASE = "lease"
    BILL = "bill"
    REHEARSAL = "rehearsal"
    QUOTA = "quota"
