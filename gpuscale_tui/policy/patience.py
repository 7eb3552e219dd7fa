"""How long to wait: learned from how long it took before, and near what the user set while little is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

SHARE = 0.95
MARGIN = 2.0
"""Who needs twice as long as all but one in twenty did before will not come any more."""
WEIGHT = 5
"""The setting counts as much as five samples do."""
BOOT_FLOOR_SEC = 90.0
"""No machine gets less: an image that is there already still has to be unpacked and started."""
BOOT_CEILING_SEC = 590.0
"""Clore charges a creation fee for what is cancelled after ten minutes (Clore API reference, section 5.4)."""
SILENCE_STRETCH = 2.0
"""How much longer than the setting a silence is borne where machines came back from such long ones, at most."""


@dataclass(frozen=True, slots=True)
class Samples:
    """How long something took before, in seconds, and where: `on host 14`, `with this image`."""

    of: str
    seconds: Sequence[float]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait (seconds), and why so long."""

    seconds: float
    why: str


def most(seconds: Sequence[float]) -> float:
    """What all but one in twenty stayed within: the nearest rank, so that a few samples give their maximum."""
    ordered = sorted(seconds)
    return ordered[ceil(SHARE * len(ordered)) - 1]


def learned(setting: float, levels: Sequence[Samples], *, floor: float, ceiling: float) -> Patience:
    """The time-out that history suggests; `levels` go from the general to the particular.

    Each level that has samples pulls the figure towards twice its 95th percentile, the harder the more it has; what
    has none changes nothing. The result lies between `floor` and `ceiling`, the ceiling winning.
    """
    figure, said = setting, []
    for level in levels:
        count = len(level.seconds)
        if count:
            share = count / (count + WEIGHT)
            usual = most(level.seconds)
            figure = share * MARGIN * usual + (1 - share) * figure
            said.append(f"{count} {level.of} took up to {usual:.0f} s")
    bounded = min(max(figure, floor), ceiling)
    return Patience(bounded, f"before, {', '.join(said)}" if said else "nothing is known of it yet: the setting")


def boot_patience(setting: float, levels: Sequence[Samples]) -> Patience:
    """How long a machine may take to come up: never longer than the setting, nor than what costs a fee."""
    ceiling = min(setting, BOOT_CEILING_SEC)
    return learned(ceiling, levels, floor=min(BOOT_FLOOR_SEC, ceiling), ceiling=ceiling)


def silence_patience(setting: float, levels: Sequence[Samples], *, says_down: bool) -> Patience:
    """How long a machine may be out of reach: never shorter than the setting, longer where others came back later.

    One whose provider says that it does not run gets no more than the setting.
    """
    if says_down:
        return Patience(setting, "its provider says that it does not run: the setting")
    return learned(setting, levels, floor=setting, ceiling=setting * SILENCE_STRETCH)
