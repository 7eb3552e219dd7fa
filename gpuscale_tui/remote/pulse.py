"""A sign of life of a job that says nothing: what it has computed, and whether its GPUs are at work."""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.protocol import NUMBER, AttemptRef, ask
from gpuscale_tui.remote.scripts import COMMON, START_LINE, STATE, compact

TICK_MS = 10
"""A tick of /proc: USER_HZ is 100 on every Linux that a user sees (proc(5), time(7))."""
GPU_SEC = 10
"""How long nvidia-smi may take: on a GPU that fell off its bus it hangs."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """`cpu_ms`: CPU time of the job's processes so far, those that ended included, as far as their parents live.
    `gpu_percent`: how busy the busiest GPU of the machine was just now. None: the machine does not say."""

    cpu_ms: int | None
    gpu_percent: int | None


async def take(machine: Machine, ref: AttemptRef) -> Pulse:
    """Ask once. Raises Unreachable or RemoteError."""
    controls = await ask(machine, PULSE, ref.line(), "asking whether the job works")
    for words in controls:
        match words:
            case ["pulse", ticks, gpu]:
                spent = _number(ticks, 10**15)
                return Pulse(None if spent is None else spent * TICK_MS, _number(gpu, 100))
            case _:
                continue
    raise RemoteError(f"{machine.where}: it did not say whether the job works")


def _number(text: str, most: int) -> int | None:
    """What the machine says is a number up to `most`, or nothing."""
    return int(text) if NUMBER.fullmatch(text) and int(text) <= most else None


PULSE = compact(
    f"""
{START_LINE}
{COMMON}
{STATE}
# sets spent to the ticks of process $1 and of its ended children when it belongs to group or session $2
count() {{
  entry=
  while read -r part; do entry="$entry $part"; done 2>/dev/null < "/proc/$1/stat"
  mine=$2
  [ -n "$entry" ] || return 1
  set -- ${{entry##*") "}}
  [ "$3" = "$mine" ] || [ "$4" = "$mine" ] || return 1
  spent=$((${{12}}+${{13}}+${{14}}+${{15}}))
}}
read -r base name || exit 1
ticks=- gpu=-
if enter "$base" "$name" && known && [ -n "$job" ] && [ -r /proc/self/stat ]; then
  ticks=0
  for entries in /proc/[0-9]*; do
    count "${{entries#/proc/}}" "$job" && ticks=$((ticks+spent))
  done
fi
if command -v nvidia-smi >/dev/null 2>&1; then
  bound=
  command -v timeout >/dev/null 2>&1 && bound="timeout {GPU_SEC}"
  gpu=$($bound nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits 2>/dev/null </dev/null | {{
    busiest=-
    while read -r used rest; do
      case $used in (""|*[!0-9]*) continue;; esac
      if [ "$busiest" = - ] || [ "$used" -gt "$busiest" ]; then busiest=$used; fi
    done
    echo "$busiest"
  }})
fi
say "pulse $ticks $gpu"
exit 0
"""
)
"""stdin: `BASE NAME`. Says `pulse TICKS GPU`, where `-` stands for what is not known."""
