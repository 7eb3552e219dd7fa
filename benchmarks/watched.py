"""An engine whose event loop tells how late it wakes: `python -m benchmarks.watched HOME CONFIG`, for `lag`.

For each line on stdin it prints the lags since the last one as a JSON list of seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from benchmarks.lag import nap
from gpuscale_tui.config import load
from gpuscale_tui.engine import engine as engine_module
from gpuscale_tui.engine.context import Context
from gpuscale_tui.store.home import Home


def main(home: str, config: str) -> None:
    """Run until stdin ends."""
    late: list[float] = []
    work = engine_module.work

    async def watch() -> None:
        while True:
            late.append(await nap())

    async def watched(context: Context, *, exit_when_idle: bool) -> None:
        watching = asyncio.create_task(watch())
        try:
            await work(context, exit_when_idle=exit_when_idle)
        finally:
            watching.cancel()

    engine_module.work = watched
    settings = load(config, os.environ).settings
    with engine_module.Engine(Home(Path(home)), settings, mode="bench", environ=os.environ):
        for _ in sys.stdin:
            print(json.dumps(late[:]), flush=True)
            late.clear()


if __name__ == "__main__":
    main(*sys.argv[1:])
