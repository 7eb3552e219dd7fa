"""The demonstration's training script: its loss falls, and a resumed run is the run that was never stopped."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(str(importlib.resources.files("gpuscale_tui.sandbox.demo"))) / "workdir" / "train.py"
LINE = re.compile(r"epoch \d+/\d+ step (\d+)/\d+ loss ([\d.]+)( val_loss ([\d.]+))? lr \S+ [\d.]+ steps/s eta \d+s")


def command(folder: Path, *options: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "CHECKPOINT_DIR": str(folder), "GPUSCALE_RESUME_FROM": "", **variables}
    return [sys.executable, str(SCRIPT), "--log-every", "10", *options], environment


def train(folder: Path, *options: str, **variables: str) -> str:
    words, environment = command(folder, *options, **variables)
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100, check=True).stdout


def losses(output: str) -> dict[int, float]:
    return {int(found[1]): float(found[2]) for found in LINE.finditer(output)}


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(max(folder.glob("step-*.json")).read_text())
    return state


def test_loss_falls(tmp_path: Path) -> None:
    output = train(tmp_path, "--steps", "150", "--lr", "1e-1")
    curve = losses(output)
    assert list(curve) == list(range(10, 151, 10))
    assert curve[150] < curve[10] - 0.3
    assert "val_loss" in output
    assert "starting from step 0" in output
    assert "done: 150 steps" in output


def test_a_resumed_run_continues_exactly(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    straight = losses(train(whole, "--steps", "60"))
    first = train(parts, "--steps", "30")
    second = train(parts, "--steps", "60")
    assert f"resumed from step 30 ({parts}/step-00000030.json)" in second
    assert {**losses(first), **losses(second)} == straight
    assert checkpoint(parts)["params"] == checkpoint(whole)["params"]


def test_it_resumes_from_what_was_put_back(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    train(old, "--steps", "20")
    for place in (old, old / "step-00000020.json"):
        output = train(new / place.name, "--steps", "30", GPUSCALE_RESUME_FROM=str(place))
        assert "resumed from step 20" in output
        assert min(losses(output)) == 30


def test_sigterm_saves_and_exits_143(tmp_path: Path) -> None:
    words, environment = command(tmp_path, "--steps", "100000", "--save-seconds", "1000")
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch"):
            pass
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 143
    step = checkpoint(tmp_path)["step"]
    assert step >= 10
    assert f"stopped by SIGTERM at step {step}" in rest


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    train(tmp_path, "--steps", "10")
    (tmp_path / "step-00000099.json").write_text('{"format": 1, "step":')
    output = train(tmp_path, "--steps", "20")
    assert "step-00000099.json: cannot be read" in output
    assert "resumed from step 10" in output


def test_checkpoints_are_whole_and_few(tmp_path: Path) -> None:
    output = train(tmp_path, "--steps", "40", "--save-seconds", "0")
    assert output.count("saved step-") >= 40
    assert len(list(tmp_path.iterdir())) == 3
    assert checkpoint(tmp_path)["step"] == 40


def test_wrong_options_exit_2(tmp_path: Path) -> None:
    words, environment = command(tmp_path, "--lr", "0")
    assert subprocess.run(words, env=environment, capture_output=True, timeout=100).returncode == 2
