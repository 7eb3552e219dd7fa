"""Which of a snapshot's torn files speak against resuming from it.

A file that is cut off is a fault where it is new, for then it is what the job was writing. It is none where

* an older snapshot had the same bytes and, since then, the job wrote a whole file of that kind: what lies beside it is
  what a crash of long ago left;
* its name was never whole in any kept snapshot that has it: it is open all the time, such as a compressed log.

The fault goes on in later snapshots as long as the same bytes are there and nothing whole of that kind was written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gpuscale_tui.store.archive import FILE, FileEntry, Snapshot
from gpuscale_tui.store.soundness import INDEX, Verdict


@dataclass(frozen=True, slots=True)
class Findings:
    """Torn files of a snapshot by name, with the reason, and those of them that are faults."""

    torn: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


Judge = Callable[[str, Collection[str]], Verdict]
"""Judges one file of a tree by its name, with the names of all things in it; see `soundness.judge`."""


def find(judge: Judge, entries: Sequence[FileEntry], fresh: Sequence[FileEntry], kept: Sequence[Snapshot]) -> Findings:
    """Judge a tree before it becomes a snapshot: `fresh` are its files whose bytes no kept snapshot has.

    `kept` are the job's snapshots, newest first. Raises what `judge` raises where a file cannot be read.
    """
    present = {entry.name for entry in entries}
    judged = {entry.name for entry in fresh} | {entry.name for entry in entries if entry.name.endswith(INDEX)}
    verdicts = {name: judge(name, present) for name in sorted(judged)}
    torn = _carried(entries, judged, kept)
    torn |= {name: verdict.torn for name, verdict in verdicts.items() if verdict.torn is not None}
    never_whole = _never_whole(kept)
    faults = {
        name: reason for name, reason in torn.items()
        if (name not in never_whole if name in judged else _goes_on(name, verdicts, kept))
    }  # fmt: skip
    return Findings(torn, faults)


def _carried(entries: Sequence[FileEntry], judged: set[str], kept: Sequence[Snapshot]) -> dict[str, str]:
    """Torn files whose bytes an older snapshot had already."""
    known = {
        entry.sha256: snapshot.torn[entry.name]
        for snapshot in kept for entry in snapshot.files if entry.name in snapshot.torn
    }  # fmt: skip
    return {
        entry.name: known[entry.sha256]
        for entry in entries
        if entry.kind == FILE and entry.name not in judged and entry.sha256 in known
    }


def _never_whole(kept: Sequence[Snapshot]) -> set[str]:
    """Names that were torn in each kept snapshot that has them."""
    had = {entry.name for snapshot in kept for entry in snapshot.files}
    return had - {entry.name for snapshot in kept for entry in snapshot.files if entry.name not in snapshot.torn}


def _goes_on(name: str, verdicts: Mapping[str, Verdict], kept: Sequence[Snapshot]) -> bool:
    """Whether a torn file that was a fault in the newest kept snapshot still is one."""
    if not kept or name not in kept[0].faults:
        return False
    ending = _ending(name)
    return not any(
        verdict.format and verdict.torn is None and _ending(other) == ending for other, verdict in verdicts.items()
    )


def _ending(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2]
