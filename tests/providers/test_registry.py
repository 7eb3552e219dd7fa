"""Which providers the settings give, and what is said when they cannot be built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, Settings, SshConfig, SshHost
from gpuscale_tui.providers.registry import build_providers

KEY = "0123456789abcdef0123456789abcdef"


def settings_with(hosts: tuple[SshHost, ...] = (), **clore: Any) -> Settings:
    return Settings(providers=ProvidersConfig(clore=CloreConfig(**clore), ssh=SshConfig(hosts)))


def build(tmp_path: Path, settings: Settings, **environ: str) -> list[str]:
    return list(build_providers(settings, state_dir=tmp_path, environ=environ))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def test_only_what_is_enabled_is_built(tmp_path: Path) -> None:
    host = SshHost("box", "10.0.0.1")
    assert build(tmp_path, Settings()) == []
    assert build(tmp_path, settings_with((host,))) == ["ssh"]
    assert build(tmp_path, settings_with(enabled=True), CLORE_API_KEY=KEY) == ["clore"]
    assert build(tmp_path, settings_with((host,), enabled=True), CLORE_API_KEY=KEY) == ["clore", "ssh"]


def test_a_missing_key_names_setting_and_variable(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"providers\.clore\.api_key_file.*0600.*CLORE_API_KEY"):
        build(tmp_path, settings_with(enabled=True))


def test_the_key_may_stand_in_a_file_of_mode_0600(tmp_path: Path, key_file: Path) -> None:
    assert build(tmp_path, settings_with(enabled=True, api_key_file=str(key_file))) == ["clore"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_read_is_refused_with_the_way_to_mend_it(
    tmp_path: Path, key_file: Path, mode: int
) -> None:
    key_file.chmod(mode)
    with pytest.raises(FieldError, match=rf"chmod 600 {key_file}") as caught:
        build(tmp_path, settings_with(enabled=True, api_key_file=str(key_file)))
    assert f"{mode:04o}" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("content", ["", "two words", "key\nkey", "kéy", "\x00", "k" * 600])
def test_a_file_that_is_no_key_is_refused_without_showing_it(tmp_path: Path, key_file: Path, content: str) -> None:
    key_file.write_text(content)
    with pytest.raises(FieldError, match="one word") as caught:
        build(tmp_path, settings_with(enabled=True, api_key_file=str(key_file)))
    assert not content or content not in str(caught.value)


def test_a_missing_key_file_and_a_directory_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"nowhere.*No such file"):
        build(tmp_path, settings_with(enabled=True, api_key_file=str(tmp_path / "nowhere")))
    with pytest.raises(FieldError, match="regular file"):
        build(tmp_path, settings_with(enabled=True, api_key_file=str(tmp_path)))


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = settings_with(enabled=True, api_key_file=str(tmp_path / "nowhere"))
    assert build(tmp_path, settings, CLORE_API_KEY=KEY) == ["clore"]


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://api.clore.ai/v1", True),
        ("http://127.0.0.1:8080/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8080/v1", True),
        ("http://api.clore.ai/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
        ("http://127.example.com/v1", False),
        ("ftp://127.0.0.1/", False),
        ("https://", False),
        ("nonsense", False),
        ("http://[::1", False),
    ],
)
def test_the_key_never_travels_in_the_clear(tmp_path: Path, url: str, fine: bool) -> None:
    environ = {"CLORE_API_KEY": KEY, "GPUSCALE_CLORE_URL": url}
    if fine:
        assert build(tmp_path, settings_with(enabled=True), **environ) == ["clore"]
        return
    with pytest.raises(FieldError, match="GPUSCALE_CLORE_URL"):
        build(tmp_path, settings_with(enabled=True), **environ)


def test_two_hosts_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"providers\.ssh\.hosts\.name.*'box'"):
        build(tmp_path, settings_with((SshHost("box", "10.0.0.1"), SshHost("box", "10.0.0.2"))))


def test_http_is_loaded_only_for_clore(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from gpuscale_tui.model.settings import *\n"
        "from gpuscale_tui.providers.registry import build_providers\n"
        "hosts = SshConfig((SshHost('box', '10.0.0.1'),))\n"
        "settings = Settings(providers=ProvidersConfig(ssh=hosts))\n"
        f"assert build_providers(settings, state_dir=Path({str(tmp_path)!r}), environ={{}})\n"
        "sys.exit('httpx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=90).returncode == 0
