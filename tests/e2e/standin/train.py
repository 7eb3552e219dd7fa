"""Behaves like nanoGPT's train.py and learns nothing: its options, its lines, its one file, overwritten in place."""

import ast
import os
import pickle
import sys
import time
from pathlib import Path

options = {"out_dir": "out", "init_from": "scratch", "max_iters": 100, "eval_interval": 20, "log_interval": 10}
for word in sys.argv[1:]:
    key, _, value = word.removeprefix("--").partition("=")
    try:
        options[key] = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        options[key] = value

held_at = dict(enumerate(os.environ.get("HELD_AT", "").split(), 1)).get(int(os.environ["GPUSCALE_ATTEMPT"]))
"""The test takes this attempt's machine away: however long that takes, it does not come further than this."""

data = Path("data", str(options["dataset"]), "train.bin").read_bytes()
file = Path(options["out_dir"], "ckpt.pt")
print(f"tokens per iteration will be: {len(data):,}")
if options["init_from"] == "resume":
    print(f"Resuming training from {options['out_dir']}")
    state = pickle.loads(file.read_bytes())
else:
    print("Initializing a new model from scratch")
    state = {"iter_num": 0, "level": 4.2, "ballast": data * 200}


def save(whole: bytes) -> None:
    """Overwrite in place, a part at a time: whoever reads meanwhile gets neither the old nor the new one."""
    print(f"saving checkpoint to {options['out_dir']}")
    with file.open("wb") as stream:
        for begin in range(0, len(whole), 1 + len(whole) // 8):
            stream.write(whole[begin : begin + 1 + len(whole) // 8])
            stream.flush()
            time.sleep(0.01)


while state["iter_num"] <= options["max_iters"]:
    number, level = state["iter_num"], state["level"]
    if number % options["eval_interval"] == 0:
        print(f"step {number}: train loss {level:.4f}, val loss {level + 0.1:.4f}")
        if number:
            save(pickle.dumps(state))
    if number % options["log_interval"] == 0:
        print(f"iter {number}: loss {level:.4f}, time 20.00ms, mfu -100.00%")
    time.sleep(0.02)
    while str(number) == held_at:
        time.sleep(0.1)
    state["level"], state["iter_num"] = 1.5 + (level - 1.5) * 0.98, number + 1
