"""What one line says, and the words that all families share: clean text, numbers, names of metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

LONGEST_LINE = 2_000
"""Characters of a line that are looked at; trainers print no longer ones, dumps do."""
MOST_VALUES = 32
"""Values taken from one line."""
LONGEST_NAME = 40
LARGEST_COUNT = 10**15

Kind = Literal["metric", "progress", "epoch"]
Scope = Literal["run", "epoch", ""]
Phase = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one line says; None where it does not.

    `step` of `steps` and `epoch` of `epochs` are as printed. `values` are by canonical name (`loss`, `val_loss`, `lr`,
    `accuracy`, `val_accuracy`, `it_per_s` ...), others as printed; they may be nan or infinite. `kind`: `metric` has
    values that training is judged by, `epoch` only begins an epoch, `progress` is the rest. `scope` is what `steps`
    counts: the whole `run`, one `epoch`, or unknown. In the phase `eval` the step is none of the training's.
    """

    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    kind: Kind = "metric"
    scope: Scope = ""
    phase: Phase = "train"


_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_BLANKS = re.compile(r"[ \t]{9,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def plain(line: str) -> str:
    """The line as a person sees it: without colours, of what carriage returns overwrote only the last."""
    text = line[: 4 * LONGEST_LINE].rstrip("\r\n")
    if "\r" in text:
        text = next((part for part in reversed(text.split("\r")) if part.strip()), "")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return _CONTROL.sub(" ", _BLANKS.sub("        ", text))[:LONGEST_LINE]


NUMBER = (
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
    r"|[-+]?(?:nan|NaN|NAN|inf|Inf|INF|[Ii]nfinity)\b"
)
"""A number as trainers print it; commas only between thousands."""


def number(text: str) -> float | None:
    """A printed number; nan and infinite ones are numbers. None for anything else."""
    try:
        return float(text.replace(",", "") if "," in text else text)
    except ValueError:
        return None


def count(text: str | None) -> int | None:
    """A printed whole number that is not absurd; None for anything else."""
    if not text:
        return None
    value = number(text.strip())
    if value is None or not math.isfinite(value) or value != int(value) or not 0 <= value <= LARGEST_COUNT:
        return None
    return int(value)


# Names of metrics.


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EVAL = _words("val valid validation eval evaluation test testing dev ")
_QUALIFIERS = _words(
    "train training trn average avg mean running current cur step iter batch total epoch overall model final "
    "smoothed raw lm main the 's s set "
)
"""Words around the name of a metric that do not change what it is."""
_BLOCKED = _words(
    "scale scaler scaling weight weights coef coeff fn func function type threshold patience best min minimum "
    "max maximum target previous prev lowest highest initial time seconds sec ms id name dir path file every "
    "interval freq frequency delta tolerance factor decay warmup steps epochs iters num number count size "
    "limit port seed rank worker workers reduction mode log "
)
"""With one of these it is a setting, a record or a time, not the metric itself."""
_BASES = {
    "loss": "loss", "losses": "loss", "trl": "loss", "tel": "val_loss", "objective": "loss", "nll loss": "nll_loss",
    "acc": "accuracy", "accuracy": "accuracy", "acc 1": "accuracy", "acc1": "accuracy", "top1": "accuracy",
    "top 1": "accuracy", "top1 acc": "accuracy", "top 1 acc": "accuracy", "prec 1": "accuracy", "prec1": "accuracy",
    "acc top1": "accuracy", "accuracy top1": "accuracy", "categorical accuracy": "accuracy",
    "sparse categorical accuracy": "accuracy", "binary accuracy": "accuracy", "top1 accuracy": "accuracy",
    "lr": "lr", "learning rate": "lr", "learningrate": "lr", "lr 0": "lr", "lr pg0": "lr", "lr 1": "lr",
    "ppl": "perplexity", "perplexity": "perplexity",
    "grad norm": "grad_norm", "gnorm": "grad_norm", "gradnorm": "grad_norm", "gradient norm": "grad_norm",
    "norm": "grad_norm", "mfu": "mfu",
}  # fmt: skip
_STEMS = _words(
    "loss acc accuracy auc f1 precision recall iou miou map map50 bleu rouge rouge1 rougel wer cer psnr ssim "
    "fid dice reward rewards kl entropy logloss mlogloss merror rmse mae mse mape l1 l2 r2 error err bpb bpc "
    "bits perplexity ppl ndcg mrr margin margins accuracies chosen rejected mcc ap ap50 score corr "
)
"""A name with one of these words is kept as printed."""
JUDGING = frozenset({"loss", "val_loss", "accuracy", "val_accuracy", "perplexity", "val_perplexity"})
"""Metrics that need no step beside them to be believed."""
_PROGRESS = {
    "step": "step", "global step": "step", "globalstep": "step", "iter": "step", "iteration": "step", "it": "step",
    "num updates": "step", "update": "step", "updates": "step", "train step": "step", "training step": "step",
    "train iter": "step", "optimizer step": "step", "batch": "step", "i": "step", "s": "step", "itr": "step",
    "train batch": "step", "batch id": "step", "round": "step", "global steps": "step",
    "epoch": "epoch", "train epoch": "epoch", "training epoch": "epoch", "ep": "epoch", "epoch train": "epoch",
    "num epochs": "epochs", "total optimization steps": "steps", "total training steps": "steps",
}  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[a-z]+[0-9]*|[0-9]+")


@lru_cache(maxsize=4096)
def words_of(key: str) -> tuple[str, ...]:
    """`trainLoss` or `train/loss_avg` as small words."""
    return tuple(_WORDS.findall(_CAMEL.sub(" ", key).lower()))


@lru_cache(maxsize=4096)
def progress_name(key: str) -> str | None:
    """`step`, `steps`, `epoch` or `epochs` where the key means that, else None."""
    return _PROGRESS.get(" ".join(words_of(key)))


@lru_cache(maxsize=4096)
def metric_name(key: str, is_eval: bool = False, loose: bool = False) -> str | None:
    """The canonical name of a metric, the printed one where it is another metric's, None where it is none.

    `is_eval`: the line is about data that is not trained on. `loose`: any name will do, since the line is data.
    """
    words = words_of(key)
    evaluates = is_eval or not _EVAL.isdisjoint(words)
    rest = [word for word in words if word not in _EVAL and word not in _QUALIFIERS]
    name = _BASES.get(" ".join(rest)) or _BASES.get(" ".join(words))
    if name is not None:
        return f"val_{name}" if evaluates and not name.startswith("val_") and name not in {"lr", "mfu"} else name
    if not words or (not loose and not _BLOCKED.isdisjoint(words)):
        return None
    if loose or (not _STEMS.isdisjoint(words) and " " not in key.strip()):
        return printed_name(key)
    return None


_ODD = re.compile(r"[^A-Za-z0-9_./@-]+")


def printed_name(key: str) -> str | None:
    """A name as printed, cut to what may be stored and shown."""
    return _ODD.sub("_", key.strip().replace("'s ", "_")).strip("_./-")[:LONGEST_NAME] or None
