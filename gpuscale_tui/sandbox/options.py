"""What one sandbox is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a sandbox.

    `port` 0 takes any free one. `root` is where machines get their directories (a new temporary directory when None;
    a given one must be new or empty, and is removed at the end). `boot_seconds` is the range a machine takes to come
    up, `listing_lag` the seconds until a new order shows in my_orders. `balance` is in dollars. `nice` is added to
    the niceness of what machines run, so that a screen on the same computer stays quick.
    """

    port: int = 0
    root: Path | None = None
    seed: int = 7
    boot_seconds: tuple[float, float] = (2.0, 4.0)
    listing_lag: float = 1.0
    rate_limits: bool = False
    balance: float = 100.0
    nice: int = 0
    api_key: str | None = None
    faults: tuple[str, ...] = ()
    faults_file: Path | None = None
