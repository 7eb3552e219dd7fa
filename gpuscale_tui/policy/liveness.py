"""Whether a machine lives, with three values: "I cannot reach it" is never "it is gone"."""

from __future__ import annotations

from enum import StrEnum

from gpuscale_tui.model.states import WorkerState


class Liveness(StrEnum):
    """`alive`: SSH answers. `unreachable`: it does not, for now. `gone`: its provider has said so."""

    ALIVE = "alive"
    UNREACHABLE = "unreachable"
    GONE = "gone"


def liveness(state: WorkerState | str, *, ready_at: int | None, silent_since: int | None) -> Liveness | None:
    """What the signs say together; None for a machine that never answered yet.

    SSH outweighs the provider's listing, which may be old: who answers is alive. Who does not, is unreachable, also
    when its provider says that it does not run: only an order that its provider ends, or lists no more, is gone.
    """
    if state in {WorkerState.RELEASED, WorkerState.LOST}:
        return Liveness.GONE
    if ready_at is None:
        return None
    return Liveness.ALIVE if silent_since is None else Liveness.UNREACHABLE


def in_words(found: Liveness | None, *, silent_since: int | None, down_since: int | None, now: int) -> str:
    """The same with its signs, such as `unreachable for 95 s; its provider says that it runs`. Times are UTC ms."""
    if found is None:
        return "not up yet"
    if found is not Liveness.UNREACHABLE:
        said = "; its provider says that it does not run" if found is Liveness.ALIVE and down_since is not None else ""
        return found.value + said
    runs = "does not run" if down_since is not None else "runs"
    for_so_long = "" if silent_since is None else f" for {max(0, now - silent_since) // 1000} s"
    return f"unreachable{for_so_long}; its provider says that it {runs}"
