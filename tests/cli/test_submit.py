"""`submit`: what is written is what is stored, and everything that is wrong is refused before anything is stored."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpuscale_tui.model.jobs import JobSpec
from gpuscale_tui.model.offers import Market
from gpuscale_tui.store import jobs, market
from gpuscale_tui.store.secrets import read_job_secrets
from tests.cli.conftest import Cli
from tests.store.support import DOLLAR, Bench, offer


def stored(bench: Bench, label: str) -> JobSpec:
    job = bench.read(jobs.get, int(label[1:]))
    assert job is not None
    return job.spec


def test_the_words_after_the_dashes_are_run_as_given(cli: Cli, bench: Bench) -> None:
    """No splitting, no substitution, options of the command stay the command's."""
    words = ["python", "-c", "print('a  b')", "--name", "x", "--", "-h", "", "{lr}", "$HOME"]
    (label,) = cli.ids("--name", "n", "--", *words)
    assert stored(bench, label).argv == tuple(words)
    assert stored(bench, label).command is None
    assert stored(bench, label).name == "n"


def test_every_option_reaches_the_job(cli: Cli, bench: Bench, tmp_path: Path) -> None:
    """One of each kind."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "train.py").write_text("print(1)\n")
    (label,) = cli.ids(
        "--name", "big", "--image", "img:1", "--gpu", "2x NVIDIA GeForce RTX 3090", "--gpus", "2",
        "--max-price", "$0.45",
        "--priority", "2", "--max-runtime", "1h30m", "--env", "A=1=2", "--env", "FROM_OUTSIDE", "--secret", "HIDDEN=x",
        "--workdir", str(workdir), "--checkpoint-dir", "ckpt", "--project", "p1", "--provider", "clore",
        "--retries", "7",
        "--on-demand", "--", "run",
        FROM_OUTSIDE="o",
    )  # fmt: skip
    spec = stored(bench, label)
    assert (spec.image, spec.gpu_type, spec.gpu_count) == ("img:1", "RTX 3090", 2)
    assert (spec.max_price, spec.priority, spec.max_runtime_sec) == (450_000, 2, 5400)
    assert dict(spec.env) == {"A": "1=2", "FROM_OUTSIDE": "o"}
    assert (spec.workdir, spec.checkpoint_dir, spec.project) == (str(workdir), "ckpt", "p1")
    assert (spec.provider, spec.retries, spec.market) == ("clore", 7, Market.ON_DEMAND)
    assert read_job_secrets(cli.home, int(label[1:])) == {"HIDDEN": "x"}


def test_what_is_left_out_comes_from_the_settings(cli: Cli, bench: Bench) -> None:
    """GPU and image; the price limit stays open, for the settings may change."""
    cli.config.write_text('[scaler]\ngpu_type = "rtx3090"\ndocker_image = "mine:2"\n')
    (label,) = cli.ids("--", "run")
    spec = stored(bench, label)
    assert (spec.gpu_type, spec.image, spec.max_price, spec.market) == ("RTX 3090", "mine:2", None, None)


def test_no_gpu(cli: Cli, bench: Bench) -> None:
    """`none` asks for none, whatever the settings say."""
    (label,) = cli.ids("--gpu", "NONE", "--", "run")
    assert stored(bench, label).need.gpu_count == 0


def test_values_with_a_secret_name_go_to_the_private_file(cli: Cli, bench: Bench) -> None:
    """They are nowhere in the database, nor in what is printed."""
    (label,) = cli.ids(
        "--env", "WANDB_API_KEY=s3cr3t", "--env", "HF_TOKEN", "--env", "PLAIN=1", "--", "run", HF_TOKEN="t0k"
    )
    assert dict(stored(bench, label).env) == {"PLAIN": "1"}
    assert read_job_secrets(cli.home, 1) == {"WANDB_API_KEY": "s3cr3t", "HF_TOKEN": "t0k"}
    (file,) = cli.home.secrets.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    bench.db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"s3cr3t" not in cli.home.database.read_bytes()
    shown = cli("show", label).output + cli("show", label, "--json").output
    assert "s3cr3t" not in shown
    assert "WANDB_API_KEY" in shown


def test_a_sweep_makes_one_job_for_each_combination(cli: Cli, bench: Bench) -> None:
    """Command, name and environment carry the values; other braces stay."""
    labels = cli.ids(
        "--name", "t", "--sweep", "lr=1e-3,5e-4", "--sweep", "seed=1..3", "--", "run", "--lr={lr}", "{seed}", "{other}"
    )
    assert labels == ["j1", "j2", "j3", "j4", "j5", "j6"]
    spec = stored(bench, "j6")
    assert spec.argv == ("run", "--lr=5e-4", "3", "{other}")
    assert spec.name == "t lr=5e-4 seed=3"
    assert dict(spec.env) == {"GPUSCALE_PARAM_LR": "5e-4", "GPUSCALE_PARAM_SEED": "3"}


def test_json_of_new_jobs(cli: Cli) -> None:
    """The same shape as the queue's."""
    result = cli("submit", "--json", "--sweep", "a=1,2", "--", "run")
    rows = json.loads(result.stdout)
    assert [row["id"] for row in rows] == ["j1", "j2"]
    assert rows == cli.json("queue")


WRONG = {
    "no command": (["--name", "x"], "what shall be run?"),
    "no dashes": (["python", "train.py"], "write `--` before the command"),
    "words before the dashes": (["train", "--", "python"], "write `--` before the command"),
    "nothing after the dashes": (["--"], "what shall be run?"),
    "an empty command": (["--", ""], "command: found"),
    "an option that does not exist": (["--priorty", "3", "--", "x"], "--priority"),
    "a priority": (["--priority", "11", "--", "x"], "1<=x<=10"),
    "a price": (["--max-price", "cheap", "--", "x"], "--max-price: found 'cheap'"),
    "a price of nothing": (["--max-price", "0", "--", "x"], "--max-price: found 0"),
    "an endless price": (["--max-price", "1e999999", "--", "x"], "--max-price: found '1e999999'"),
    "a price that is no number": (["--max-price", "nan", "--", "x"], "--max-price: found 'nan'"),
    "a duration": (["--max-runtime", "2 fortnights", "--", "x"], "--max-runtime: found '2 fortnights'"),
    "GPUs": (["--gpus", "0", "--", "x"], "--gpus: found 0"),
    "GPUs of no GPU": (["--gpu", "none", "--gpus", "2", "--", "x"], "--gpus: found 2"),
    "a GPU name": (["--gpu", "a;b", "--", "x"], "--gpu: found 'a;b'"),
    "an empty GPU name": (["--gpu", " ", "--", "x"], "--gpu: found ' '"),
    "an image": (["--image", "a b", "--", "x"], "--image: found 'a b'"),
    "a variable": (["--env", "1A=2", "--", "x"], "--env: found '1A'"),
    "a variable that is ours": (["--env", "GPUSCALE_JOB_ID=2", "--", "x"], "which the job is given by us"),
    "a variable that is nowhere": (["--env", "NO_SUCH_VARIABLE", "--", "x"], "--env: found 'NO_SUCH_VARIABLE'"),
    "a name": (["--name", "a\x1b[31m", "--", "x"], "--name: found"),
    "a project": (["--project", "a/b", "--", "x"], "--project: found 'a/b'"),
    "a provider": (["--provider", "clor", "--", "x"], "did you mean 'clore'?"),
    "retries": (["--retries", "-1", "--", "x"], "--retries: found -1"),
    "a workdir": (["--workdir", "/no/such/dir", "--", "x"], "it does not exist"),
    "a workdir that is a file": (["--workdir", "/etc/passwd", "--", "x"], "(a file)"),
    "a checkpoint directory": (["--checkpoint-dir", "../up", "--", "x"], "--checkpoint-dir: found '../up'"),
    "a sweep": (["--sweep", "lr", "--", "x"], "--sweep: found 'lr'"),
    "a sweep of too many": (["--sweep", "a=1..200", "--sweep", "b=1..200", "--", "x"], "at most 10,000"),
    "a file and a command": (["--file", "x.toml", "--", "x"], "with --file everything stands in the file"),
    "a file and an option": (["--file", "x.toml", "--name", "x"], "with --file everything stands in the file"),
    "a file that is not there": (["--file", "/no/such.toml"], "/no/such.toml: cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_and_nothing_is_stored(cli: Cli, what: str) -> None:
    """Exit code 2, the option and what is allowed on stderr, and not even a home is made."""
    arguments, expected = WRONG[what]
    result = cli("submit", *arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stdout == ""
    assert not cli.home.database.exists()


def test_everything_wrong_is_told_at_once(cli: Cli) -> None:
    """Not one thing after the other."""
    text = cli("submit", "--max-price", "x", "--max-runtime", "y", "--provider", "z", "--", "run").stderr
    assert all(name in text for name in ("--max-price", "--max-runtime", "--provider"))


def test_bytes_that_are_no_text_are_refused(cli: Cli) -> None:
    """The machine could not be given them exactly."""
    code, _, err = cli.run("submit", "--", "echo", os.fsdecode(b"\xff\xfe"))
    assert code == 2
    assert b"text in UTF-8" in err


def test_wrong_settings_are_told_with_file_and_key(cli: Cli) -> None:
    """Before anything is stored."""
    cli.config.write_text("[scaler]\nmax_workres = 3\n")
    result = cli("submit", "--", "x")
    assert result.exit_code == 2
    assert "scaler.max_workres" in result.stderr
    assert "did you mean 'max_workers'?" in result.stderr
    assert not cli.home.database.exists()


def test_it_says_that_no_engine_runs(cli: Cli) -> None:
    """Once it is stored; with an engine it does not."""
    assert "no engine runs: start one with `gpuscale` or `gpuscale --autopilot`" in cli("submit", "--", "x").stderr
    with cli.engine():
        assert cli("submit", "--", "x").stderr == ""


def test_an_unheard_of_gpu_is_taken_with_a_warning(cli: Cli, bench: Bench) -> None:
    """Markets know more than we do."""
    result = cli("submit", "--gpu", "RTX 4909", "--", "x")
    assert result.exit_code == 0
    assert "'RTX 4909' is no GPU that is known here; did you mean 'RTX 4090'?" in result.stderr
    assert stored(bench, "j1").gpu_type == "RTX 4909"


def test_a_gpu_that_the_market_has_is_no_surprise(cli: Cli, bench: Bench) -> None:
    """Nor is one of the user's own hosts."""
    bench.write(market.replace, "clore", "MI300X", [(offer(gpu_type="MI300X", rate=1), "")], bench.now)
    assert "MI300X" not in cli("submit", "--gpu", "mi300x", "--", "x").stderr
    cli.config.write_text("[[providers.ssh.hosts]]\nname='a'\nhost='h'\ngpu_type='P40'\ngpu_count=1\n")
    assert "P40" not in cli("submit", "--gpu", "P40", "--", "x").stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--max-price", "0.30"], "costs $0.400/h and GPU, above the limit of $0.300"),
        (["--gpus", "4"], "no machine with 4 x RTX 4090 is on the market now, the largest has 2"),
        (["--gpus", "2", "--max-price", "9"], "costs $12.000/h, above max_hourly_budget $10.00/h"),
        (["--provider", "ssh"], "provider ssh is not set up"),
    ],
)
def test_a_job_that_no_offer_can_meet_is_told_so_at_once(
    cli: Cli, bench: Bench, arguments: list[str], expected: str
) -> None:
    """It is stored all the same: the market moves."""
    offers = [offer(400_000), offer(12 * DOLLAR, gpu_count=2)]
    bench.write(market.replace, "clore", "RTX 4090", [(each, "") for each in offers], bench.now)
    result = cli("submit", *arguments, "--", "x")
    assert result.exit_code == 0
    assert expected in result.stderr


def test_a_job_that_an_offer_meets_is_told_nothing(cli: Cli, bench: Bench) -> None:
    """No crying wolf."""
    bench.write(market.replace, "clore", "RTX 4090", [(offer(400_000), "")], bench.now)
    with cli.engine():
        assert cli("submit", "--max-price", "0.40", "--", "x").stderr == ""


def test_without_any_provider_it_says_so(cli: Cli) -> None:
    """Nothing would ever run."""
    cli.config.write_text("")
    assert "no provider is set up" in cli("submit", "--", "x").stderr


def test_one_word_with_blanks_is_doubted(cli: Cli, bench: Bench) -> None:
    """Hardly anybody means a program whose name has blanks."""
    result = cli("submit", "--", "python train.py")
    assert "sh -c" in result.stderr
    assert stored(bench, "j1").argv == ("python train.py",)


def test_ten_thousand_jobs_at_once(cli: Cli) -> None:
    """All of them, in order."""
    labels = cli.ids("--sweep", "seed=1..10000", "--", "run", "{seed}")
    assert (len(labels), labels[0], labels[-1]) == (10_000, "j1", "j10000")


def test_a_workdir_that_is_too_large(cli: Cli, tmp_path: Path) -> None:
    """Refused at once, with the limit."""
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "data.bin").write_bytes(os.urandom(200_000))
    cli.config.write_text("[scaler]\nworkdir_max_mb = 0.1\n")
    result = cli("submit", "--workdir", str(workdir), "--", "x")
    assert result.exit_code == 2
    assert "--workdir: found" in result.stderr
    assert not cli.home.database.exists()
