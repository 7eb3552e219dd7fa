"""Progress bars: tqdm and what is made with it (Hugging Face, Lightning, ultralytics), and those of Keras."""

from __future__ import annotations

import re

from gpuscale_tui.policy.output import pairs
from gpuscale_tui.policy.output.lines import head
from gpuscale_tui.policy.output.reading import Kind, Reading, Scope, count, number

_TIME = r"(?:\d+ days?, )?[\d:?]+"
_TQDM = re.compile(
    r"(?P<desc>.{0,160}?):?\s*(?P<percent>\d{1,3})%(?:\|[^|]{0,400}\|)?\s*"
    r"(?P<n>[\d.]+)(?P<scale>[kKMGT]?)/(?P<total>[\d.]+)[kKMGT]?\s*"
    rf"\[{_TIME}<{_TIME},\s*(?P<rate>[\d.]+|\?)(?P<rate_scale>[kKMGT]?)\s?(?P<unit>[^\s,\]]+)(?:,\s*(?P<post>[^\]]*))?\]?"
)
_OPEN = re.compile(  # tqdm without a total: `123it [00:10, 12.3it/s, loss=0.1]`
    rf"(?P<desc>.{{0,160}}?):?\s*\b(?P<n>\d+)it\s*\[{_TIME},\s*(?P<rate>[\d.]+|\?)\s?(?P<unit>[^\s,\]]+)"
    r"(?:,\s*(?P<post>[^\]]*))?\]"
)
_ULTRALYTICS = re.compile(
    r"(?P<desc>.*?):\s*(?P<percent>\d{1,3})%\s[━─╸╺ ]+\s?(?P<n>\d+)/(?P<total>\d+)\s(?P<rate>[\d.]+)(?P<unit>it/s|s/it)"
)
_KERAS = re.compile(
    r"\s*(?P<n>\d+)/(?P<total>\d+)\s+(?:\[[=>.]{2,}\]|[━─╸╺]{2,}|-)\s*(?P<rest>(?:-\s*)?(?:ETA:|\d+[a-z:]|\x20*\d+s).*)"
)
_FETCH = re.compile(r"\d{6,}/\d{6,}\b.*\b\d+us/step\s*$")
"""Keras fetches data sets with the same bar; its steps are bytes."""
_STEPS = frozenset(("it", "its", "iter", "iters", "step", "steps", "batch", "batches", "ba", "epoch", "epochs"))
"""What a bar of training counts; bytes, files and examples are none."""
_SIDE = re.compile(
    r"\b(?:eval\w*|valid\w*|val|test\w*|sanity|predict\w*|class\s+images|infer\w*|generat\w*)\b", re.IGNORECASE
)
_PREPARES = re.compile(
    r"\b(?:download\w*|loading|map|filter\w*|tokeniz\w*|fetching|extract\w*|scanning|cach\w*|resolving|saving|"
    r"upload\w*|running tokenizer|preprocess\w*|writing|converting|plotting)\b",
    re.IGNORECASE,
)
_EPOCH_BAR = re.compile(r"\bepochs?\b\s*$", re.IGNORECASE)


def read(text: str) -> Reading | None:
    """A bar's step, total, speed and what stands behind it; None where the line is no bar of training."""
    if "/" not in text and "it [" not in text:
        return None
    match = _TQDM.match(text) or _ULTRALYTICS.match(text) or _OPEN.match(text)
    if match is not None:
        return _tqdm(match)
    match = _KERAS.match(text)
    return None if match is None or _FETCH.search(text) else _keras(match)


def is_bar(text: str) -> bool:
    """Whether the line is a bar at all, of training or of anything else."""
    return any(pattern.match(text) for pattern in (_TQDM, _ULTRALYTICS, _OPEN, _KERAS))


def _tqdm(match: re.Match[str]) -> Reading | None:
    groups = match.groupdict()
    desc, post = groups["desc"], groups.get("post") or ""
    if _PREPARES.search(desc):
        return None
    side = _SIDE.search(desc) is not None
    found = pairs.find(post.replace(",", ", "), is_eval=side)
    values = {**_rate(groups["rate"], groups["unit"]), **found.values}
    counts, _, per = groups["unit"].partition("/")
    unit = per if counts == "s" else counts
    if groups.get("scale") or groups.get("rate_scale") or unit not in _STEPS:
        return None if not found.values else Reading(values=values, kind="metric", phase="eval" if side else "train")
    before = head(desc)
    step, steps = count(groups["n"]), count(groups.get("total"))
    if unit in {"epoch", "epochs"} or (_EPOCH_BAR.search(desc) and before.epoch is None):
        return Reading(None, None, _whole(step), steps, found.values, "metric" if found.values else "progress", "run")
    scope: Scope = "epoch" if before.epoch is not None else ""
    if found.step is not None and scope:
        scope = "epoch"
    return Reading(
        step, steps, before.epoch, before.epochs, values, "metric" if found.values else "progress", scope,
        "eval" if side else "train",
    )  # fmt: skip


def _whole(step: int | None) -> float | None:
    return None if step is None else float(step)


def _rate(rate: str, unit: str) -> dict[str, float]:
    """Steps a second, also where seconds a step are printed."""
    value = number(rate)
    counts, _, per = unit.partition("/")
    if value is None or {counts, per}.isdisjoint(_STEPS):
        return {}
    if counts == "s":
        return {"it_per_s": 1.0 / value} if value else {}
    return {"it_per_s": value}


def _keras(match: re.Match[str]) -> Reading:
    rest = match["rest"]
    found = pairs.find(rest)
    values = {**pairs.speeds(rest), **found.values}
    kind: Kind = "metric" if found.values else "progress"
    return Reading(count(match["n"]), count(match["total"]), values=values, kind=kind, scope="epoch")
