"""How programs say that a checkpoint of several files is whole: the files that they write last.

What is known here, by the sources of these libraries:

* Hugging Face Trainer writes `checkpoint-N/`, the file trainer_state.json after the model and the optimizer.
* transformers and diffusers write shards `NAME-00001-of-00005.EXT`, then `NAME.EXT.index.json`.
* torch.distributed.checkpoint writes `__0_0.distcp` and so on, then `.metadata` (from `.metadata.tmp`).
* DeepSpeed writes `global_stepN/`, then `latest` beside it; Megatron-LM `iter_NNNNNNN/`, then
  `latest_checkpointed_iteration.txt`.
* Others leave an empty `_SUCCESS`, `COMPLETED` or `.done` in a directory, or `NAME.done` beside NAME.

A directory that lacks the marker which those beside it have is held back; so is one of a known shape.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

SHARD = re.compile(r"(?P<stem>.+)-(?P<part>[0-9]{5})-of-(?P<all>[0-9]{5})(?P<ext>\.[A-Za-z0-9.]+)\Z")
INDEXED = (".safetensors", ".bin")
TRAINER_DIRECTORY = re.compile(r"checkpoint-[0-9]+\Z")
TRAINER_FILES = frozenset({"training_args.bin", "trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"})
TRAINER_STATE = "trainer_state.json"
DISTRIBUTED = re.compile(r"__[0-9]+_[0-9]+\.distcp\Z")
TRACKED = (
    (re.compile(r"global_step[0-9]+\Z"), "latest"),
    (re.compile(r"iter_[0-9]{7}\Z"), "latest_checkpointed_iteration.txt"),
)
FINISHED = frozenset(
    {"_SUCCESS", "COMPLETED", "COMPLETE", "DONE", ".done", ".complete", ".completed", "commit_success.txt"}
)
FINISHED_SUFFIXES = (".done", ".complete", ".completed")
LONG = 15
"""What has stood still for so many times the settling time is not held back any more for a marker that may never come,
unless it is certain that its program writes one."""


class Stamped(Protocol):
    """What is asked of an entry here."""

    @property
    def path(self) -> str: ...
    @property
    def mtime(self) -> int: ...
    @property
    def changed_at(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Markers:
    """`announced`: paths of files that a marker beside them calls finished. `held`: directories and files (by path, ""
    is the root) that lack a marker which they must have, with the reason."""

    announced: frozenset[str] = frozenset()
    held: Mapping[str, str] = field(default_factory=dict)

    def reason(self, path: str) -> str | None:
        """Why this path is held back, None when it is not."""
        while path:
            if path in self.held:
                return self.held[path]
            path = path.rpartition("/")[0]
        return None


@dataclass(slots=True)
class _Directory:
    """The files directly in a directory by name, when each was last touched, and the newest of all below it."""

    files: dict[str, int] = field(default_factory=dict)
    newest: int = 0


def touched(entry: Stamped) -> int:
    """When an entry or its content was last changed."""
    return max(entry.mtime, entry.changed_at)


def read_markers(files: Iterable[Stamped], clock: int, settle_ms: int) -> Markers:
    """What the markers among these files say. Temporary files are not given here."""
    tree = _tree(files)
    still = clock - LONG * settle_ms
    held: dict[str, str] = {}
    for rule in (_trainers, _shards, _distributed, _tracked, _learned):
        for path, reason in rule(tree, still):
            held.setdefault(path, reason)
    return Markers(frozenset(_announced(tree)), held)


def _tree(files: Iterable[Stamped]) -> dict[str, _Directory]:
    tree: dict[str, _Directory] = defaultdict(_Directory)
    for entry in files:
        parent, _, name = entry.path.rpartition("/")
        at = touched(entry)
        tree[parent].files[name] = at
        tree[parent].newest = max(tree[parent].newest, at)
        while parent:
            parent = parent.rpartition("/")[0]
            tree[parent].newest = max(tree[parent].newest, at)
    return dict(tree)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _named(tree: Mapping[str, _Directory], pattern: re.Pattern[str]) -> Iterator[tuple[str, str, _Directory]]:
    """The directories whose last name is like that: path, path of the parent, content."""
    for path, found in tree.items():
        parent, _, name = path.rpartition("/")
        if path and pattern.match(name):
            yield path, parent, found


def _trainers(tree: Mapping[str, _Directory], still: int) -> Iterator[tuple[str, str]]:
    """A directory of such a name that nothing tells to be a trainer's is held back for a while only."""
    found = list(_named(tree, TRAINER_DIRECTORY))
    used = {parent for _, parent, each in found if TRAINER_STATE in each.files}
    for path, parent, each in found:
        certain = parent in used or not TRAINER_FILES.isdisjoint(each.files)
        if TRAINER_STATE not in each.files and (certain or each.newest > still):
            yield path, f"it has no {TRAINER_STATE} yet, which is written last"


def _shards(tree: Mapping[str, _Directory], still: int) -> Iterator[tuple[str, str]]:
    for directory, found in tree.items():
        sets: dict[tuple[str, int, str], dict[str, int]] = defaultdict(dict)
        for name, at in found.files.items():
            match = SHARD.match(name)
            if match is not None:
                sets[match["stem"], int(match["all"]), match["ext"]][name] = at
        for (stem, count, ext), parts in sets.items():
            reason = _why_not_whole(found.files, stem, count, ext, parts, still)
            if reason is not None:
                yield from ((_join(directory, name), reason) for name in parts)


def _why_not_whole(  # noqa: PLR0917 - the parts of a set's name
    files: Mapping[str, int], stem: str, count: int, ext: str, parts: Mapping[str, int], still: int
) -> str | None:
    if len(parts) < count:
        return f"{len(parts)} of its {count} parts are there"
    newest, index = max(parts.values()), f"{stem}{ext}.index.json"
    if ext not in INDEXED or newest <= still:
        return None
    if index not in files:
        return f"{index} is not there yet"
    return f"{index} is older than its parts" if files[index] < newest else None


def _distributed(tree: Mapping[str, _Directory], still: int) -> Iterator[tuple[str, str]]:
    for directory, found in tree.items():
        parts = {name: at for name, at in found.files.items() if DISTRIBUTED.match(name)}
        if parts and found.files.get(".metadata", -1) < max(parts.values()) and found.newest > still:
            yield from ((_join(directory, name), "its .metadata is not there yet") for name in parts)


def _tracked(tree: Mapping[str, _Directory], still: int) -> Iterator[tuple[str, str]]:
    for pattern, tracker in TRACKED:
        for path, parent, found in _named(tree, pattern):
            told = tree[parent].files.get(tracker, -1) if parent in tree else -1
            if told < found.newest and found.newest > still:
                yield path, f"{tracker} does not tell of it yet"


def _shape(name: str) -> str:
    return re.sub(r"[0-9]+", "0", name)


def _learned(tree: Mapping[str, _Directory], _still: int) -> Iterator[tuple[str, str]]:
    """A directory that has no mark of its end where others of its shape beside it have one."""
    shapes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in tree:
        parent, _, name = path.rpartition("/")
        if path and _shape(name) != name:
            shapes[parent, _shape(name)].append(path)
    for paths in shapes.values():
        marks = {path: FINISHED.intersection(tree[path].files) for path in paths}
        used = sorted({name for names in marks.values() for name in names})
        if used:
            yield from (
                (path, f"it has no {used[0]} yet, as those beside it have") for path in paths if not marks[path]
            )


def _announced(tree: Mapping[str, _Directory]) -> Iterator[str]:
    """Files that were not touched since their mark was made."""
    marks: dict[str, int] = {}
    for directory, found in tree.items():
        for name, at in found.files.items():
            if name in FINISHED:
                marks[directory] = at
            elif name.endswith(FINISHED_SUFFIXES):
                marks[_join(directory, name.rpartition(".")[0])] = at
    if marks:
        for directory, found in tree.items():
            of_directory = _mark_above(marks, directory)
            for name, at in found.files.items():
                path = _join(directory, name)
                if at <= max(of_directory, marks.get(path, -1)):
                    yield path


def _mark_above(marks: Mapping[str, int], directory: str) -> int:
    found = marks.get("", -1)
    while directory:
        found = max(found, marks.get(directory, -1))
        directory = directory.rpartition("/")[0]
    return found
