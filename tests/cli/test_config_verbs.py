"""`config init|show|check|path`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli


def test_init_writes_a_file_that_check_finds_in_order(cli: Cli) -> None:
    """Private, and where it was asked for."""
    cli.config.unlink()
    result = cli("config", "init")
    assert (result.exit_code, result.stdout) == (0, f"{cli.config}\n")
    assert cli.config.stat().st_mode & 0o777 == 0o600
    assert cli("config", "check").stdout == f"{cli.config}: in order\n"


def test_init_makes_the_directory(cli: Cli) -> None:
    """The platform's one does not exist on a new machine."""
    path = cli.config.parent / "a" / "b" / "c.toml"
    assert cli("config", "init", "--config", str(path)).exit_code == 0
    assert path.exists()


def test_init_leaves_an_existing_file_alone(cli: Cli) -> None:
    """It is the user's."""
    before = cli.config.read_bytes()
    result = cli("config", "init")
    assert result.exit_code == 1
    assert "was left as it is" in result.stderr
    assert cli.config.read_bytes() == before


def test_show(cli: Cli) -> None:
    """Values with their sources; no secret."""
    cli.config.write_text("[scaler]\nmax_workers = 7\n")
    result = cli("config", "show", CLORE_API_KEY="hush")
    assert f"scaler.max_workers\t7\t{cli.config}\t" in result.stdout
    assert "scaler.min_workers\t0\tdefault\t" in result.stdout
    assert "environment (CLORE_API_KEY)" in result.stdout
    assert "hush" not in result.output
    rows = json.loads(cli("config", "show", "--json").stdout)
    assert {"key", "value", "source"} <= rows[0].keys()


def test_check_tells_everything_that_is_wrong(cli: Cli) -> None:
    """Exit code 2."""
    cli.config.write_text("[scaler]\nmax_workres = 7\nmin_workers = -1\n")
    result = cli("config", "check")
    assert result.exit_code == 2
    assert result.stderr.count(str(cli.config)) == 2


def test_check_points_out_doubtful_names(cli: Cli) -> None:
    """They are allowed."""
    cli.config.write_text('[scaler]\ngpu_type = "RTX 4909"\n')
    result = cli("config", "check")
    assert result.exit_code == 0
    assert "did you mean 'RTX 4090'?" in result.stderr


def test_check_without_a_file(cli: Cli) -> None:
    """The defaults are in order; but a file that was named must be there."""
    cli.config.unlink()
    assert cli("config", "check").exit_code == 2
    assert "every setting has its default" in cli("config", "check", GPUSCALE_CONFIG="").stdout


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('theme = "gpuscale-drak"', "did you mean 'gpuscale-dark'?"),
        ('theme = "../x"', "there is no theme '../x'"),
        ('keymap = { "job.cancle" = "x" }', "job.cancle"),
    ],
)
def test_check_looks_at_theme_and_keys(cli: Cli, settings: str, expected: str) -> None:
    """As the screen would when it opens."""
    cli.config.write_text(f"[ui]\n{settings}\n")
    result = cli("config", "check", "--config", str(cli.config))
    assert result.exit_code == 2
    assert expected in result.stderr


def test_path(cli: Cli) -> None:
    """Where it is looked for, whether it is there or not."""
    assert cli("config", "path").stdout == f"{cli.config}\n"
    assert cli("config", "path", "--config", "/no/such.toml").stdout == "/no/such.toml\n"
