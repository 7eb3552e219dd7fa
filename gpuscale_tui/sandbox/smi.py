"""A pretended `nvidia-smi` for each machine: it prints what the server is advertised as having, or something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

DRIVERS = {"12.4": "550.54.14", "12.8": "570.86.15", "13.0": "580.65.06"}
"""A driver that serves each CUDA version."""


@dataclass(frozen=True, slots=True)
class Cards:
    """What a machine shows: full names of its cards, GB of memory of each as the market has it, CUDA of the driver."""

    names: tuple[str, ...]
    memory: int
    cuda: str

    @property
    def rows(self) -> Sequence[str]:
        """`NVIDIA GeForce RTX 4090, 24064, 570.86.15` for each card; the market cuts the last part of a GB off."""
        driver = DRIVERS.get(self.cuda, "560.35.03")
        return [f"{name}, {self.memory * 1024 + 512}, {driver}" for name in self.names]


def other_cards(cards: Cards) -> Cards:
    """What a host shows that is not what it is advertised as: a card too few, or a lesser one."""
    if len(cards.names) > 1:
        return Cards(cards.names[1:], cards.memory, cards.cuda)
    return Cards(("NVIDIA GeForce GTX 1060 6GB",), 5, cards.cuda)


def install(cards: Cards, folder: Path) -> None:
    """Put the program into a folder that is on the machine's PATH. Blocks. The machine's home is the folder above."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(_script(cards, folder))
    program.chmod(0o700)


LIVE = """
# whether anything in this machine's directories computes: the ticks of its processes since the last question
home=@HOME@ state=@STATE@
read -r now rest < /proc/uptime
now=${now%.*}
before=0 ticks_before=0 busy=0
[ -r "$state" ] && read -r before ticks_before busy < "$state"
if [ "$((now-before))" -ge 2 ]; then
  ticks=0
  while read -r a b c d e f g h link arrow where; do
    case $where in ("$home"/*) ;; (*) continue;; esac
    process=${link%/cwd} entry=
    { read -r entry < "$process/stat"; } 2>/dev/null
    [ -n "$entry" ] || continue
    set -- ${entry##*") "}
    ticks=$((ticks+${12}+${13}+${14}+${15}))
  done <<END
$(ls -l -d /proc/[0-9]*/cwd 2>/dev/null)
END
  busy=0
  [ "$((ticks-ticks_before))" -gt "$(((now-before)*5))" ] && [ "$before" -gt 0 ] && busy=1
  [ "$before" -eq 0 ] && [ "$ticks" -gt 20 ] && busy=1
  echo "$now $ticks $busy" > "$state"
fi
card=0
while [ "$card" -lt @COUNT@ ]; do
  wave=$(((now*7+card*13)%23))
  if [ "$busy" = 1 ]; then
    used=$((@TOTAL@*(61+wave/6)/100)) percent=$((77+wave)) hot=$((64+wave/3))
  else
    used=412 percent=0 hot=$((35+wave/8))
  fi
  row=
  IFS=,
  for field in ${asked#--query-gpu=}; do
    case $field in
      (utilization.gpu) word=$percent;; (memory.used) word=$used;; (memory.total) word=@TOTAL@;;
      (temperature.gpu) word=$hot;; (*) word="[N/A]";;
    esac
    row="$row${row:+, }$word"
  done
  unset IFS
  echo "$row"
  card=$((card+1))
done
"""
"""What a machine's cards do now: much while one of its jobs computes, nothing while none does. POSIX shell."""


def _script(cards: Cards, folder: Path) -> str:
    listing = "\n".join(cards.rows)
    banner = f"| NVIDIA-SMI {cards.rows[0].rsplit(', ', 1)[1]}    CUDA Version: {cards.cuda} |" if cards.rows else ""
    home, state, total = quote(str(folder.parent)), quote(str(folder / "gpu-state")), str(cards.memory * 1024 + 512)
    said = {"HOME": home, "STATE": state, "COUNT": str(len(cards.names)), "TOTAL": total}
    live = LIVE
    for name, value in said.items():
        live = live.replace(f"@{name}@", value)
    return (
        f"#!/bin/sh\nasked=$1\ncase $asked in\n--query-gpu=*utilization*){live};;\n"
        f"--query-gpu=*) cat <<'END'\n{listing}\nEND\n;;\n*) cat <<'END'\n{banner}\nEND\n;;\nesac\n"
    )
