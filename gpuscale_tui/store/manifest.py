"""The manifest of a snapshot as bytes, and `meta.json` beside it.

    {"files": [{"name", "size", "mode", "sha256", "kind"?, "target"?}...], "torn": {name: reason}, "faults": [name...],
     "meta": {...}, "stored": bytes, "sha256": of this object without this key}

Written as ASCII: what is no UTF-8 in a name stands there as Python's surrogate escapes. Programs before wrote neither
`kind` nor `faults`, `stored` and `sha256`; their manifests are read, too.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.archive import (
    DIRECTORY,
    FILE,
    KINDS,
    LINK,
    FileEntry,
    SnapshotError,
    SnapshotMeta,
    check_name,
    settle_links,
)

MANIFEST, META = "manifest.json", "meta.json"
LARGEST = 1 << 30
"""Bytes of a manifest that is read at all: some four million files."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says; see `Snapshot`."""

    meta: SnapshotMeta
    files: tuple[FileEntry, ...]
    stored: int | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    torn: Mapping[str, str] = field(default_factory=dict)


def encode(manifest: Manifest) -> bytes:
    """A manifest as it is stored."""
    meta = manifest.meta
    content: dict[str, Any] = {
        "files": [_lean(entry) for entry in manifest.files],
        "torn": {**manifest.torn, **manifest.faults},
        "faults": list(manifest.faults),
        "meta": asdict(replace(meta, epoch=_finite(meta.epoch), loss=_finite(meta.loss))),
        "stored": manifest.stored,
    }
    content["sha256"] = _digest(content)
    return _dump(content)


def decode(data: bytes) -> Manifest:
    """What stands in a manifest. Raises SnapshotError for one that makes no sense, was cut off or changed."""
    try:
        content = json.loads(data)
        told = content.pop("sha256", None)
        if told is not None and told != _digest(content):
            raise SnapshotError("it has changed since it was written")
        files = tuple(_entry(each) for each in content["files"])
        check_tree(files)
        torn = {str(name): str(reason) for name, reason in content.get("torn", {}).items()}
        faults = {str(name): torn[name] for name in content.get("faults", ())}
        return Manifest(_meta(content["meta"]), files, _optional(content.get("stored"), int), faults, torn)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SnapshotError(f"it makes no sense: {error!r}") from error


def meta_file(meta: SnapshotMeta) -> bytes:
    """`meta.json`: where a snapshot comes from, for people and for other programs; nothing here reads it."""
    time = datetime.fromtimestamp(meta.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _dump({
        "job": job_label(meta.job_id), "name": meta.job_name, "attempt": meta.attempt,
        "step": meta.step, "epoch": _finite(meta.epoch), "loss": _finite(meta.loss), "worker": meta.worker_id,
        "time": time, "kind": meta.kind, "left_out": list(meta.left_out),
    })  # fmt: skip


def check_tree(files: Sequence[FileEntry]) -> None:
    """Refuse entries that cannot all stand in one tree, or lead out of it. Raises SnapshotError."""
    kinds: dict[str, str] = {}
    for entry in files:
        check_name(entry.name)
        if entry.name in kinds:
            raise SnapshotError(f"{entry.name!r} is there twice")
        kinds[entry.name] = entry.kind
    sound: set[str] = set()
    for name in kinds:
        parent = name.rpartition("/")[0]
        while parent and parent not in sound:
            if kinds.get(parent, DIRECTORY) != DIRECTORY:
                raise SnapshotError(f"{name!r} is or lies behind a link or a file")
            sound.add(parent)
            parent = parent.rpartition("/")[0]
    links = {entry.name: entry.target for entry in files if entry.kind == LINK}
    for name, reason in settle_links(links)[1].items():
        raise SnapshotError(f"the link {name!r} is refused: {reason}")


def _lean(entry: FileEntry) -> dict[str, Any]:
    """An entry without what is as usual."""
    told: dict[str, Any] = {"name": entry.name, "size": entry.size, "mode": entry.mode, "sha256": entry.sha256}
    if entry.kind != FILE:
        told["kind"] = entry.kind
    if entry.target:
        told["target"] = entry.target
    return told


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=True).encode("ascii")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_dump(content)).hexdigest()


def _entry(told: Mapping[str, Any]) -> FileEntry:
    entry = FileEntry(
        _is(told["name"], str), _is(told["size"], int), _is(told["mode"], int) & 0o777, _is(told["sha256"], str),
        _is(told.get("kind", FILE), str), _is(told.get("target", ""), str),
    )  # fmt: skip
    if entry.kind not in KINDS or entry.size < 0:
        raise ValueError(f"{entry.name!r} is of no kind that is known")
    if entry.kind == FILE and not _SHA256.fullmatch(entry.sha256):
        raise ValueError(f"{entry.name!r} has no hash")
    return entry


def _meta(told: Mapping[str, Any]) -> SnapshotMeta:
    """What later programs may add is left aside."""
    known = {each.name for each in fields(SnapshotMeta)}
    values = {name: value for name, value in told.items() if name in known}
    for name in ("job_id", "attempt", "worker_id", "at"):
        _is(values[name], int)
    values["left_out"] = tuple(str(each) for each in values.get("left_out", ()))
    return SnapshotMeta(**values)


def _is(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _optional(value: object, kind: type[T]) -> T | None:
    return None if value is None else _is(value, kind)
