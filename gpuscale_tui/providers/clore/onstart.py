"""The start script of an order: it starts no work, and ends a machine that its engine never came to.

An order may begin to run when nobody is there any more: the engine died between its order and its first call, or a
spot bid won at last. Once the engine has called, its lease (`remote.lease`) takes over. The script runs again at each
restart of the container (Clore API reference, section 5.3), so it must be harmless to repeat.
"""

from __future__ import annotations

import re
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LONGEST_LOOK_SEC = 60
NOTHING = "#!/bin/sh\n# Nothing to start: the work arrives over SSH.\nexit 0\n"
_BOOT = re.compile(r"[0-9a-f-]{36}")


def start_script(seconds: int) -> str:
    """A script that shuts the machine down when no engine came there within so many seconds; 0 is for ever.

    An engine leaves `.gpuscale` in the home of root, which need not be this script's own. A machine on this computer's
    own kernel is left alone but for its `~/.poweroff`, should it have one.
    """
    if seconds <= 0:
        return NOTHING
    tick = max(1, min(LONGEST_LOOK_SEC, seconds // 12))
    return f"""#!/bin/sh
# The work arrives over SSH. Where nobody calls for {seconds} s there is nobody any more: the machine ends itself.
cd "${{HOME:-/root}}" || exit 0
boot=-
[ -r {BOOT_ID} ] && read -r boot < {BOOT_ID}
called() {{
  [ -e .gpuscale ] && return 0
  [ "$boot" != "{_own_boot()}" ] && {{ [ -e ~root/.gpuscale ] || [ -e /root/.gpuscale ]; }}
}}
(
  trap '' HUP
  waited=0
  while [ "$waited" -lt {seconds} ]; do
    called && exit 0
    sleep {tick} || exit 0
    waited=$((waited+{tick}))
  done
  called && exit 0
  if [ -x ./.poweroff ]; then exec ./.poweroff; fi
  [ "$boot" = "{_own_boot()}" ] && exit 0
  poweroff
  sleep 5
  kill -TERM 1
  sleep 10
  kill -KILL -1
) </dev/null >/dev/null 2>&1 &
exit 0
"""


def _own_boot() -> str:
    try:
        found = BOOT_ID.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return "-"
    return found if _BOOT.fullmatch(found) else "-"
