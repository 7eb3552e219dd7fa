"""A pretended `nvidia-smi` for each machine: it prints what the server is advertised as having, or something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DRIVERS = {"12.4": "550.54.14", "12.8": "570.86.15", "13.0": "580.65.06"}
"""A driver that serves each CUDA version."""


@dataclass(frozen=True, slots=True)
class Cards:
    """What a machine shows: full names of its cards, GB of memory of each as the market has it, CUDA of the driver."""

    names: tuple[str, ...]
    memory: int
    cuda: str

    @property
    def rows(self) -> Sequence[str]:
        """`NVIDIA GeForce RTX 4090, 24064, 570.86.15` for each card; the market cuts the last part of a GB off."""
        driver = DRIVERS.get(self.cuda, "560.35.03")
        return [f"{name}, {self.memory * 1024 + 512}, {driver}" for name in self.names]


def other_cards(cards: Cards) -> Cards:
    """What a host shows that is not what it is advertised as: a card too few, or a lesser one."""
    if len(cards.names) > 1:
        return Cards(cards.names[1:], cards.memory, cards.cuda)
    return Cards(("NVIDIA GeForce GTX 1060 6GB",), 5, cards.cuda)


def install(cards: Cards, folder: Path) -> None:
    """Put the program into a folder that is on the machine's PATH. Blocks."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(_script(cards))
    program.chmod(0o700)


def _script(cards: Cards) -> str:
    listing = "\n".join(cards.rows)
    banner = f"| NVIDIA-SMI {cards.rows[0].rsplit(', ', 1)[1]}    CUDA Version: {cards.cuda} |" if cards.rows else ""
    return (
        f"#!/bin/sh\ncase \"$1\" in\n--query-gpu=*) cat <<'END'\n{listing}\nEND\n;;\n"
        f"*) cat <<'END'\n{banner}\nEND\n;;\nesac\n"
    )
