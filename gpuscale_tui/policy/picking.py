"""What of a checkpoint directory goes into a snapshot when not all of it is complete, and what it goes without.

A snapshot must be a state that the job really had. New things that are still being written may be left out of one: then
it is the state before they were begun. A file that was in the last snapshot and is being overwritten may not: without
it, or with half of it, the rest would be of no moment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from gpuscale_tui.policy.completeness import Choice, Entry, Listing, complete, is_stream, is_temporary
from gpuscale_tui.policy.markers import read_markers, touched

E = TypeVar("E", bound=Entry)
Reasons = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pick(Generic[E]):
    """`files` may be stored. `left_out` are not, with reasons. Where anything is `blocked`, nothing may be stored.
    `suspects`, all among the files, may be cut off: their format can tell, and of small ones (`SMALL_BYTES`) it is not
    likely."""

    files: tuple[E, ...]
    left_out: Reasons = ()
    blocked: Reasons = ()
    suspects: frozenset[str] = frozenset()


def worth_waiting(choice: Choice[E], given_up: Mapping[str, str]) -> bool:
    """Whether a look a little later may find more: not for what is appended to for ever, nor for what was waited for in
    vain (`given_up`, by path with its reason)."""
    return any(not is_stream(path) and given_up.get(path) != reason for path, reason in choice.waiting)


def pick(choice: Choice[E], known: Collection[str]) -> Pick[E]:
    """Go without what is not complete, as far as that may be. `known` are the paths in the last snapshot."""
    blocked = tuple((path, reason) for path, reason in choice.waiting if path in known and not is_stream(path))
    if blocked:
        return Pick((), (), blocked)
    found = _without(choice.files, (*choice.waiting, *choice.ignored), known)
    return replace(found, suspects=choice.small & frozenset(entry.path for entry in found.files))


def _without(files: Sequence[E], missing: Reasons, known: Collection[str]) -> Pick[E]:
    """Leave out what is missing, and with it the new directory that it belongs to."""
    old = {parent for path in known for parent in _parents(path)}
    roots = {path: _root(path, old) for path, _ in missing}
    tops = set(roots.values())
    kept, left = [], list(missing)
    for entry in files:
        above = next((top for top in (entry.path, *_parents(entry.path)) if top in tops), None)
        if above is None:
            kept.append(entry)
        elif entry.kind == "file":
            left.append((entry.path, f"it belongs to {above}, which is not complete"))
    return Pick(tuple(kept), tuple(sorted(set(left))))


def _root(path: str, old: Collection[str]) -> str:
    """The highest directory above a path that no snapshot has, else the path itself. What is appended to stands for
    itself alone: logs lie beside everything."""
    if is_stream(path):
        return path
    new = [parent for parent in _parents(path) if parent not in old]
    return new[-1] if new else path


def _parents(path: str) -> list[str]:
    """The directories above a path, the nearest first."""
    found = []
    while "/" in path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found


def pick_at_end(now: Listing[E], known: Mapping[str, str], *, settle_ms: int, killed: bool) -> Pick[E]:
    """What is stored of a directory in which nothing is written any more.

    After an orderly end that is all. Where the command was `killed`, what it wrote last may be cut off: what was
    touched within `settle_ms` of the newest of its files is suspect, unless a snapshot already has it (`known`: stamps
    by path) or it was renamed into its place. Temporary names and directories that lack their marker are left out then.
    """
    everything = complete(now, None, settle_ms=settle_ms, ended=True)
    if not killed:
        return Pick(everything.files, everything.ignored)
    whole = [entry for entry in everything.files if not is_temporary(entry.path)]
    newest = max((touched(entry) for entry in whole if entry.kind == "file"), default=0)
    # by a clock that stands at the newest file: how long ago the kill was does not make anything whole
    held = read_markers((entry for entry in whole if entry.kind == "file"), newest, settle_ms)
    unsure = complete(Listing(newest, now.files), None, settle_ms=max(1, settle_ms), ended=False)
    missing = [(path, reason) for path, reason in unsure.waiting if held.reason(path) is not None]
    suspects = {path for path, _ in unsure.waiting} - {path for path, _ in missing} | unsure.small
    stamps = {entry.path: entry.stamp for entry in whole if entry.kind == "file"}
    suspects = {path for path in suspects if path in stamps and not _is_safe(path, stamps[path], known)}
    rest = _without(whole, tuple(missing), known)
    inside = frozenset(suspects & {entry.path for entry in rest.files})
    return Pick(rest.files, (*everything.ignored, *unsure.ignored, *rest.left_out), (), inside)


def _is_safe(path: str, stamp: str, known: Mapping[str, str]) -> bool:
    return (bool(stamp) and known.get(path) == stamp) or is_stream(path)


def without_torn(choice: Pick[E], torn: Reasons, known: Collection[str]) -> Pick[E]:
    """The same without files that turned out to be cut off; blocked by those that overwrote a file that is stored."""
    blocked = tuple((path, reason) for path, reason in torn if path in known)
    if blocked:
        return Pick((), choice.left_out, blocked)
    rest = _without(choice.files, torn, known)
    names = frozenset(entry.path for entry in rest.files)
    return Pick(rest.files, (*choice.left_out, *rest.left_out), (), choice.suspects & names)
