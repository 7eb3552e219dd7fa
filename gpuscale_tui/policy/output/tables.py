"""Tables with a header line: ultralytics, fastai and whatever prints columns under their names."""

from __future__ import annotations

import re

from gpuscale_tui.policy.output.reading import Reading, count, metric_name, number, printed_name

_HEADS = re.compile(r"^[A-Za-z_][\w@.()/%-]*$")
_EPOCH_CELL = re.compile(r"(\d+)(?:/(\d+))?")
_UNIT = re.compile(r"[GMK]B?$|^\d+:\d\d")
FEWEST = 3
MOST = 20
_NO_METRIC = frozenset({"epoch", "gpu_mem", "instances", "size", "time", "images", "class", "labels", "img_size"})


def heads(text: str) -> tuple[str, ...] | None:
    """The columns' names where the line is such a header: it begins with `epoch` or `Class`, and names a metric."""
    body = text.split(": ", 1)[0] if "%" in text else text
    cells = body.split()
    if not FEWEST <= len(cells) <= MOST or cells[0].lower() not in {"epoch", "class"}:
        return None
    if not all(_HEADS.match(cell) for cell in cells):
        return None
    names = [cell.lower() for cell in cells]
    return tuple(names) if any(_metric(name) for name in names) else None


def _metric(name: str) -> str | None:
    if name in _NO_METRIC:
        return None
    if name in {"p", "box(p", "r", "map50", "map50-95", "map50-95)", "map@.5", "map@.5:.95:"} or name.startswith(
        "map50"
    ):
        return {"p": "precision", "box(p": "precision", "r": "recall"}.get(name) or printed_name(name.rstrip("):"))
    return metric_name(name)


def row(text: str, columns: tuple[str, ...]) -> Reading | None:
    """A row below such a header; None where the line is none."""
    cells = re.split(r":\s", text, maxsplit=1)[0].split()
    if len(cells) != len(columns) or not cells:
        return None
    if columns[0] == "class":
        return _validation(cells, columns)
    place = _EPOCH_CELL.fullmatch(cells[0])
    if place is None:
        return None
    values: dict[str, float] = {}
    for name, cell in zip(columns[1:], cells[1:], strict=True):
        value, kept = number(cell), _metric(name)
        if value is None and kept is not None and not _UNIT.search(cell):
            return None
        if value is not None and kept is not None:
            values[_at_end(kept)] = value
    if not values:
        return None
    return Reading(epoch=number(place[1]), epochs=count(place[2]), values=values)


def _at_end(name: str) -> str:
    """What is measured once an epoch is measured on data that is not trained on."""
    return "val_accuracy" if name == "accuracy" else name


def _validation(cells: list[str], columns: tuple[str, ...]) -> Reading | None:
    """Ultralytics' line over all classes; those of single classes are left out."""
    if cells[0] != "all":
        return None
    values = {}
    for name, cell in zip(columns[1:], cells[1:], strict=True):
        kept, value = _metric(name), number(cell)
        if kept is not None and value is not None:
            values[kept] = value
    return Reading(values=values, phase="eval") if values else None
