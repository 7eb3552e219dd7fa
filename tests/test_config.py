"""Settings: every wrong key and value is named with what is allowed; files and environment win in their order."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuscale_tui.config import ConfigError, Loaded, config_path, explain, load
from gpuscale_tui.config_keys import BASE_URL, HOSTS, Key, all_tables, in_words, keys_of, tables_of, template
from gpuscale_tui.model.settings import Settings, SshHost

KEYS = {key.dotted: key for key in keys_of(Settings)}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(path: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(path, environ)
    return str(refused.value).splitlines()


def nested(dotted: str, value: object) -> dict[str, Any]:
    *tables, name = dotted.split(".")
    document: dict[str, Any] = {name: value}
    for table in reversed(tables):
        document = {table: document}
    return document


def test_without_any_file_everything_is_as_documented(tmp_path: Path) -> None:
    """The platform's place may be empty."""
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert {row.source for row in explain(loaded)} == {"default"}


def test_where_config_toml_is_looked_for(tmp_path: Path) -> None:
    """The option wins over the variable, that over the platform's place."""
    environ = {"GPUSCALE_CONFIG": str(tmp_path / "b.toml")}
    assert config_path(tmp_path / "a.toml", environ) == tmp_path / "a.toml"
    assert config_path(None, environ) == tmp_path / "b.toml"
    assert config_path(None, {}).name == "config.toml"


@pytest.mark.parametrize("option", [True, False])
def test_a_named_file_must_exist(tmp_path: Path, option: bool) -> None:
    """A typo in --config must not mean defaults: with them the cap could be another one."""
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=r"none\.toml: found no file"):
        load(path if option else None, {} if option else {"GPUSCALE_CONFIG": str(path)})


def test_later_files_and_the_environment_win(tmp_path: Path) -> None:
    """config.toml, then settings.toml, then the environment; each value knows where it is from."""
    path = write(tmp_path / "config.toml", '[scaler]\nmax_workers = 7\nmin_workers = 1\n[ui]\ntheme = "x"\n')
    write(tmp_path / "settings.toml", "[scaler]\nmax_workers = 9\n")
    loaded = load(path, {"GPUSCALE_CLORE_URL": "http://127.0.0.1:1/v1", "CLORE_API_KEY": "geheim"})
    assert (loaded.settings.scaler.max_workers, loaded.settings.scaler.min_workers) == (9, 1)
    assert loaded.settings.providers.clore.base_url == "http://127.0.0.1:1/v1"
    assert loaded.source("scaler.max_workers") == str(tmp_path / "settings.toml")
    assert loaded.source("scaler.min_workers") == str(path)
    assert loaded.source(BASE_URL) == "environment (GPUSCALE_CLORE_URL)"
    assert loaded.source("scaler.max_hourly_budget") == "default"
    assert "geheim" not in repr(explain(loaded))


def test_all_problems_are_found_in_one_pass(tmp_path: Path) -> None:
    """Both files and the environment, each problem on a line of its own."""
    path = write(
        tmp_path / "config.toml",
        'max_workers = 3\n[scaler]\nmax_workres = 5\nmin_workers = -1\n[providers]\nssh = 3\n'
        '[providers.clore]\napi_key = "tell-nobody"\ncurrency = "USD-blockchain"\n',
    )  # fmt: skip
    write(tmp_path / "settings.toml", "[ui]\nthem = 1\n[nonsense]\n")
    lines = refusal(path, GPUSCALE_CLORE_URL="ftp://x")
    expected = [
        ("config.toml: max_workers", "did you mean 'scaler.max_workers'?"),
        ("config.toml: scaler.max_workres", "did you mean 'max_workers'?"),
        ("config.toml: scaler.min_workers: found -1", "from 0 to 10,000"),
        ("config.toml: providers.ssh: found 3", "[providers.ssh]"),
        ("config.toml: providers.clore.api_key: found an unknown key", "did you mean 'api_key_file'?"),
        ('config.toml: providers.clore.currency: found "USD-blockchain"', "did you mean 'USD-Blockchain'?"),
        ("settings.toml: ui.them: found", "did you mean 'theme'?"),
        ("settings.toml: nonsense: found an unknown key", "allowed is"),
        ('environment: GPUSCALE_CLORE_URL: found "ftp://x"', "https://"),
    ]
    assert len(lines) == len(expected)
    for line, (where, what) in zip(lines, expected, strict=True):
        assert where in line
        assert what in line


def test_the_value_of_an_unknown_key_is_never_repeated(tmp_path: Path) -> None:
    """It may be an API key in the wrong place."""
    path = write(tmp_path / "config.toml", '[providers.clore]\napi_key = "tell-nobody"\n')
    assert "tell-nobody" not in "".join(refusal(path))


def test_hosts_are_checked_one_by_one(tmp_path: Path) -> None:
    """Each wrong field names the host by its number."""
    path = write(
        tmp_path / "config.toml",
        "[[providers.ssh.hosts]]\nname='a'\nhost='h'\nkey_fil=3\nport=0\n"
        "[[providers.ssh.hosts]]\nname='-'\n[[providers.ssh.hosts]]\nname='c'\nhost='h'\nuser='Root'\n",
    )
    text = "\n".join(refusal(path))
    assert "hosts[1].key_fil: found an unknown key" in text
    assert "did you mean 'key_file'?" in text
    assert "hosts[1].port: found 0; allowed is a whole number from 1 to 65,535" in text
    assert "hosts[2].name" in text
    assert "hosts[2].host: found nothing" in text
    assert 'hosts[3].user: found "Root"' in text


def test_two_hosts_may_not_have_one_name(tmp_path: Path) -> None:
    """Names tell the hosts apart."""
    path = write(tmp_path / "config.toml", "[[providers.ssh.hosts]]\nname='a'\nhost='h'\n" * 2)
    assert refusal(path) == [f'{path}: providers.ssh.hosts[2].name: found "a"; allowed is a name of its own']


@pytest.mark.parametrize("text", ["[providers.ssh]\nhosts = 3", "[providers.ssh]\nhosts = [3]"])
def test_hosts_are_tables(tmp_path: Path, text: str) -> None:
    """Anything else is refused."""
    assert "[[providers.ssh.hosts]]" in refusal(write(tmp_path / "config.toml", text))[0]


def test_hosts_are_read_with_their_defaults(tmp_path: Path) -> None:
    """And explained one by one."""
    path = write(tmp_path / "config.toml", "[[providers.ssh.hosts]]\nname='a'\nhost='h'\nport=2222\n")
    loaded = load(path, {})
    assert loaded.settings.providers.ssh.hosts == (SshHost(name="a", host="h", port=2222),)
    assert next(row for row in explain(loaded) if row.key == f"{HOSTS}[1].port").value == "2222"


def test_min_workers_above_max_workers(tmp_path: Path) -> None:
    """Even where they stand in two files, or one is a default."""
    path = write(tmp_path / "config.toml", "[scaler]\nmin_workers = 3\nmax_workers = 2\n")
    assert "scaler.min_workers: found 3 and max_workers 2" in refusal(path)[0]
    write(path, "[scaler]\nmin_workers = 6\n")
    assert "found 6 and max_workers 5" in refusal(path)[0]
    write(tmp_path / "settings.toml", "[scaler]\nmax_workers = 6\n")
    assert load(path, {}).settings.scaler.min_workers == 6


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[scaler]\nmax_workers = \n", "line 2, column 15"),
        (b"[scaler]\n[scaler]\n", "no valid TOML"),
        (b"[ui]\nbanner = '\xff'\n", "no UTF-8 at position 15"),
        (b"a = " + b"[" * 20_000, "config.toml"),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, expected: str) -> None:
    """The place of the error is named."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    (line,) = refusal(path)
    assert expected in line


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    """What cannot be read is an error, not an empty file."""
    (tmp_path / "config.toml").mkdir()
    assert "cannot be read" in refusal(tmp_path / "config.toml")[0]


def test_an_unheard_of_gpu_is_allowed_and_pointed_out(tmp_path: Path) -> None:
    """Markets know more than we do; a typo is still likelier."""
    path = write(tmp_path / "config.toml", '[scaler]\ngpu_type = "RTX 4909"\n')
    (warning,) = load(path, {}).warnings
    assert "scaler.gpu_type: 'RTX 4909'" in warning
    assert "did you mean 'RTX 4090'?" in warning


@pytest.mark.parametrize("name", ["none", "rtx4090", "MI300X", "NVIDIA H100 80GB HBM3"])
def test_good_gpu_names_raise_no_warning(tmp_path: Path, name: str) -> None:
    """However they are spelt."""
    assert load(write(tmp_path / "config.toml", f'[scaler]\ngpu_type = "{name}"\n'), {}).warnings == ()


WRONG_KINDS = st.one_of(
    st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2), st.dates(), st.datetimes(),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(dotted=st.sampled_from(sorted(KEYS)), value=WRONG_KINDS)
def test_any_value_is_taken_within_the_limits_or_refused_by_name(tmp_path: Path, dotted: str, value: object) -> None:
    """Never another error, never a value that does not keep the limits, never a line that is broken in two."""
    path = tmp_path / "config.toml"
    path.write_bytes(tomli_w.dumps(nested(dotted, value)).encode("utf-8", errors="replace"))
    try:
        loaded = load(path, {})
    except ConfigError as error:
        (problem,) = error.problems
        assert problem.file == str(path)
        assert problem.key == dotted
        assert problem.allowed in {KEYS[dotted].allowed, "at most max_workers"}
        assert re.search(r"[\x00-\x1f\x7f]", str(problem)) is None
    else:
        assert loaded.source(dotted) == str(path)
        assert explained(loaded, dotted).source == str(path)


def explained(loaded: Loaded, dotted: str) -> Any:
    return next(row for row in explain(loaded) if row.key == dotted)


NUMBERS = [key for key in KEYS.values() if key.allowed.startswith(("a number", "a whole number"))]


@pytest.mark.parametrize("key", NUMBERS, ids=lambda key: key.dotted)
def test_numbers_out_of_their_limits_are_refused(tmp_path: Path, key: Key) -> None:
    """Every number of the settings has limits, and they hold."""
    for wrong in (float("nan"), float("inf"), -float("inf"), -1, 10**9, "3", True):
        path = tmp_path / "config.toml"
        path.write_text(tomli_w.dumps(nested(key.dotted, wrong)))
        assert key.dotted in refusal(path)[0]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    table=st.sampled_from(["scaler", "providers", "providers.clore", "ui", "checkpoints"]),
    name=st.text(min_size=1, max_size=30),
)
def test_any_unknown_key_is_refused_by_name(tmp_path: Path, table: str, name: str) -> None:
    """Whatever characters it is made of."""
    names = {key.rpartition(".")[2] for key in KEYS} | {"clore", "ssh"}
    if name in names:
        return
    path = tmp_path / "config.toml"
    path.write_bytes(tomli_w.dumps(nested(table, {name: 1})).encode("utf-8", errors="replace"))
    (line,) = refusal(path)
    assert f"{table}." in line
    assert "unknown key" in line


def test_the_template_is_valid_and_means_the_defaults(tmp_path: Path) -> None:
    """As it is, every line that sets something is a comment."""
    path = write(tmp_path / "config.toml", template())
    assert load(path, {}).settings == Settings()


def test_the_template_is_valid_with_every_comment_sign_taken_away(tmp_path: Path) -> None:
    """What it shows as a default is the default; the examples are valid; no key is missing."""
    lines = [line[2:] if re.match(r"# (\w+ = |\[\[)", line) else line for line in template().splitlines()]
    path = write(tmp_path / "config.toml", "\n".join(lines))
    document = tomllib.loads(path.read_text())
    for dotted, key in KEYS.items():
        value: Any = document
        for part in dotted.split("."):
            value = value[part]
        expected = list(key.default) if isinstance(key.default, tuple) else key.default
        assert expected is None or value == expected
    (host,) = load(path, {}).settings.providers.ssh.hosts
    assert document["providers"]["ssh"]["hosts"][0].keys() == tables_of(SshHost).keys.keys()
    assert (host.port, host.gpu_count) == (22, 0)


def test_every_setting_says_what_it_means_and_allows_in_words() -> None:
    """No regular expression is shown to a user."""
    for _, tables in all_tables():
        assert tables.meaning
        for key in tables.keys.values():
            assert key.meaning, key.dotted
            assert "matches" not in key.allowed, key.dotted
            assert "another kind" not in key.allowed, key.dotted


def test_kinds_that_no_setting_has_yet_are_still_described() -> None:
    """An annotation of a new kind never breaks the words."""
    from msgspec import inspect

    assert in_words(inspect.type_info(bytes)) == "a value of another kind"
