#!/usr/bin/env python3
"""Train a small character language model on the source of Python's own library. Nothing but Python is needed.

A multilayer perceptron sees the last few characters and predicts the next one; minibatch gradient descent with
momentum trains it. Everything is plain Python (3.9 or newer): no arrays, no GPU, no packages, so that it runs on any
machine, yet the loss that it prints is a real one.

    python3 train.py --lr 3e-2 --batch-size 16 --steps 2800

Checkpoints go to $CHECKPOINT_DIR (./checkpoints by default), written under another name and then renamed. It goes on
from the newest one in $CHECKPOINT_DIR or $GPUSCALE_RESUME_FROM, exactly as if it had never stopped: every step draws
its batch from its own random numbers. SIGTERM makes it save and exit with status 143.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import string
import sys
import sysconfig
import time
from operator import mul
from pathlib import Path
from typing import Any

Vector = list[float]
Matrix = list[Vector]
Params = dict[str, Matrix]

SYMBOLS = string.ascii_lowercase + " \n0_().,:='\"#[]-+*/?"
WIDTH, HIDDEN, CONTEXT = 6, 32, 5
MOMENTUM, LARGEST_STEP = 0.9, 1.0
TEXT_CHARACTERS, HELD_OUT = 240_000, 12_000
EPOCH_WINDOWS = 8_000
KEEP = 3
FORMAT = 1


def read_text() -> tuple[str, int]:
    """The first quarter million characters of the library's modules, in order of name, and how many files that took."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py")) or [Path(__file__)]
    text, used = "", 0
    for file in files:
        text += file.read_text(encoding="utf-8", errors="replace")
        used += 1
        if len(text) >= TEXT_CHARACTERS:
            break
    while len(text) < 4 * HELD_OUT:
        text += text
    return text[:TEXT_CHARACTERS], used


def encode(text: str) -> list[int]:
    """Characters as numbers: capitals as small letters, digits as 0, what is left as a question mark."""
    table = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    table.update(dict.fromkeys(string.digits, table["0"]))
    other = table["?"]
    return [table.get(character, other) for character in text.lower()]


def dot(left: Vector, right: Vector) -> float:
    """The sum of products: nearly all of the time is spent here."""
    return sum(map(mul, left, right), 0.0)


def plus(row: Vector, factor: float, other: Vector) -> Vector:
    """row + factor * other."""
    return [a + factor * b for a, b in zip(row, other)]  # noqa: B905 - Python 3.9 has no strict


def transposed(matrix: Matrix) -> Matrix:
    """Rows as columns."""
    return [list(column) for column in zip(*matrix)]  # noqa: B905


def new_params(seed: int) -> Params:
    """Random weights, the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - weights, not secrets

    def matrix(rows: int, columns: int, scale: float) -> Matrix:
        return [[rng.gauss(0.0, scale) for _ in range(columns)] for _ in range(rows)]

    inputs = WIDTH * CONTEXT
    return {
        "embedding": matrix(len(SYMBOLS), WIDTH, 0.5),
        "hidden": matrix(HIDDEN, inputs, inputs**-0.5),
        "hidden_bias": [[0.0] * HIDDEN],
        "output": matrix(len(SYMBOLS), HIDDEN, 0.3 * HIDDEN**-0.5),
        "output_bias": [[0.0] * len(SYMBOLS)],
    }


def zeros_like(params: Params) -> Params:
    """Zeros in the same shape."""
    return {name: [[0.0] * len(row) for row in matrix] for name, matrix in params.items()}


def forward(params: Params, window: list[int]) -> tuple[Vector, Vector, Vector]:
    """Inputs, hidden activations and the probabilities of the next character."""
    embedding = params["embedding"]
    inputs = [value for symbol in window for value in embedding[symbol]]
    bias, output_bias = params["hidden_bias"][0], params["output_bias"][0]
    hidden = [math.tanh(dot(row, inputs) + bias[i]) for i, row in enumerate(params["hidden"])]
    scores = [dot(row, hidden) + output_bias[i] for i, row in enumerate(params["output"])]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = sum(powers)
    return inputs, hidden, [power / total for power in powers]


def add_gradient(grad: Params, params: Params, columns: tuple[Matrix, Matrix], window: list[int], target: int) -> float:
    """Add the gradient of one prediction to `grad`; returns its loss. `columns` are the transposed weights."""
    inputs, hidden, chances = forward(params, window)
    loss = -math.log(max(chances[target], 1e-12))
    chances[target] -= 1.0
    output = grad["output"]
    for i, error in enumerate(chances):
        if abs(error) > 1e-4:
            output[i] = plus(output[i], error, hidden)
    grad["output_bias"][0] = plus(grad["output_bias"][0], 1.0, chances)
    inner = [(1.0 - hidden[i] ** 2) * dot(column, chances) for i, column in enumerate(columns[1])]
    weights = grad["hidden"]
    for i, error in enumerate(inner):
        weights[i] = plus(weights[i], error, inputs)
    grad["hidden_bias"][0] = plus(grad["hidden_bias"][0], 1.0, inner)
    back = [dot(column, inner) for column in columns[0]]
    for place, symbol in enumerate(window):
        row = grad["embedding"][symbol]
        grad["embedding"][symbol] = plus(row, 1.0, back[place * WIDTH : (place + 1) * WIDTH])
    return loss


def train_step(params: Params, velocity: Params, batch: list[tuple[list[int], int]], lr: float) -> float:
    """One step of gradient descent with momentum and a limit on the gradient's length; returns the mean loss."""
    grad = zeros_like(params)
    columns = transposed(params["hidden"]), transposed(params["output"])
    loss = sum(add_gradient(grad, params, columns, window, target) for window, target in batch)
    length = math.sqrt(sum(dot(row, row) for matrix in grad.values() for row in matrix)) / len(batch)
    factor = lr / len(batch) * min(1.0, LARGEST_STEP / max(length, 1e-12))
    for name, matrix in params.items():
        for i, row in enumerate(matrix):
            step = [MOMENTUM * v - factor * g for v, g in zip(velocity[name][i], grad[name][i])]  # noqa: B905
            velocity[name][i] = step
            matrix[i] = plus(row, 1.0, step)
    return loss / len(batch)


def draw_batch(data: list[int], size: int, seed: int, step: int) -> list[tuple[list[int], int]]:
    """The batch of one step: the same whenever this step is taken."""
    rng = random.Random(seed * 1_000_003 + step)  # noqa: S311
    starts = [rng.randrange(len(data) - CONTEXT) for _ in range(size)]
    return [(data[start : start + CONTEXT], data[start + CONTEXT]) for start in starts]


def validate(params: Params, data: list[int], windows: int = 200) -> float:
    """Mean loss on text that is never trained on, always the same windows."""
    batch = draw_batch(data, windows, 0, 0)
    return sum(-math.log(max(forward(params, window)[2][target], 1e-12)) for window, target in batch) / windows


def sample(params: Params, seed: int, length: int = 60) -> str:
    """Some text of the model's own."""
    rng, window = random.Random(seed), encode("\ndef ")[-CONTEXT:]  # noqa: S311
    text = ""
    for _ in range(length):
        symbol = rng.choices(range(len(SYMBOLS)), forward(params, window)[2])[0]
        window = [*window[1:], symbol]
        text += SYMBOLS[symbol]
    return "def " + " ".join(text.split())


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write a checkpoint so that a reader sees all of it or none, and drop all but the newest few."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:08d}.json"
    unfinished = folder / f".{path.name}.tmp"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    for old in sorted(folder.glob("step-*.json"))[:-KEEP]:
        old.unlink()
    return path


def checkpoints(place: str) -> list[Path]:
    """The checkpoints at a place, which is a folder or one of them."""
    path = Path(place)
    return list(path.glob("step-*.json")) if path.is_dir() else [path] if path.is_file() else []


def load_newest(places: list[str]) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; a damaged one is passed over, aloud."""
    found = {path for place in places if place for path in checkpoints(place)}
    for path in sorted(found, key=lambda path: path.name, reverse=True):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["format"] == FORMAT and state["symbols"] == SYMBOLS:
                state["path"] = str(path)
                return dict(state)
            print(f"{path}: another model's checkpoint, passed over", flush=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{path}: cannot be read ({error}), passed over", flush=True)
    return None


class Run:
    """One training run: what it was asked for, how far it is, whether it was told to stop."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.folder = Path(os.environ.get("CHECKPOINT_DIR") or "checkpoints")
        self.step = 0
        self.stop = False
        self.params = new_params(args.seed)
        self.velocity = zeros_like(self.params)
        self.started = self.saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one, and say so."""
        state = load_newest([str(self.folder), os.environ.get("GPUSCALE_RESUME_FROM", "")])
        if state is None:
            print("starting from step 0", flush=True)
            return
        self.step, self.params, self.velocity = state["step"], state["params"], state["velocity"]
        print(f"resumed from step {self.step} ({state['path']})", flush=True)

    def save(self) -> None:
        """Save a checkpoint now."""
        state = {"format": FORMAT, "symbols": SYMBOLS, "step": self.step, "lr": self.args.lr}
        path = save(self.folder, {**state, "params": self.params, "velocity": self.velocity})
        self.saved = time.monotonic()
        print(f"saved {path.name} ({path.stat().st_size / 1024:.0f} KiB)", flush=True)

    def train(self, data: list[int], held_out: list[int]) -> bool:
        """Take the steps that are left. False when told to stop on the way."""
        args, begun, first = self.args, time.monotonic(), self.step
        losses: Vector = []
        while self.step < args.steps and not self.stop:
            batch = draw_batch(data, args.batch_size, args.seed, self.step)
            losses.append(train_step(self.params, self.velocity, batch, args.lr))
            self.step += 1
            if self.step % args.log_every == 0 or self.step == args.steps:
                speed = (self.step - first) / max(time.monotonic() - begun, 1e-9)
                self._report(losses, speed, held_out)
                losses = []
            if time.monotonic() - self.saved >= args.save_seconds:
                self.save()
        return not self.stop

    def _report(self, losses: list[float], speed: float, held_out: list[int]) -> None:
        args = self.args
        epoch = 1 + (self.step - 1) * args.batch_size // EPOCH_WINDOWS
        epochs = 1 + (args.steps - 1) * args.batch_size // EPOCH_WINDOWS
        line = f"epoch {epoch}/{epochs} step {self.step}/{args.steps} loss {sum(losses) / len(losses):.4f}"
        if self.step % (5 * args.log_every) == 0 or self.step == args.steps:
            line += f" val_loss {validate(self.params, held_out):.4f}"
        left = (args.steps - self.step) / max(speed, 1e-9)
        print(f"{line} lr {args.lr:.1e} {speed:.1f} steps/s eta {left:.0f}s", flush=True)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line. Exits with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=float, default=3e-2, help="learning rate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="windows a step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2800, help="steps in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the weights and the batches (default: %(default)s)")
    parser.add_argument("--log-every", type=int, default=25, help="steps between two lines (default: %(default)s)")
    parser.add_argument("--save-seconds", type=float, default=3.0, help="between checkpoints (default: %(default)s)")
    args = parser.parse_args(argv)
    if min(args.batch_size, args.steps, args.log_every) < 1 or args.lr <= 0:
        parser.error("--lr, --batch-size, --steps and --log-every must be above 0")
    return args


def main() -> int:
    """0 when all steps are done, 143 after SIGTERM."""
    run = Run(parse())

    def stop(*_: object) -> None:
        run.stop = True

    signal.signal(signal.SIGTERM, stop)
    text, files = read_text()
    codes = encode(text)
    count = sum(len(row) for matrix in run.params.values() for row in matrix)
    where = os.environ.get("SANDBOX_GPU", "")
    print(f"python {sys.version.split()[0]}" + (f" on a machine with {where}" if where else ""), flush=True)
    print(f"text: {len(text):,} characters from {files} files, {len(SYMBOLS)} symbols", flush=True)
    print(f"model: {count:,} parameters, context {CONTEXT}, hidden {HIDDEN}", flush=True)
    run.resume()
    finished = run.train(codes[:-HELD_OUT], codes[-HELD_OUT:])
    run.save()
    if not finished:
        print(f"stopped by SIGTERM at step {run.step}", flush=True)
        return 143
    print(f"sample: {sample(run.params, run.args.seed)}", flush=True)
    print(f"done: {run.step} steps in {time.monotonic() - run.started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
