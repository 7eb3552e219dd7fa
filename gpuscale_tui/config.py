"""Settings: found, read, checked (DESIGN section 12). `config_keys` explains them.

`config.toml` is the user's and is never written by the program; `settings.toml` beside it is the settings screen's and
wins; two variables of the environment win over both. Everything that is wrong is found in one pass.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from gpuscale_tui.config_keys import API_KEY, BASE_URL, HOSTS, Key, Tables, host_key, keys_of, tables_of, toml_value
from gpuscale_tui.model.errors import GpuscaleError, nearest
from gpuscale_tui.model.gpus import KNOWN_GPUS, canonical_gpu, same_gpu
from gpuscale_tui.model.objects import EXTRA_MISSING, LIBRARY
from gpuscale_tui.model.settings import Settings, SshHost

CONFIG_VARIABLE = "GPUSCALE_CONFIG"
URL_VARIABLE = "GPUSCALE_CLORE_URL"
KEY_VARIABLE = "CLORE_API_KEY"
CONFIG_NAME = "config.toml"
SETTINGS_NAME = "settings.toml"
DEFAULT = "default"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (file, dotted key), what was found, what is allowed, the nearest right name."""

    file: str
    key: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        allowed = f"; allowed is {self.allowed}" if self.allowed else ""
        return f"{where}: found {self.found}{allowed}{self.hint}"


class ConfigError(GpuscaleError):
    """The settings cannot be used; `problems` has everything that is wrong with them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where they come from.

    `path` is the config.toml that was asked for, whether or not it exists. `sources` names the origin of every key that
    has not its default: a file, or a variable of the environment. `warnings` are sentences about what is allowed but
    hardly meant.
    """

    settings: Settings
    path: Path
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def source(self, key: str) -> str:
        """Where the value of a dotted key comes from."""
        return self.sources.get(key, DEFAULT)


def config_path(option: str | Path | None, environ: Mapping[str, str]) -> Path:
    """Where config.toml is looked for: `--config`, else `$GPUSCALE_CONFIG`, else the platform's place."""
    chosen = option or environ.get(CONFIG_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_config_path

    return user_config_path("gpuscale", appauthor=False) / CONFIG_NAME


def load(option: str | Path | None, environ: Mapping[str, str], *, settings: bytes | None = None) -> Loaded:
    """Read and check all settings. Raises ConfigError; a file that was named and does not exist is an error too.

    `settings` is looked at instead of what settings.toml contains: to check a change before it is written.
    """
    path = config_path(option, environ)
    named = bool(option or environ.get(CONFIG_VARIABLE))
    if named and not path.exists():
        raise ConfigError([Problem(str(path), "", "no file", "a file that exists; `gpuscale config init` makes one")])
    reading = _Reading()
    reading.file(path)
    reading.file(path.with_name(SETTINGS_NAME), settings)
    reading.environment(environ)
    reading.check_together()
    if reading.problems:
        raise ConfigError(reading.problems)
    built: Settings = _built(Settings, "", reading.values)
    sources = MappingProxyType(dict(reading.sources))
    return Loaded(built, path, sources, tuple(_warnings(built, reading.sources)))


@dataclass(slots=True)
class _Reading:
    """What has been read so far: checked values and their sources by dotted key, and what was wrong."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def file(self, path: Path, content: bytes | None = None) -> None:
        """Read one file, or `content` in its name; one that does not exist has nothing to say."""
        try:
            document = tomllib.loads((path.read_bytes() if content is None else content).decode())
        except FileNotFoundError:
            return
        except OSError as error:
            self._wrong(path, "", f"a file that cannot be read ({error.strerror})", "")
        except UnicodeDecodeError as error:
            self._wrong(path, "", f"a byte that is no UTF-8 at position {error.start}", "TOML in UTF-8")
        except tomllib.TOMLDecodeError as error:
            self._wrong(path, "", f"no valid TOML: {error}", "")
        except RecursionError:
            self._wrong(path, "", "values nested too deeply", "")
        else:
            self._table(tables_of(Settings), "", document, str(path))

    def _table(self, tables: Tables, prefix: str, table: Mapping[str, Any], file: str) -> None:
        for name, value in table.items():
            dotted = f"{prefix}{name}"
            if name in tables.tables:
                self._nested(tables.tables[name], dotted, value, file)
            elif dotted == HOSTS:
                self._hosts(value, file)
            elif name in tables.keys:
                self._value(tables.keys[name], value, file)
            else:
                self.problems.append(_unknown(tables, prefix, name, file))

    def _nested(self, tables: Tables, dotted: str, value: object, file: str) -> None:
        if isinstance(value, dict):
            self._table(tables, f"{dotted}.", value, file)
        else:
            self._wrong(file, dotted, _shown(value), f"a table: [{dotted}]")

    def _value(self, key: Key, value: object, file: str) -> None:
        converted, problem = _converted(key, key.dotted, value, file)
        if problem is not None:
            self.problems.append(problem)
            return
        self.values[key.dotted] = converted
        self.sources[key.dotted] = file

    def _hosts(self, value: object, file: str) -> None:
        if not isinstance(value, list):
            self._wrong(file, HOSTS, _shown(value), f"one table for each host: [[{HOSTS}]]")
            return
        before = len(self.problems)
        hosts = [self._host(number, row, file) for number, row in enumerate(value, 1)]
        if len(self.problems) == before:
            self.values[HOSTS] = tuple(SshHost(**host) for host in hosts)
            self.sources[HOSTS] = file

    def _host(self, number: int, row: object, file: str) -> dict[str, Any]:
        """The checked fields of one host; what is wrong is noted."""
        prefix = f"{host_key(number)}."
        tables = tables_of(SshHost)
        if not isinstance(row, dict):
            self._wrong(file, host_key(number), _shown(row), f"a table: [[{HOSTS}]]")
            return {}
        for name in row.keys() - tables.keys.keys():
            self.problems.append(_unknown(tables, prefix, name, file))
        for name, key in tables.keys.items():
            if key.required and name not in row:
                self._wrong(file, prefix + name, "nothing", f"{key.allowed}; every host needs it")
        fields = {}
        for name in tables.keys.keys() & row.keys():
            fields[name], problem = _converted(tables.keys[name], prefix + name, row[name], file)
            self.problems += [problem] if problem else []
        return fields

    def environment(self, environ: Mapping[str, str]) -> None:
        """The variables that win over the files."""
        url = environ.get(URL_VARIABLE)
        if url:
            key = next(key for key in keys_of(Settings) if key.dotted == BASE_URL)
            self.values[BASE_URL], problem = _converted(key, URL_VARIABLE, url, "environment")
            self.problems += [problem] if problem else []
            self.sources[BASE_URL] = f"environment ({URL_VARIABLE})"
        if environ.get(KEY_VARIABLE):
            self.sources[API_KEY] = f"environment ({KEY_VARIABLE})"

    def check_together(self) -> None:
        """What only several values together can get wrong."""
        self._check_workers()
        self._check_storage()
        hosts: Sequence[SshHost] = self.values.get(HOSTS, ())
        seen: set[str] = set()
        for number, host in enumerate(hosts, 1):
            if host.name in seen:
                self._wrong(self.sources[HOSTS], f"{host_key(number)}.name", _shown(host.name), "a name of its own")
            seen.add(host.name)

    def _check_workers(self) -> None:
        least, most = "scaler.min_workers", "scaler.max_workers"
        defaults = Settings().scaler
        low, high = self.values.get(least, defaults.min_workers), self.values.get(most, defaults.max_workers)
        if low > high:
            file = self.sources.get(least) or self.sources[most]
            self._wrong(file, least, f"{low} and max_workers {high}", "at most max_workers")

    def _check_storage(self) -> None:
        """Object storage needs a library that is not everybody's: said here, not in the middle of a job."""
        named = self.values.get("checkpoints.s3")
        if named is not None and importlib.util.find_spec(LIBRARY) is None:
            self._wrong(self.sources["checkpoints.s3"], "checkpoints.s3", _shown(named), f"nothing: {EXTRA_MISSING}")

    def _wrong(self, file: str | Path, key: str, found: str, allowed: str) -> None:
        self.problems.append(Problem(str(file), key, found, allowed))


@dataclass(frozen=True, slots=True)
class Explained:
    """One row of `config show`: a key, its value as TOML, where that comes from, what it means and may be."""

    key: str
    value: str
    source: str
    meaning: str
    allowed: str


def explain(loaded: Loaded) -> list[Explained]:
    """Every setting as it is in force; each host's too."""
    rows = [_explained(loaded, key, value_of(loaded.settings, key.dotted), key.dotted) for key in keys_of(Settings)]
    for number, host in enumerate(loaded.settings.providers.ssh.hosts, 1):
        for name, key in tables_of(SshHost).keys.items():
            rows.append(_explained(loaded, key, getattr(host, name), f"{host_key(number)}.{name}"))
    return rows


def _explained(loaded: Loaded, key: Key, value: object, dotted: str) -> Explained:
    source = loaded.source(HOSTS if dotted.startswith(HOSTS) else key.dotted)
    shown = "" if value is None else toml_value(key.shown(value))
    return Explained(dotted, shown, source, key.meaning, key.allowed)


def value_of(settings: object, dotted: str) -> Any:
    """The value that a dotted key has in settings."""
    for name in dotted.split("."):
        settings = getattr(settings, name)
    return settings


def trouble_with(key: Key, value: object) -> str:
    """What is wrong with a value for a setting, in words; empty when it may be written."""
    _, problem = _converted(key, key.dotted, value, "")
    return "" if problem is None else f"allowed is {problem.allowed}{problem.hint}"


def _converted(key: Key, dotted: str, value: object, file: str) -> tuple[Any, Problem | None]:
    """The value as its setting's type, or what is wrong with it."""
    try:
        converted = msgspec.convert(value, key.type, strict=True)
    except (msgspec.ValidationError, OverflowError):
        converted = None
    if converted is None or not _sound(converted) or not key.fits(converted):
        near = nearest(value, key.choices) if isinstance(value, str) else ""
        return None, Problem(file, dotted, _shown(key.shown(value)), key.allowed, near)
    return converted, None


def _sound(value: object) -> bool:
    """No number that is none, and no control characters in any text."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_sound(part) for pair in value.items() for part in pair)
    if isinstance(value, tuple):
        return all(_sound(part) for part in value)
    return not (isinstance(value, str) and _CONTROL.search(value))


def _unknown(tables: Tables, prefix: str, name: str, file: str) -> Problem:
    """A key or table that does not exist. Its value is not repeated: it may be a secret in the wrong place."""
    known = [*tables.tables, *tables.keys]
    hint = nearest(name, known)
    if not hint:
        elsewhere = [key.dotted for key in keys_of(Settings) if key.dotted.rpartition(".")[2] == name]
        hint = f"; did you mean {elsewhere[0]!r}?" if elsewhere else ""
    return Problem(file, _clean(prefix + name), "an unknown key", ", ".join(sorted(known)), hint)


def _shown(value: object) -> str:
    """A value as TOML has it, on one line and not too long."""
    if isinstance(value, datetime | date | time):
        text = value.isoformat()
    elif isinstance(value, dict):
        text = f"{{ {', '.join(f'{json.dumps(name)} = {_shown(part)}' for name, part in list(value.items())[:3])} }}"
    elif isinstance(value, str | bool):
        text = json.dumps(value)
    else:
        text = _number_or_list(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _number_or_list(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(part) for part in value[:10])}{', ...' if len(value) > 10 else ''}]"
    return "a whole number of very many digits" if isinstance(value, int) and abs(value) > 10**40 else repr(value)


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _built(kind: Any, prefix: str, values: Mapping[str, Any]) -> Any:
    """An object of a settings class from checked values by dotted key; what is not there keeps its default."""
    tables = tables_of(kind)
    inner = {name: _built(part.kind, f"{prefix}{name}.", values) for name, part in tables.tables.items()}
    names = [*tables.keys, *(["hosts"] if f"{prefix}hosts" == HOSTS else [])]
    own = {name: values[prefix + name] for name in names if prefix + name in values}
    return kind(**inner, **own)


def _warnings(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """A GPU that nobody has heard of but that looks like one: allowed, for markets know more than we do."""
    name = settings.scaler.gpu_type
    near = nearest(canonical_gpu(name), KNOWN_GPUS)
    own = any(same_gpu(host.gpu_type, name) for host in settings.providers.ssh.hosts)
    if near and not own and canonical_gpu(name) not in (*KNOWN_GPUS, "none"):
        yield f"{sources['scaler.gpu_type']}: scaler.gpu_type: {name!r} is no GPU that is known here{near}"
