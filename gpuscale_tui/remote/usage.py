"""What a machine does now: its GPUs, cores, memory and disk, in one short script.

Whatever it says is hostile: numbers are checked against what is possible, anything else counts as not said.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.protocol import NUMBER, ask
from gpuscale_tui.remote.scripts import START_LINE, compact

ANSWER_SEC = 20
"""Longest wait for the whole answer: what comes later is of no interest any more."""
GPU_SEC = 8
"""How long nvidia-smi may take: on a GPU that fell off its bus it hangs."""
MOST_CARDS = 64
LARGEST_MB = 1 << 40
HOTTEST_C = 150


@dataclass(frozen=True, slots=True)
class MachineUsage:
    """`gpu_percent` is the mean over the GPUs, `gpu_temp_c` the hottest, memory is all of them together (MB).

    `cpu_ticks` and `idle_ticks` count since the machine started, over all cores: their growth between two answers
    tells how busy it was (`cpu_percent_since`). `disk_free_mb` is where jobs write. None: the machine does not say.
    """

    gpu_percent: int | None = None
    gpu_mem_mb: int | None = None
    gpu_mem_total_mb: int | None = None
    gpu_temp_c: int | None = None
    cpu_ticks: int | None = None
    idle_ticks: int | None = None
    mem_mb: int | None = None
    mem_total_mb: int | None = None
    disk_free_mb: int | None = None

    def cpu_percent_since(self, before: MachineUsage | None) -> int | None:
        """How busy all cores together were since an earlier answer, in percent; None where that cannot be told."""
        if before is None or None in {self.cpu_ticks, self.idle_ticks, before.cpu_ticks, before.idle_ticks}:
            return None
        total = (self.cpu_ticks or 0) - (before.cpu_ticks or 0)
        idle = (self.idle_ticks or 0) - (before.idle_ticks or 0)
        return round(100 * (total - idle) / total) if total > 0 and 0 <= idle <= total else None


async def take(machine: Machine, base: str) -> MachineUsage:
    """Ask once; `base` is our directory there. Raises Unreachable or RemoteError."""
    controls = await ask(machine, USAGE, f"{base}\n".encode(), "asking what it does", timeout_sec=ANSWER_SEC)
    return read(controls)


def read(controls: list[tuple[str, ...]]) -> MachineUsage:
    """What the answer's lines say. Never raises: what makes no sense is left out."""
    cards: list[tuple[int | None, ...]] = []
    said: dict[str, list[int | None]] = {}
    for word, *values in controls:
        if word == "gpu" and len(values) == 4 and len(cards) < MOST_CARDS:
            limits = (100, LARGEST_MB, LARGEST_MB, HOTTEST_C)
            cards.append(tuple(_number(text, most) for text, most in zip(values, limits, strict=True)))
        elif word in {"cpu", "memory", "disk"}:
            said.setdefault(word, [_number(text, 10**18) for text in values])
    ticks, memory, disk = said.get("cpu", []), said.get("memory", []), said.get("disk", [])
    total, idle = (ticks[0], ticks[1]) if len(ticks) == 2 else (None, None)
    whole, free = (memory[0], memory[1]) if len(memory) == 2 else (None, None)
    return MachineUsage(
        _mean([card[0] for card in cards]), _sum([card[1] for card in cards]), _sum([card[2] for card in cards]),
        max((card[3] for card in cards if card[3] is not None), default=None), total, idle,
        None if whole is None or free is None or free > whole else (whole - free) // 1024,
        None if whole is None else whole // 1024,
        disk[0] // 1024 if len(disk) == 1 and disk[0] is not None else None,
    )  # fmt: skip


def _number(text: str, most: int) -> int | None:
    """What the machine says is a number up to `most`, or nothing."""
    return int(text) if NUMBER.fullmatch(text) and int(text) <= most else None


def _mean(values: list[int | None]) -> int | None:
    found = [value for value in values if value is not None]
    return round(sum(found) / len(found)) if found else None


def _sum(values: list[int | None]) -> int | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


USAGE = compact(
    f"""
{START_LINE}
umask 077
say() {{ echo "gs:$*" >&2; }}
read -r base || exit 1
cd || exit 1
if [ -r /proc/stat ]; then
  read -r word user nice system idle wait irq soft steal rest < /proc/stat
  say "cpu $((user+nice+system+idle+${{wait:-0}}+${{irq:-0}}+${{soft:-0}}+${{steal:-0}})) $((idle+${{wait:-0}}))"
fi
if [ -r /proc/meminfo ]; then
  whole= free=
  while read -r word value rest; do
    case $word in (MemTotal:) whole=$value;; (MemAvailable:) free=$value; break;; esac
  done < /proc/meminfo
  [ -z "$free" ] || say "memory $whole $free"
fi
place=.
[ -d "./$base" ] && place="./$base"
df -Pk "$place" 2>/dev/null </dev/null | {{
  while read -r device blocks used left rest; do
    case $left in (""|*[!0-9]*) continue;; esac
    say "disk $left"
    break
  done
}}
PATH="$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin"
if command -v nvidia-smi >/dev/null 2>&1; then
  bound=
  command -v timeout >/dev/null 2>&1 && bound="timeout {GPU_SEC}"
  $bound nvidia-smi --query-gpu=utilization.gpu,memory.used,memory.total,temperature.gpu \
--format=csv,noheader,nounits 2>/dev/null </dev/null | {{
    IFS=", "
    count=0
    while [ "$count" -lt {MOST_CARDS} ] && read -r busy used total hot rest; do
      say "gpu $busy $used $total $hot"
      count=$((count+1))
    done
  }}
fi
exit 0
""".replace("\\\n", "")
)
"""stdin: BASE. Says `cpu TICKS IDLE`, `memory KB FREE`, `disk FREE_KB` and `gpu BUSY USED TOTAL HOT` for each card."""
