"""Output with everything in it that a log can have, for the tests of the Logs screen."""

from __future__ import annotations

from contextlib import closing

from gpuscale_tui.store import logs
from gpuscale_tui.store.home import Home

JOB = 11
"""A running job of the busy home, on its first attempt."""


def append(home: Home, data: bytes, *, job: int = JOB, attempt: int = 1, at: int | None = None) -> None:
    """More output of a job."""
    with closing(logs.connect_logs(home.logs)) as connection:
        logs.append(connection, job, attempt, logs.size(connection, job, attempt), data, at=at)


def rich_output(home: Home, now: int) -> None:
    """Warnings, errors, colours, progress bars, long lines and three epochs, as they came over ten minutes."""
    start = now - 600_000
    append(home, b"UserWarning: the tokenizer is slow; use the fast one\n", at=start)
    append(home, b"\x1b[32mINFO\x1b[0m data ready \x1b]0;owned\x07in \x1b[1m12.3 s\x1b[0m\n", at=start + 5_000)
    append(home, b"loading:  10%|#\rloading:  60%|######\rloading: 100%|##########\n", at=start + 9_000)
    append(home, b"config: " + b", ".join(b"option_%d=%d" % (n, n * n) for n in range(40)) + b"\n", at=start + 12_000)
    for epoch in range(1, 4):
        at = start + epoch * 150_000
        append(home, b"Epoch %d/3\n" % epoch, at=at)
        for step in range(1, 26):
            append(home, b"step %4d  loss %.4f  38.1 it/s\n" % (epoch * 25 + step, 3 / (epoch * 25 + step)),
                   at=at + step * 4_000)  # fmt: skip
        append(home, b"\x1b[33mWARNING\x1b[0m gradient norm 12.1 was cut\n", at=at + 110_000)
    append(home, b"Traceback (most recent call last):\n", at=now - 6_000)
    append(home, b'  File "train.py", line 88, in <module>\n', at=now - 6_000)
    append(home, b"RuntimeError: \x1b[31mCUDA out of memory\x1b[0m\n", at=now - 6_000)
    append(home, b"restarting from step 100 \xf0\x9f\x94\xa5 \xe2\x80\xaegnp.exe\n", at=now - 3_000)
