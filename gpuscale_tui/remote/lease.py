"""The lease on a machine: when nobody has renewed it for so long, the machine ends our jobs and, if rented, itself.

A marketplace bills for as long as an order runs, whether or not the bastion that ordered it is still there. Hence a
small watchdog on the machine counts the seconds since the engine last called. It counts seconds of its own: the
clocks of two machines differ. What it does at the end is what `stop` does: TERM, grace, KILL, an exit record, so that
a bastion that comes back finds an attempt that has ended, with its checkpoints.

In our directory on the machine, `.lease/` holds:

    term        "SECONDS ENDING GRACE"; 0 seconds is no lease, and the watchdog ends
    renewed     mark: the engine called; the watchdog removes it and begins to count anew
    keeper      "BOOT PID BORN" of the watchdog; one that does not find itself there ends
    over        mark: the lease was over since the engine last called
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gpuscale_tui.remote import scripts
from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import RemoteError
from gpuscale_tui.remote.protocol import BASE, ask
from gpuscale_tui.remote.scripts import COMMON, START_LINE, compact

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LONGEST_LOOK_SEC = 60
"""How often the watchdog looks, at the least; a twelfth of the lease when that is shorter."""


class Ending(Enum):
    """What becomes of the machine itself once its jobs are stopped.

    `NOTHING`: it stays as it is. `HOOK`: the program `~/.poweroff` is run if the machine has one. `MACHINE`: without
    one the machine is shut down by all other means. Only a machine that was rented, and that is certainly not this
    computer, may be given `MACHINE`: it ends every process there. One that runs on the same kernel as we do (its boot
    id is ours) takes `MACHINE` for `HOOK`, whatever its address says.
    """

    NOTHING = "nothing"
    HOOK = "hook"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Lease:
    """How long the machine works on without us. `seconds` 0: for ever. `grace_sec` lies between TERM and KILL."""

    seconds: int
    ending: Ending
    grace_sec: int

    def line(self, base: str, our_boot: str) -> bytes:
        """The stdin of the script. `our_boot` is the boot id of this computer."""
        if not BASE.fullmatch(base):
            raise ValueError(f"base {base!r} is no directory of ours")
        return f"{base} {self.seconds} {self.ending.value} {self.grace_sec} {our_boot}\n".encode("ascii")


def own_boot() -> str:
    """The boot id of this computer; `-` where it has none to show."""
    try:
        words = BOOT_ID.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return "-"
    return words[0] if len(words) == 1 and words[0].isascii() else "-"


async def renew(machine: Machine, base: str, lease: Lease) -> bool:
    """Tell the machine that we are there; it counts anew, by these terms. Harmless to repeat.

    True when it had ended our jobs since we last called: its lease was over. Raises Unreachable or RemoteError.
    """
    controls = await ask(machine, RENEW, lease.line(base, own_boot()), "renewing the lease", KEEPER, scripts.STOP)
    if ("leased",) not in controls:
        raise RemoteError(f"{machine.where}: the lease could not be renewed (is its disk full?)")
    return ("over",) in controls


RENEW = compact(
    f"""
{START_LINE}
{COMMON}
read -r base seconds ending grace ours || exit 1
now=- boot= keeper= kborn=
[ -r /proc/sys/kernel/random/boot_id ] && read -r now < /proc/sys/kernel/random/boot_id
if [ "$ending" = machine ] && [ "$now" = "$ours" ]; then ending=hook; fi
cd && mkdir -p "./$base/.lease" && cd "./$base/.lease" || exit 1
echo renewed > renewed || exit 1
echo "$seconds $ending $grace" > "term.$$" && mv -f "term.$$" term || exit 1
if [ -e over ]; then rm -f over; say over; fi
if [ "$seconds" = 0 ]; then say leased; exit 0; fi
[ -e keeper ] && read -r boot keeper kborn < keeper
if [ "$boot" = "$now" ] && [ -n "$kborn" ] && same "$keeper" "$kborn"; then say leased; exit 0; fi
detach=
IFS=:
for place in $PATH; do
  if [ -x "$place/setsid" ]; then detach=$place/setsid; break; fi
done
unset IFS
[ -n "$detach" ] || set -m 2>/dev/null
${{detach:+"$detach"}} "$1" -c "$2" gpuscale-lease "$1" "$3" "$base" </dev/null >/dev/null 2>&1 &
say leased
exit 0
"""
)
"""$1 the shell, $2 KEEPER, $3 STOP of `scripts`; stdin: `BASE SECONDS ENDING GRACE OURS`, the last our own boot id.
Says `over` when an earlier lease has ended jobs, then `leased`. A machine without setsid needs job control, as for the
start of an attempt."""

KEEPER = compact(
    f"""
{COMMON}
# a connection that ends, or a service manager that tidies up behind one, is no reason to leave
trap : HUP PIPE
cd && cd "./$3/.lease" || exit 1
boot=- mine=-
[ -r /proc/sys/kernel/random/boot_id ] && read -r boot < /proc/sys/kernel/random/boot_id
look "$$" && mine=$born
echo "$boot $$ $mine" > "keeper.$$" && mv -f "keeper.$$" keeper || exit 1
silence=0
# counts until nobody has called for the term; leaves when there is no lease any more, or another watchdog
wait_out() {{
  while :; do
    read -r seconds ending grace < term || exit 0
    [ "$seconds" -gt 0 ] || exit 0
    read -r boot keeper rest < keeper || exit 0
    [ "$keeper" = "$$" ] || exit 0
    if [ -e renewed ]; then rm -f renewed; silence=0; fi
    [ "$silence" -lt "$seconds" ] || return 0
    tick=$((seconds/12))
    if [ "$tick" -lt 1 ]; then tick=1; elif [ "$tick" -gt {LONGEST_LOOK_SEC} ]; then tick={LONGEST_LOOK_SEC}; fi
    sleep "$tick" || exit 1
    silence=$((silence+tick))
  done
}}
# stops every attempt that was started and has not ended, all at the same time
stop_all() {{
  echo over > over
  cd ..
  for name in *; do
    if [ -e "$name/claim" ]; then :; else continue; fi
    if [ -e "$name/exit" ]; then continue; fi
    echo lapsed > "$name/lapsed"
    echo "$1 $name $grace" | "$2" -c "$3" gpuscale-stop &
  done
  wait
  cd .lease
}}
while :; do
  wait_out
  stop_all "$3" "$1" "$2"
  [ -e renewed ] || break
done
[ "$ending" = nothing ] && exit 0
cd
if [ -x ./.poweroff ]; then exec ./.poweroff; fi
[ "$ending" = machine ] || exit 0
poweroff
sleep 5
# the container ends with its first process; one that ignores TERM ends when all that it waits for is gone
kill -TERM 1
sleep 10
kill -KILL -1
"""
)
"""$1 the shell, $2 STOP of `scripts`, $3 our directory. Detached; ends by itself when its directory is gone."""
