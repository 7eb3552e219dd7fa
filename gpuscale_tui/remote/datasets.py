"""Data sets on a machine: brought once, shared by all of its jobs, read-only, kept while the machine lives.

In our directory on the machine, `data/DIGEST/` holds the files of one data set; it gets that name when it is whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from gpuscale_tui.remote.connection import Machine
from gpuscale_tui.remote.errors import TransferError
from gpuscale_tui.remote.launch import GIVEN, given_script
from gpuscale_tui.remote.protocol import AttemptRef
from gpuscale_tui.remote.scripts import compact

DIGEST = re.compile(r"[0-9a-f]{40}")
SPARE_KIB = 256 * 1024
"""What must stay free on the machine's disk beside a data set."""
ROOM_SEC = 300
GIVE_SEC = 300

# $2 the directory of all data sets, $3 the one wanted, $4 KiB that it needs, $5 those that must stay, between blanks.
# What of it has come already (parts of an earlier try have its name first) needs no room again.
ROOM = compact(
    """
echo gpuscale:begin
umask 077
cd && mkdir -p "./$2" && cd "./$2" || exit 1
if [ -d "./$3" ]; then touch "./$3"; echo have; exit 0; fi
free() { set -- $(df -Pk . 2>/dev/null | tail -n 1); echo "${4:-unknown}"; }
needed=$4 left=$(free)
for part in "$3".* ".$3"*; do
  if [ -e "$part" ]; then here=$(du -sk "./$part"); needed=$((needed-${here%%[!0-9]*})); fi
done
case $left in (*[!0-9]*) echo room unknown; exit 0;; esac
while [ "$left" -lt "$needed" ]; do
  oldest=
  for each in $(ls -tr); do
    case $each in (*[!0-9a-f]*) continue;; esac
    case " $5 " in (*" $each "*) ;; (*) oldest=$each; break;; esac
  done
  [ -n "$oldest" ] || break
  mv -f "./$oldest" ".gone.$$" && { chmod -R u+w ".gone.$$"; rm -rf ".gone.$$"; } || break
  left=$(free)
done
echo "room $left $needed"
"""
)

# $2 the attempt, $3 the directory of all data sets, then those used; stdin: the file that names them to the job.
GIVE = compact(
    f"""
echo gpuscale:begin
umask 077
cd && home=$PWD && cd "./$3" && attempt=$home/$2 || exit 1
shift 3
for each; do
  chmod -R a-w "./$each" || exit 1
done
cat > "$attempt/{GIVEN}.new" && mv -f "$attempt/{GIVEN}.new" "$attempt/{GIVEN}"
"""
)


def data_directory(base: str) -> str:
    """Where a machine keeps data sets, relative to its home."""
    return f"{base}/data"


async def make_room(machine: Machine, base: str, digest: str, size: int, *, beside: Collection[str] = ()) -> bool:
    """Whether the data set `digest` is on the machine; if not there is room for its `size` bytes afterwards.

    For that, data sets that were not used for longest go, but for those in `beside`. Raises TransferError where the
    disk is too small, Unreachable.
    """
    _check(digest, *beside)
    words = (data_directory(base), digest, str((size >> 10) + SPARE_KIB), " ".join(beside))
    done = await machine.run_command(
        machine.command(ROOM, *words), stdin=b"", timeout_sec=ROOM_SEC, label="looking for a data set"
    )
    said = done.stdout.decode("ascii", "replace").split()
    if done.exit_status == 0 and said == ["have"]:
        return True
    if done.exit_status != 0 or said[:1] != ["room"]:
        raise TransferError(f"{machine.where}: no data set could be brought there (is its disk full?)")
    if len(said) == 3 and all(word.isdigit() and len(word) < 19 for word in said[1:]) and int(said[1]) < int(said[2]):
        free, needed = (int(word) * 1024 / 1e9 for word in said[1:])
        raise TransferError(f"{machine.where}: a data set of {needed:.1f} GB has no room there: {free:.1f} GB are free")
    return False


async def give(machine: Machine, ref: AttemptRef, shared: Mapping[str, str]) -> None:
    """Let an attempt's command find data sets: `shared` has, by variable, paths below `data_directory`.

    They are made read-only. Raises TransferError where one is not there, Unreachable.
    """
    digests = sorted({path.split("/", 1)[0] for path in shared.values()})
    _check(*digests)
    script = given_script({name: f"data/{path}" for name, path in shared.items()})
    done = await machine.run_command(
        machine.command(GIVE, ref.directory, data_directory(ref.base), *digests), stdin=script, timeout_sec=GIVE_SEC,
        label="giving a job its data",
    )  # fmt: skip
    if done.exit_status != 0:
        raise TransferError(f"{machine.where}: a data set is not there any more, or the disk is full")


def _check(*digests: str) -> None:
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} names no data set")
