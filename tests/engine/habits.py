"""Jobs that write checkpoints as well-known libraries do, by the same system calls; run as programs of their own.

`python habits.py HABIT`: writes into $CHECKPOINT_DIR until the file $GATE is there; the SHA-256 of every file that was
finished is appended to $VERSIONS/HABIT before anybody can have seen it whole. How they write, by their sources:

* torch.save (torch/serialization.py) opens the very path for writing and streams a ZIP archive into it.
* Trainers that care write beside and call os.replace; Lightning's atomic save (fsspec's transactions) does so, too, and
  makes last.ckpt a link or a copy.
* Hugging Face Trainer (transformers/trainer.py, `_save_checkpoint`) fills checkpoint-N: model, optimizer, at last
  trainer_state.json; then it removes the oldest by shutil.rmtree (`_rotate_checkpoints`).
* save_pretrained writes shards one after the other, then the index.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

PIECES = 4
SIZE = 60_000


def archive(step: int) -> bytes:
    """What torch.save makes: a ZIP without compression."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.writestr("archive/data.pkl", f"step {step}")
        out.writestr("archive/data/0", bytes([step % 251]) * SIZE)
    return made.getvalue()


def tensors(step: int) -> bytes:
    """A safetensors file with one tensor."""
    head = json.dumps({"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes([step % 251]) * SIZE


def note(habit: str, data: bytes) -> None:
    with Path(os.environ["VERSIONS"], habit).open("a") as log:
        log.write(hashlib.sha256(data).hexdigest() + "\n")


def stream(path: Path, data: bytes, habit: str) -> None:
    """Write a file piece by piece, with pauses, as one that is large."""
    note(habit, data)
    with path.open("wb", buffering=0) as file:
        for number in range(PIECES):
            file.write(data[number * len(data) // PIECES : (number + 1) * len(data) // PIECES])
            time.sleep(0.06)


def in_place(root: Path, step: int) -> None:
    stream(root / "model.pt", archive(step), "in_place")


def renamed(root: Path, step: int) -> None:
    stream(root / "best.pt.tmp", archive(step), "renamed")
    (root / "best.pt.tmp").replace(root / "best.pt")


def trainer(root: Path, step: int) -> None:
    place = root / f"checkpoint-{step}"
    place.mkdir()
    stream(place / "model.safetensors", tensors(step), "trainer")
    stream(place / "training_args.bin", archive(step), "trainer")
    time.sleep(2.0)  # collecting the optimizer's state: longer than the settling time
    stream(place / "optimizer.pt", archive(step), "trainer")
    stream(place / "trainer_state.json", json.dumps({"global_step": step, "log": [0] * 3000}).encode(), "trainer")
    with (root / "events.out.tfevents.1").open("a") as events:
        events.write(f"{step}\n" * 2000)
    if step > 2:
        shutil.rmtree(root / f"checkpoint-{step - 2}")


def lightning(root: Path, step: int) -> None:
    name = f"epoch={step}-step={step * 10}.ckpt"
    stream(root / f".tmp_{name}", archive(step), "lightning")
    (root / f".tmp_{name}").replace(root / name)
    link = root / "last.ckpt"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    shutil.copy2(root / name, root / "copy.ckpt.part")
    (root / "copy.ckpt.part").replace(root / "copy.ckpt")
    (root / f"epoch={step - 2}-step={(step - 2) * 10}.ckpt").unlink(missing_ok=True)


def sharded(root: Path, step: int) -> None:
    place = root / f"step_{step}"
    place.mkdir()
    for part in (1, 2, 3):
        stream(place / f"model-{part:05d}-of-00003.safetensors", tensors(step + part), "sharded")
        time.sleep(1.8)
    names = {f"w{part}": f"model-{part:05d}-of-00003.safetensors" for part in (1, 2, 3)}
    stream(place / "model.safetensors.index.json", json.dumps({"weight_map": names}).encode(), "sharded")


def torch_save(root: Path, step: int) -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]

    torch.save({"step": step, "w": torch.full((400_000,), float(step))}, root / "model.pt")


HABITS: dict[str, Callable[[Path, int], None]] = {
    "in_place": in_place, "renamed": renamed, "trainer": trainer, "lightning": lightning, "sharded": sharded,
    "torch_save": torch_save,
}  # fmt: skip


def main() -> None:
    root, step = Path(os.environ["CHECKPOINT_DIR"]), 0
    while not Path(os.environ["GATE"]).exists():
        step += 1
        HABITS[sys.argv[1]](root, step)
        print(f"step {step}", flush=True)
        time.sleep(2.4)


if __name__ == "__main__":
    main()
