"""`notify test`, and what status and doctor say of notices."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gpuscale_tui.engine import doctor
from gpuscale_tui.store import notices
from tests.cli.conftest import Cli
from tests.engine.test_notifier import PASSWORD, Inbox, inbox
from tests.store.support import Bench


@pytest.fixture
def box() -> Iterator[Inbox]:
    with inbox() as opened:
        yield opened


def write(cli: Cli, *urls: str) -> None:
    cli.config.write_text(f"[notify]\nurls = {json.dumps(urls)}\n")
    cli.config.chmod(0o600)


def test_every_address_is_tried_and_what_came_of_it_is_told(cli: Cli, box: Inbox) -> None:
    """Exit code 1 when one of them fails; no address is printed."""
    write(cli, box.url(), "bogus://x", "env:NOWHERE")
    result = cli("notify", "test", "--json")
    rows = json.loads(result.stdout)
    assert [row["sent"] for row in rows] == [True, False, False]
    assert rows[2]["error"] == "the environment has no NOWHERE"
    assert result.exit_code == 1
    assert PASSWORD not in result.output
    [message] = box.taken
    assert message["title"] == "gpuscale: a test"
    write(cli, box.url())
    result = cli("notify", "test")
    assert (result.exit_code, result.stdout) == (0, "ADDRESS\tRESULT\nnotify.urls 1 (json)\tsent\n")


def test_without_an_address_there_is_nothing_to_try(cli: Cli) -> None:
    """Exit code 2, and what to write."""
    result = cli("notify", "test")
    assert result.exit_code == 2
    assert "[notify]" in result.stderr


def test_an_address_is_not_repeated_by_config(cli: Cli) -> None:
    """Shown, refused or checked: only how it begins."""
    write(cli, f"slack://{PASSWORD}/b/c")
    assert '["slack://..."]' in cli("config", "show").stdout
    cli.config.write_text(f'[notify]\nurls = "slack://{PASSWORD}"\n')
    result = cli("config", "check")
    assert result.exit_code == 2
    assert PASSWORD not in result.output


def test_an_address_that_takes_none_is_visible(cli: Cli, bench: Bench) -> None:
    """In status, for people and programs, and in doctor."""

    def fail(connection: object) -> None:
        notices.register(connection, "digest", "notify.urls 1 (slack)")  # type: ignore[arg-type]
        notices.failed(connection, "digest", "no \x1b[31mchannel", 1_700_000_000_000, 0)  # type: ignore[arg-type]

    assert cli.json("status")["notices"] == {"failing": []}
    bench.db.write(fail)
    [row] = cli.json("status")["notices"]["failing"]
    assert (row["address"], row["tries"], row["since"]) == ("notify.urls 1 (slack)", 1, "2023-11-14T22:13:20.000Z")
    assert "notify.urls 1 (slack) takes none for" in cli("status").stdout
    write(cli, "slack://a/b/c")
    found = [check for check in doctor.examine(cli.home, cli.config, {}, 1_700_000_100_000) if check.name == "notices"]
    assert [check.state for check in found] == ["warn"]
    assert "2023-11-14" in found[0].found


def test_a_file_of_settings_with_an_address_in_it_should_be_private(cli: Cli) -> None:
    """Doctor warns; an address in a file of its own is no matter."""
    write(cli, "slack://a/b/c")
    cli.config.chmod(0o644)
    assert [c.state for c in doctor.examine(cli.home, cli.config, {}, 1) if c.name == "notices"] == ["warn", "ok"]
    own = cli.config.with_name("own.url")
    own.write_text("slack://a/b/c")
    own.chmod(0o600)
    cli.config.write_text(f'[notify]\nurls = ["file:{own}"]\n')
    assert [c.state for c in doctor.examine(cli.home, cli.config, {}, 1) if c.name == "notices"] == ["ok"]
    own.chmod(0o640)
    assert [c.state for c in doctor.examine(cli.home, cli.config, {}, 1) if c.name == "notices"] == ["fail", "ok"]


def test_without_the_library_the_way_out_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install 'gpuscale-tui[notify]'`."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write(cli, "slack://a/b/c")
    found = [check for check in doctor.examine(cli.home, cli.config, {}, 1) if check.name == "notices"]
    assert found[0].advice == "pip install 'gpuscale-tui[notify]'"
