"""`doctor`: is everything in order, and what to do where it is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gpuscale_tui.cli.common import config_option, home_option, json_option, now_ms, verb
from gpuscale_tui.cli.errors import DONE, FAILED
from gpuscale_tui.cli.formatting import clean, plural, print_json, print_lines
from gpuscale_tui.store.home import Home


@verb(example="gpuscale doctor\ngpuscale doctor --json")
@json_option
@home_option
@config_option
def doctor(as_json: bool, home: Home, config: Path | None) -> int:
    """Check that all is in order, and say what to do.

    Versions, files, settings, API keys, hosts, clock, disk and terminal. The exit code is 1 when something must be
    mended. This verb uses the network, for some twenty seconds at most.
    """
    from gpuscale_tui.engine.doctor import Check, examine

    checks: list[Check] = []
    for check in examine(home, config, os.environ, now_ms()):
        checks.append(check)
        if not as_json:
            print_lines([f"{check.state:<5} {check.name:<10} {clean(check.found)}"])
            if check.advice:
                print_lines([f"{'':<16} -> {clean(check.advice)}"])
            sys.stdout.flush()
    if as_json:
        print_json([{"name": c.name, "state": c.state, "found": c.found, "advice": c.advice} for c in checks])
    failed = sum(check.state == "fail" for check in checks)
    if failed and not as_json:
        print_lines([f"{plural(failed, 'thing')} to mend"])
    return FAILED if failed else DONE
