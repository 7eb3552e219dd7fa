"""What settings there are: every key with its type, its limits in words, its meaning and its default.

All of it is read off the dataclasses of `model.settings`, so that help, template and refusals never disagree with what
is checked. The few rules that no annotation can express stand in `RULES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import inspect

from gpuscale_tui.model import objects
from gpuscale_tui.model.jobs import GPU, IMAGE
from gpuscale_tui.model.settings import Settings, SshHost

HOSTS = "providers.ssh.hosts"
API_KEY = "providers.clore.api_key_file"
BASE_URL = "providers.clore.base_url"
NOTIFY_URLS = "notify.urls"
AT_THE_NEXT_START = frozenset(f"checkpoints.{name}" for name in ("dir", "s3", "s3_endpoint", "s3_sign_sec"))
"""What only an engine that starts takes up: snapshots lie where they lie. Everything else counts at once."""
CURRENCIES = ("USD-Blockchain", "CLORE-Blockchain", "bitcoin")
"""Wallets of a Clore account (Clore API reference, section 2)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit beyond the type: what is allowed in words, the test, and the choices where there are only so many."""

    allowed: str
    test: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `dotted` is its full name; `default` means nothing where it is `required`."""

    dotted: str
    type: Any
    default: Any
    required: bool
    meaning: str
    allowed: str
    choices: tuple[str, ...] = ()
    rule: Rule | None = None

    def shown(self, value: object) -> object:
        """The value as it may be shown: of an address of notices, which is a secret, only how it begins."""
        if self.dotted != NOTIFY_URLS:
            return value
        if isinstance(value, tuple | list):
            return [_beginning(part) for part in value]
        return _beginning(value)

    def fits(self, value: object) -> bool:
        """Whether a value of the right type keeps the setting's own rule too."""
        return value is None or self.rule is None or self.rule.test(value)


@dataclass(frozen=True, slots=True)
class Tables:
    """One settings class: its keys, and the classes nested in it, by name."""

    kind: Any
    meaning: str
    keys: Mapping[str, Key]
    tables: Mapping[str, Tables] = field(default_factory=dict)


def _beginning(url: object) -> str:
    """`slack://...`; where a secret is kept is none."""
    text = str(url)
    if text.startswith(("file:", "env:")):
        return text
    return f"{text.partition('://')[0]}://..." if "://" in text[:32] else "..."


def _gpu_or_none(value: str) -> bool:
    return GPU.match(value) is not None


_GPU_RULE = Rule("a GPU model such as 'RTX 4090', or none", _gpu_or_none)
RULES: Mapping[str, Rule] = {
    "scaler.gpu_type": _GPU_RULE,
    "scaler.docker_image": Rule(
        "a Docker image name such as cloreai/jupyter:ubuntu24.04-v2", lambda value: IMAGE.match(value) is not None
    ),
    "providers.clore.currency": Rule(" or ".join(CURRENCIES), lambda value: value in CURRENCIES, CURRENCIES),
    "providers.clore.exclude_countries": Rule(
        'a list of two-letter countries such as ["CN", "RU"]',
        lambda value: all(re.fullmatch(r"[A-Za-z]{2}", country) for country in value),
    ),
    "checkpoints.s3": Rule(f"{objects.FORM}; {objects.CHARACTERS}", objects.sound_place),
    "checkpoints.s3_endpoint": Rule(
        "an address that begins with https:// or http://, without user and query", objects.sound_endpoint
    ),
    f"{HOSTS}.gpu_type": _GPU_RULE,
}

_PATTERNS: Mapping[str, str] = {
    r"^https?://": "an address that begins with https:// or http://",
    r"^([0-9]{1,2}(\.[0-9]{1,2})?)?$": "a version such as 12.4, or nothing",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$": "up to 63 letters, digits, dots, dashes and underscores",
    r"^[A-Za-z0-9:][A-Za-z0-9.:_-]{0,254}$": "a host name or an IP address",
    r"^[a-z_][a-z0-9_-]{0,31}$": "a user name of up to 32 small letters, digits, dashes and underscores",
}


@cache
def tables_of(kind: Any, prefix: str = "") -> Tables:
    """The keys and nested tables of a settings class."""
    if kind is SshHost and not prefix:
        prefix = f"{HOSTS}."
    hints = get_type_hints(kind, include_extras=True)
    keys, tables = {}, {}
    for part in fields(kind):
        hint: Any = hints[part.name]
        if _is_table(hint):
            tables[part.name] = tables_of(hint, f"{prefix}{part.name}.")
        elif not _is_list_of_tables(hint):
            keys[part.name] = _key(f"{prefix}{part.name}", hint, _default(part))
    return Tables(kind, (kind.__doc__ or "").strip(), keys, tables)


@cache
def keys_of(kind: Any) -> tuple[Key, ...]:
    """Every key of a settings class, nested ones too; a host's keys are those of `SshHost`."""
    return tuple(_walk(tables_of(kind)))


def _walk(tables: Tables) -> Iterator[Key]:
    yield from tables.keys.values()
    for nested in tables.tables.values():
        yield from _walk(nested)


def host_key(number: int) -> str:
    """`providers.ssh.hosts[1]`: the first host of the file."""
    return f"{HOSTS}[{number}]"


def _is_table(hint: Any) -> bool:
    return is_dataclass(hint)


def _is_list_of_tables(hint: Any) -> bool:
    return get_origin(hint) is tuple and is_dataclass(get_args(hint)[0])


def _default(part: Any) -> Any:
    if part.default is not MISSING:
        return part.default
    return MISSING if part.default_factory is MISSING else part.default_factory()


def _key(dotted: str, hint: Any, default: Any) -> Key:
    described = inspect.type_info(hint)
    schema = described.extra_json_schema if isinstance(described, inspect.Metadata) else None
    inner = described.type if isinstance(described, inspect.Metadata) else described
    rule = RULES.get(dotted)
    choices = rule.choices if rule else _choices(inner)
    return Key(
        dotted=dotted,
        type=hint,
        default=default,
        required=default is MISSING,
        meaning=str((schema or {}).get("description", "")),
        allowed=rule.allowed if rule else in_words(inner),
        choices=choices,
        rule=rule,
    )


def _choices(kind: inspect.Type) -> tuple[str, ...]:
    return tuple(str(value) for value in kind.values) if isinstance(kind, inspect.LiteralType) else ()


def in_words(kind: inspect.Type) -> str:
    """What a type allows, for a person."""
    for known, words in _WORDS:
        if isinstance(kind, known):
            return words(kind)
    return "a value of another kind"


def _union(kind: inspect.UnionType) -> str:
    return " or ".join(in_words(part) for part in kind.types if not isinstance(part, inspect.NoneType))


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    least = f" from {kind.ge:,.12g}" if kind.ge is not None else ""
    above = f" above {kind.gt:,.12g}{' up' if kind.le is not None else ''}" if kind.gt is not None else ""
    most = f" to {kind.le:,.12g}" if kind.le is not None else ""
    return least + above + most


def _text(kind: inspect.StrType) -> str:
    if kind.pattern is not None:
        return _PATTERNS.get(kind.pattern, f"text that matches {kind.pattern}")
    least = " that is not empty" if kind.min_length else ""
    most = f" of at most {kind.max_length} characters" if kind.max_length is not None else ""
    return f"text{least}{most}"


_WORDS: tuple[tuple[type[inspect.Type], Callable[[Any], str]], ...] = (
    (inspect.Metadata, lambda kind: in_words(kind.type)),
    (inspect.UnionType, _union),
    (inspect.IntType, lambda kind: f"a whole number{_range(kind)}"),
    (inspect.FloatType, lambda kind: f"a number{_range(kind)}"),
    (inspect.BoolType, lambda _: "true or false"),
    (inspect.StrType, _text),
    (inspect.LiteralType, lambda kind: " or ".join(json.dumps(value) for value in kind.values)),
    (inspect.VarTupleType, lambda kind: f"a list, each of it {in_words(kind.item_type)}"),
    (inspect.DictType, lambda kind: f"a table, each value of it {in_words(kind.value_type)}"),
)


def toml_value(value: object) -> str:
    """A default as it would be written in TOML."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return (
            "{}"
            if not value
            else "{ " + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
        )
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml_value(part) for part in value)}]"
    return repr(value)


def all_tables() -> Iterator[tuple[str, Tables]]:
    """Every table with keys of its own, by dotted name, in the dataclasses' order; the hosts come as `SshHost`."""
    yield from _all_tables("", tables_of(Settings))


def _all_tables(name: str, tables: Tables) -> Iterator[tuple[str, Tables]]:
    if tables.keys:
        yield name, tables
    if name == HOSTS.rpartition(".")[0]:
        yield HOSTS, tables_of(SshHost)
    for inner, nested in tables.tables.items():
        yield from _all_tables(f"{name}.{inner}" if name else inner, nested)


_EXAMPLES: Mapping[str, str | float] = {
    "checkpoints.s3": "s3://my-snapshots/gpuscale",
    "checkpoints.s3_endpoint": "https://s3.eu-central-1.amazonaws.com",
    API_KEY: "~/.config/gpuscale/clore.key",
    "budget.daily": 20.0,
    "budget.monthly": 300.0,
    "budget.per_job": 10.0,
    "checkpoints.dir": "/data/checkpoints",
    f"{HOSTS}.name": "lab1",
    f"{HOSTS}.host": "192.0.2.17",
    f"{HOSTS}.key_file": "~/.ssh/id_ed25519",
}
"""Shown in the template where there is no default to show."""

_HEAD = """\
# Settings of gpuscale. Every key stands here with its meaning, what it may be and its default; a line that begins with
# `#` is a comment, so take the `#` away to set something. `gpuscale config check` says whether all is well, and
# `gpuscale config show` what is in force and where it comes from. The program never rewrites this file.
"""


def template() -> str:
    """A commented config.toml with every key there is."""
    return _HEAD + "".join(_table_text(name, tables) for name, tables in all_tables())


def _table_text(name: str, tables: Tables) -> str:
    many = name == HOSTS
    header = f"# [[{name}]]" if many else f"[{name}]"
    note = "\n# One such table for each host." if many else ""
    return f"\n{header}\n# {tables.meaning}{note}\n" + "".join(_key_text(key) for key in tables.keys.values())


def _key_text(key: Key) -> str:
    name = key.dotted.rpartition(".")[2]
    shown = key.default
    if key.required or shown is None:
        shown = _EXAMPLES.get(key.dotted, "")
    notes = "needed" if key.required else "not set by default" if key.default is None else ""
    return (
        f"\n# {key.meaning} Allowed: {key.allowed}{f' ({notes})' if notes else ''}.\n# {name} = {toml_value(shown)}\n"
    )
