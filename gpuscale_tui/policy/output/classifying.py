"""What kind of line it is, for those who look through a log: cheap, and wrong rather quietly than loudly."""

from __future__ import annotations

import re
from typing import Literal

from gpuscale_tui.policy.output.parser import OutputParser
from gpuscale_tui.policy.output.reading import plain

LineKind = Literal["error", "warning", "metric", "epoch", ""]

_TROUBLE = re.compile(
    r"err|exc|fatal|fail|warn|trace|memory|kill|fault|dump|crit|denied|not found|no space|deprec|abort|interrupt",
    re.IGNORECASE,
)
_ERROR = re.compile(
    r"^\s*Traceback \(most recent call|"
    r"^\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit)\b(?::|\s*$)|"
    r"(?:^|[\s\[|:])(?:ERROR|FATAL|CRITICAL|PANIC)(?:[\]\s:|]|$)|"
    r"^\s*(?:\S+: )?(?:fatal )?error\b\s*[:\[(]|^\s*fatal\b:|"
    r"out of memory|Segmentation fault|core dumped|\bKilled\b\s*$|\bAborted\b|No space left on device|"
    r"Permission denied|"
    r"command not found|No such file or directory|illegal memory access|device-side assert",
)
_WARNING = re.compile(
    r"(?:^|[\s\[|:])WARN(?:ING)?(?:[\]\s:|]|$)|\b\w*Warning\b:|^\s*warning\b|\bdeprecated\b|warnings\.warn"
)


def classify(line: str) -> LineKind:
    """`error`, `warning`, `epoch` (an epoch begins), `metric` (it says how far training is), or nothing of that."""
    text = plain(line)
    if _TROUBLE.search(text):
        if _ERROR.search(text):
            return "error"
        if _WARNING.search(text):
            return "warning"
    reading = OutputParser().feed(text)
    if reading is None:
        return ""
    return "epoch" if reading.kind == "epoch" else "metric"
