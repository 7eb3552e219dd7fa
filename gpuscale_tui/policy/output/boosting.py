"""XGBoost, LightGBM and CatBoost: a round in brackets or before a colon, then metrics of each data set."""

from __future__ import annotations

import re

from gpuscale_tui.policy.output.reading import NUMBER, Reading, count, number, printed_name

_ROUND = re.compile(r"\s*\[(?P<n>\d+)\]\s+(?=\S*[:'])")
_METRIC = re.compile(rf"(?P<key>[A-Za-z_][\w@.-]*(?:'s [\w@.-]+)?)\s*:\s*(?P<value>{NUMBER})(?:\+{NUMBER})?(?=\s|$)")
_CATBOOST = re.compile(rf"\s*(?P<n>\d+):\s+learn:\s*(?P<learn>{NUMBER})(?:\s+test:\s*(?P<test>{NUMBER}))?.*\btotal:")


def read(text: str) -> Reading | None:
    """The round and its metrics; None for any other line."""
    match = _ROUND.match(text)
    if match is not None:
        values = {_name(key): float(value.replace(",", "")) for key, value, *_ in _METRIC.findall(text[match.end() :])}
        values.pop("", None)
        return Reading(count(match["n"]), values=values, scope="run") if values else None
    match = _CATBOOST.match(text)
    if match is None:
        return None
    found = {"loss": number(match["learn"]), "val_loss": number(match["test"]) if match["test"] else None}
    known = {name: value for name, value in found.items() if value is not None}
    return Reading(count(match["n"]), values=known, scope="run")


def _name(key: str) -> str:
    """`train-rmse`, `valid_1's l1` and `training's l2` as `train_rmse`, `valid_1_l1`, `train_l2`."""
    return (printed_name(key.replace("training's", "train's")) or "").replace("-", "_")
