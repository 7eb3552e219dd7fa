"""How often saving is worth its while: the rule of Young and Daly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HOUR_MS = 3_600_000
PRIOR_MS = 24 * HOUR_MS
"""Mean time between two losses that is believed of machines of which nothing is known."""
PRIOR_WEIGHT = 1.0
"""So many losses is that belief worth: it fades as losses, or hours without one, are seen."""
SHORTEST_MS = 1_000
STEP_NAMED = re.compile(
    r"(?:^|[/_.=-])(?:(?:global[_-]?)?steps?|iter(?:ation)?s?)[_=-]?0*([0-9]{1,12})(?![0-9])|(?:^|/)checkpoint-([0-9]{1,12})/"
)


@dataclass(frozen=True, slots=True)
class Evictions:
    """What was seen of a kind of machine: how long jobs ran on it in all (ms) and how often it was lost under them."""

    ran_ms: int
    lost: int

    @property
    def between_ms(self) -> int:
        """Mean time between two losses, with what is believed beforehand counted as one loss in a day."""
        return round((self.ran_ms + PRIOR_WEIGHT * PRIOR_MS) / (self.lost + PRIOR_WEIGHT))

    @property
    def words(self) -> str:
        """On what that rests."""
        if not self.ran_ms:
            return "no machine of this kind was used yet: one loss in 24 h is assumed"
        times = "no loss" if not self.lost else "1 loss" if self.lost == 1 else f"{self.lost} losses"
        rests = f"{times} in {self.ran_ms / HOUR_MS:.1f} h of running jobs"
        return rests if self.lost >= 3 else f"{rests}, with one loss in 24 h assumed beforehand"


def suggested_interval_ms(save_ms: int, between_evictions_ms: int) -> int:
    """The time between two saves that loses the least: sqrt(2 * save * between), Young's first-order rule.

    `save_ms` is how long a save takes, `between_evictions_ms` the mean time between two losses. Never below the save
    itself, nor above the time between losses, where Daly's higher-order form ends, too. Source: J. W. Young, 1974, and
    J. T. Daly, 2006; formula and an example in shared/reference/policies.md, section 2.5.
    """
    if save_ms <= 0 or between_evictions_ms <= 0:
        return SHORTEST_MS
    if save_ms >= 2 * between_evictions_ms:
        return between_evictions_ms
    best = round(math.sqrt(2 * save_ms * between_evictions_ms))
    return max(SHORTEST_MS, min(max(best, save_ms), between_evictions_ms))


def median_ms(measured: Sequence[int]) -> int | None:
    """The middle of what saves took; None when none was measured."""
    if not measured:
        return None
    ordered = sorted(measured)
    return ordered[len(ordered) // 2]


def named_step(paths: Iterable[str]) -> int | None:
    """The highest step that is part of these names, as in checkpoint-500/model.safetensors, global_step500/ or
    epoch=3-step=1200.ckpt; None where none is."""
    found = [int(match[1] or match[2]) for path in paths for match in STEP_NAMED.finditer(path)]
    return max(found, default=None)
