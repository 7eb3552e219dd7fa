"""A job that counts its own work in a file that survives its machine. A program; standard library only.

Environment: `CRASH_DIR` (where the counts are kept), `CRASH_NAME` (which submission), `CRASH_STEPS`, `CRASH_EVERY`
(steps between two checkpoints, 0: none), `GPUSCALE_PARAM_PART` and what the run protocol gives.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

STEP_SEC = 0.03


def line(name: str, step: int) -> str:
    """What one step prints."""
    return f"{name} step {step} " + "x" * (step % 50)


def note(path: Path, text: str) -> None:
    """Append a line in one write: two copies of a job never mix theirs."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


def save(directory: Path, step: int) -> None:
    """A checkpoint: the next step to be done, replaced as a whole."""
    draft = directory / "next.new"
    draft.write_text(str(step))
    draft.replace(directory / "next")


def first_step() -> int:
    """Where to begin: at the checkpoint that was put back, if there is one."""
    resumed = os.environ.get("GPUSCALE_RESUME_FROM")
    if not resumed:
        return 0
    return int((Path(resumed) / "next").read_text())


def main() -> None:
    """Take the lock, note the start, work step by step, note the end."""
    name = f"{os.environ['CRASH_NAME']}-{os.environ['GPUSCALE_PARAM_PART']}"
    steps, every, attempt = (
        int(os.environ["CRASH_STEPS"]),
        int(os.environ["CRASH_EVERY"]),
        os.environ["GPUSCALE_ATTEMPT"],
    )
    counts = Path(os.environ["CRASH_DIR"]) / name
    with (counts.with_suffix(".lock")).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(counts, f"twin {attempt} 0")
            fcntl.flock(lock, fcntl.LOCK_EX)
        first = first_step()
        note(counts, f"start {attempt} {first}")
        for step in range(first, steps):
            sys.stdout.write(line(name, step) + "\n")
            sys.stdout.flush()
            note(counts, f"step {attempt} {step}")
            if every and (step + 1) % every == 0:
                save(Path(os.environ["CHECKPOINT_DIR"]), step + 1)
            time.sleep(STEP_SEC)
        note(counts, f"end {attempt} {steps}")


if __name__ == "__main__":
    main()
