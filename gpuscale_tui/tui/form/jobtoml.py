"""The form's texts as a job file, for an editor, and back. Secrets stay in the form."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuscale_tui.model.errors import nearest
from gpuscale_tui.model.jobs import is_secret_name
from gpuscale_tui.tui.draft import FIELDS, NAMES, NO, YES, Texts, is_readable, joined, variables, without_secrets

WHOLE = frozenset({"gpus", "priority", "retries"})
TABLES = frozenset({"env", "data"})
SHOWN = tuple(each for each in FIELDS if each.name != "secret")


@dataclass(frozen=True, slots=True)
class Read:
    """A job file as texts of the form; what is wrong stands at its field, or under "" when it is the file itself."""

    texts: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)


def written(texts: Texts) -> str:
    """The job file: every field with its meaning, those without a value as comments."""
    lines = ["# Save and leave the editor to go on with this in the form; nothing is submitted by that.",
             "# Secrets are not in here: they stay in the form.", "", "[[jobs]]"]  # fmt: skip
    for each in SHOWN:
        value = texts[each.name].strip() if each.name != "env" else without_secrets(texts["env"].strip())
        lines += [f"# {each.hint}", _line(each.name, value)]
    return "\n".join(lines) + "\n"


def _line(name: str, value: str) -> str:
    if name in TABLES and is_readable(value):
        pairs = [f"{_quoted(key)} = {_quoted(part)}" for key, part in variables(value)]
        return f"{name} = {{ {', '.join(pairs)} }}" if pairs else f"# {name} = {{}}"
    if name == "rehearse" and value in {"", YES, NO}:
        return f"{'' if value else '# '}rehearse = {'true' if value == YES else 'false'}"
    if name == "sweep":
        return f"sweep = [{', '.join(_quoted(part) for part in value.split())}]" if value else "# sweep = []"
    if not value:
        return f"# {name} = {'0' if name in WHOLE else _quoted('')}"
    if name in WHOLE and value.isascii() and value.isdigit() and str(int(value)) == value:
        return f"{name} = {value}"
    return f"{name} = {_quoted(value)}"


def _quoted(text: str) -> str:
    """A TOML basic string: anything that could end it or move a cursor is escaped."""
    shown = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(shown.get(each) or (each if each.isprintable() else _escaped(each)) for each in text) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read(document: str, before: Texts) -> Read:
    """Read a job file back; the secrets are those of before, and what is not in it is empty."""
    try:
        content = tomllib.loads(document)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return Read(dict(before), {"": f"no valid TOML: {error}"})
    strangers = [key for key in content if key != "jobs"]
    jobs = content.get("jobs", [])
    if strangers or not isinstance(jobs, list) or len(jobs) != 1 or not isinstance(jobs[0], dict):
        found = f"{strangers[0]!r} is no table of a job file" if strangers else "it has to have one [[jobs]] table"
        return Read(dict(before), {"": found})
    return _texts(jobs[0], before)


def _texts(entry: Mapping[str, Any], before: Texts) -> Read:
    texts = {**dict.fromkeys(NAMES, ""), "secret": before["secret"]}
    if without_secrets(before["env"].strip()) == "":  # what could not be told stayed in the form
        texts["env"] = before["env"]
    errors: dict[str, str] = {}
    for key, value in entry.items():
        if key == "secret" or key not in NAMES:
            known = [each.name for each in SHOWN]
            errors[""] = "secrets stay in the form" if key == "secret" else f"unknown key {key!r}{nearest(key, known)}"
            continue
        try:
            texts[key] = _READERS.get(key, _plain)(value)
        except ValueError as error:
            errors[key] = str(error)
            texts[key] = before[key]
    return Read(texts, errors)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a text or a number")  # noqa: TRY004 - what a file has is a value, not a type
    return str(value)


def _env(value: Any) -> str:
    if isinstance(value, str) and not is_secret_name(value):
        return value
    if not isinstance(value, dict):
        raise ValueError('a table such as { A = "1" }')  # noqa: TRY004 - what a file has is a value, not a type
    pairs = [(str(name), _plain(part)) for name, part in value.items()]
    if any(is_secret_name(name) for name, _ in pairs):
        raise ValueError("no secrets in the file: they stay in the form")
    return joined(pairs)


def _data(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) and "=" in part for part in value):
        return joined((name, path) for name, _, path in (part.partition("=") for part in value))
    if not isinstance(value, dict):
        raise ValueError('a table such as { words = "/data/words" }')  # noqa: TRY004 - as above
    return joined((str(name), _plain(part)) for name, part in value.items())


def _rehearse(value: Any) -> str:
    if isinstance(value, str):  # half written
        return value
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - what a file has is a value, not a type
    return YES if value else ""


def _sweep(value: Any) -> str:
    if isinstance(value, dict):
        parts = [f"{name}={_listed(part)}" for name, part in value.items()]
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        parts = value
    else:
        raise ValueError('a list such as ["lr=1e-3,5e-4"], or a table of lists')
    if any(len(part.split()) != 1 for part in parts):
        raise ValueError("values without blanks")
    return " ".join(parts)


def _listed(value: Any) -> str:
    return ",".join(_plain(part) for part in (value if isinstance(value, list) else [value]))


_READERS: Mapping[str, Callable[[Any], str]] = {
    "env": _env, "sweep": _sweep, "data": _data, "rehearse": _rehearse,
}  # fmt: skip
