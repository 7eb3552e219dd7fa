"""Whether a running job does anything: judged by output, checkpoints, CPU time and GPU use together."""

from __future__ import annotations

from dataclasses import dataclass, replace

CPU_SHARE = 0.01
"""A job that uses less of one core than this between two looks only waits."""
GPU_PERCENT = 3
"""A GPU that is busier than this works."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at a job saw. `output` is bytes in all, `saved` counts its snapshots. `cpu_ms` is CPU time in all
    and `gpu_percent` what the busiest GPU did at that moment; None: not asked, or the machine cannot say."""

    at: int
    output: int
    saved: int = 0
    cpu_ms: int | None = None
    gpu_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """A job's last sign of life (UTC ms), and what was seen last."""

    alive_at: int
    seen: Sight


def begin(sight: Sight) -> Progress:
    """From here on signs of life are looked for."""
    return Progress(sight.at, sight)


def look(before: Progress, sight: Sight) -> Progress:
    """Take in one more look. One that could not learn whether the job computes is a sign of nothing: neither way."""
    if works(before.seen, sight):
        return Progress(sight.at, sight)
    if sight.cpu_ms is None:
        return before
    return replace(before, seen=sight)


def works(before: Sight, now: Sight) -> bool:
    """Whether something happened between two looks."""
    if now.output > before.output or now.saved != before.saved:
        return True
    if now.gpu_percent is not None and now.gpu_percent > GPU_PERCENT:
        return True
    if now.cpu_ms is None or before.cpu_ms is None:
        return False
    spent = now.cpu_ms - before.cpu_ms
    return spent < 0 or spent >= CPU_SHARE * max(1, now.at - before.at)


def is_stalled(progress: Progress, now: int, limit_ms: int, looks: int) -> bool:
    """Whether nothing was seen for so long, in at least two looks that could tell."""
    return limit_ms > 0 and looks >= 2 and now - progress.alive_at >= limit_ms
