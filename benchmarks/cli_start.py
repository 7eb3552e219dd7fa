"""How long a verb takes as a whole process, beside the bare interpreter; also on a store after a busy year."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import store
from benchmarks.common import Options, Outcome, clean_environ, in_turns, median, seconds
from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.store import jobs
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.home import Home

RUNS = 21
RUNS_LARGE = 9
FEW = 100
PEER = "python -c pass"


def rows(options: Options) -> Iterator[Outcome]:
    """Medians of whole processes, taken in turns with `python -c pass`."""
    with tempfile.TemporaryDirectory(prefix="gpuscale-bench-") as place:
        home = Home(Path(place) / "few")
        home.ensure()
        with contextlib.closing(Database(home.database)) as db:
            db.write(jobs.insert, [JobSpec(image="none", command="true")] * FEW, store.T0)
        verbs = [["--version"], ["status"], ["queue"]]
        bare, *taken = in_turns(options.runs(RUNS), [process(["-c", "pass"]), *(verb(each, home) for each in verbs)])
        for words, values in zip(verbs, taken, strict=True):
            above = median(value - beside for value, beside in zip(values, bare, strict=True))
            yield (f"gpuscale {words[0]}, over the interpreter", above, "s", PEER, median(bare))
        large = Home(Path(place) / "large")
        large.ensure()
        store.fill(large.database)
        verbs = verbs[1:]
        bare, *taken = in_turns(
            options.runs(RUNS_LARGE), [process(["-c", "pass"]), *(verb(each, large) for each in verbs)]
        )
        for words, values in zip(verbs, taken, strict=True):
            yield (f"gpuscale {words[0]} after a busy year, whole process", median(values), "s", PEER, median(bare))


def verb(words: list[str], home: Home) -> Callable[[], float]:
    """Runs a verb on a home."""
    return process(["-m", "gpuscale_tui", *words], GPUSCALE_HOME=str(home.path), GPUSCALE_CONFIG="/dev/null")


def process(words: list[str], **environ: str) -> Callable[[], float]:
    """Runs this Python with these words; the first time is not counted, it compiles modules."""
    command = [sys.executable, *words]
    whole = {**clean_environ(), **environ}

    def run() -> None:
        subprocess.run(command, env=whole, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    run()
    return lambda: seconds(run)
