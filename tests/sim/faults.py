"""How badly the world behaves: every share and rate is a number, and zero of everything is a world that is healed."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares are of calls (0 to 1), rates are per machine and hour, times are seconds.

    Promised and therefore never exceeded by them: an order appears in the list, and a list is as old, within the
    provider's `listing_lag_ms`. `beyond` breaks that promise for a share of late orders.
    """

    # Creating an order
    create_lost: float = 0.0  # it is made, the reply never comes
    create_late: float = 0.0  # an error comes back, and the order appears later
    create_500: float = 0.0  # an error, and no order
    create_refused: float = 0.0  # a clear no
    beyond: float = 0.0  # share of late orders that appear after the promised time
    # Listing
    list_error: float = 0.0
    list_stale: float = 0.0  # the list of some moment within the promised lag
    list_twice: float = 0.0  # rows doubled and in another order
    list_empty: float = 0.0  # complete, successful and empty, against the truth; never twice in a row
    # Giving back
    release_error: float = 0.0  # not done
    release_lost: float = 0.0  # done, the reply never comes
    release_ignored: float = 0.0  # "done", and it lives on
    linger_sec: float = 0.0  # how long it takes at most
    # The market
    offers_error: float = 0.0
    slow_sec: float = 0.5  # replies take up to this long
    storm: float = 0.0  # storms an hour: for some minutes everything is refused with 429 or 503
    foreign: float = 0.0  # orders an hour of other people on the same account
    price_moves: float = 0.0  # by how much prices differ from one ten minutes to the next
    # Machines
    boot_sec: tuple[float, float] = (20.0, 120.0)
    boot_hangs: float = 0.0  # share of orders whose machine never comes up
    bids_lost: float = 0.0  # share of spot orders that hold no machine at first
    evictions: float = 0.0
    bulk_evictions: float = 0.0  # an hour, all machines of a market at once
    deaths: float = 0.0  # silent: listed and billed, and never answers again
    partitions: float = 0.0  # unreachable for a while
    resets: float = 0.0  # the connection is lost at once
    vanishing: float = 0.0  # the machine restarts: its processes are gone
    false_cards: float = 0.0  # share of orders whose machine has another GPU than it was offered with
    fills: float = 0.0  # share of transfers that fail
    op_slow_sec: float = 0.2
    # The engine's own computer, and its users
    kills: float = 0.0  # an hour
    stops: float = 0.0  # orderly ends an hour
    disk_slow: float = 0.0
    doorbell_lost: float = 0.0
    down_sec: float = 30.0  # how long no engine runs after an end, up to

    def healed(self) -> Faults:
        """The same world without faults."""
        kept = {"boot_sec", "slow_sec", "op_slow_sec", "price_moves"}
        rest = {each.name: Faults.__dataclass_fields__[each.name].default for each in fields(self)}
        return replace(self, **{name: value for name, value in rest.items() if name not in kept})


QUIET = Faults()


@dataclass(frozen=True, slots=True)
class Range:
    """Where a fault's share or rate is drawn from; `often` is how many of the worlds have it at all."""

    low: float
    high: float
    often: float = 0.5


RANGES: dict[str, Range] = {
    "create_lost": Range(0.02, 0.3),
    "create_late": Range(0.02, 0.3),
    "create_500": Range(0.02, 0.3),
    "create_refused": Range(0.02, 0.3),
    "list_error": Range(0.01, 0.4),
    "list_stale": Range(0.05, 0.5),
    "list_twice": Range(0.05, 0.5),
    "list_empty": Range(0.01, 0.2),
    "release_error": Range(0.05, 0.6),
    "release_lost": Range(0.05, 0.5),
    "release_ignored": Range(0.05, 0.5),
    "linger_sec": Range(5, 300),
    "offers_error": Range(0.01, 0.3),
    "slow_sec": Range(0.5, 20, 0.3),
    "storm": Range(0.1, 1.0, 0.3),
    "foreign": Range(0.5, 4.0),
    "price_moves": Range(0.02, 0.4),
    "boot_hangs": Range(0.02, 0.3),
    "bids_lost": Range(0.05, 0.5),
    "evictions": Range(0.02, 0.6),
    "bulk_evictions": Range(0.05, 0.3, 0.3),
    "deaths": Range(0.01, 0.2),
    "partitions": Range(0.05, 1.0),
    "resets": Range(0.1, 2.0),
    "vanishing": Range(0.01, 0.2),
    "false_cards": Range(0.02, 0.2, 0.3),
    "fills": Range(0.01, 0.2, 0.3),
    "op_slow_sec": Range(0.2, 10, 0.3),
    "kills": Range(0.1, 2.0, 0.7),
    "stops": Range(0.05, 0.5, 0.4),
    "disk_slow": Range(0.001, 0.02, 0.3),
    "doorbell_lost": Range(0.1, 1.0),
    "down_sec": Range(1, 7200, 0.6),
}


def drawn(dice: random.Random) -> Faults:
    """A world with some of the faults, each as bad as the dice say."""
    chosen = {}
    for name, span in RANGES.items():
        draw, value = dice.random(), dice.uniform(span.low, span.high)
        if draw < span.often:
            chosen[name] = value
    return Faults(**chosen)
