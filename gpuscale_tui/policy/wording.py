"""Words and figures of reasons."""

from __future__ import annotations

from gpuscale_tui.model.money import format_usd

CENT = 10_000
TENTH_OF_A_MILLE = 100


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 machine`, `2 machines`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def usd_at_least(micros: int) -> str:
    """An amount that is enough when it is taken as printed: whole cents as such, else rounded up to 0.0001 dollar."""
    if micros % CENT == 0:
        return format_usd(micros)
    return format_usd(-(-micros // TENTH_OF_A_MILLE) * TENTH_OF_A_MILLE, 4)


def seconds(ms: int) -> str:
    """`5 s`, rounded up: when they are over, the thing is due."""
    return f"{-(-ms // 1000)} s"
