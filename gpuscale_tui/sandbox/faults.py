"""Misbehaviour on demand: which faults exist, how they are written, and which are switched on now.

Syntax, the same on the command line, in a TOML file and in `POST /sandbox/faults`:

    NAME                        on, until switched off
    NAME=VALUE                  VALUE is what the fault's description says: seconds, a factor, a glob, or how often
    NAME=VALUE,KEY=VALUE,...    further settings; `count=N` strikes N times at most, `skip=N` lets the first N go by

    [faults]                                            # faults.toml
    create_500_after_success = 1                        # the first time only
    slow_replies = 2.5
    evict_when_file = { value = "**/step-*", min_seconds = 20 }
    ssh_drop = false                                    # off
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from gpuscale_tui.sandbox.catalogue import CATALOGUE, Kind
from gpuscale_tui.sandbox.clock import Clock

Setting = str | int | float | bool


class FaultError(ValueError):
    """A fault that does not exist or is written wrongly; the message says which and what is allowed."""


@dataclass(slots=True)
class Fault:
    """A fault that is switched on. `count` is how often it may still strike, None for ever."""

    kind: Kind
    value: str | float | None
    count: int | None
    skip: int
    extra: dict[str, str | float]
    since_ms: int
    source: str
    struck: int = 0

    @property
    def amount(self) -> float:
        """The main value, where it is a number (seconds, a factor); 0 when none was given."""
        return float(self.value or 0)

    def number(self, key: str, default: float) -> float:
        """A further setting that is a number."""
        return float(self.extra.get(key, default))

    def describe(self) -> dict[str, Any]:
        """The fault as the control surface shows it."""
        return {"value": self.value, "left": self.count, "struck": self.struck, "source": self.source, **self.extra}


@dataclass(slots=True)
class FaultBoard:
    """All faults that are on, by name. `strike` asks for one and uses it up."""

    clock: Clock
    active: dict[str, Fault] = field(default_factory=dict)

    def set(self, name: str, setting: Setting | Mapping[str, Any], source: str = "control") -> None:
        """Switch a fault on (or off with False). Raises FaultError."""
        if setting is False:
            self.active.pop(name, None)
            return
        self.active[name] = make_fault(name, setting, self.clock(), source)

    def set_text(self, text: str, source: str = "command line") -> None:
        """Switch on a fault written as `NAME[=VALUE][,KEY=VALUE...]`. Raises FaultError."""
        self.set(*parse(text), source)

    def replace_source(self, faults: Mapping[str, Any], source: str) -> None:
        """Make the faults of one source (a file) exactly these. Raises FaultError and then changes nothing."""
        made = {name: make_fault(name, it, self.clock(), source) for name, it in faults.items() if it is not False}
        for name in [name for name, fault in self.active.items() if fault.source == source]:
            del self.active[name]
        self.active.update(made)

    def clear(self) -> None:
        """Switch everything off."""
        self.active.clear()

    def peek(self, name: str, *, path: str = "", server: int | None = None) -> Fault | None:
        """The fault if it would strike now, without using it up."""
        fault = self.active.get(name)
        if fault is None or fault.count == 0 or not _concerns(fault, path, server):
            return None
        if fault.kind.lasts and fault.value is not None and self._age(fault) > fault.amount * 1000:
            return None
        return fault

    def strike(self, name: str, *, path: str = "", server: int | None = None) -> Fault | None:
        """The fault if it strikes now; counts the strike."""
        fault = self.peek(name, path=path, server=server)
        if fault is None:
            return None
        if fault.skip > 0:
            fault.skip -= 1
            return None
        if fault.count is not None:
            fault.count -= 1
        fault.struck += 1
        return fault

    def _age(self, fault: Fault) -> int:
        return self.clock() - fault.since_ms


def _concerns(fault: Fault, path: str, server: int | None) -> bool:
    if "path" in fault.extra and not fnmatch(path.rpartition("/")[2], str(fault.extra["path"])):
        return False
    return "server" not in fault.extra or fault.number("server", 0) == server


def parse(text: str) -> tuple[str, Setting | dict[str, Setting]]:
    """Split `NAME[=VALUE][,KEY=VALUE...]`. Raises FaultError."""
    head, *rest = text.split(",")
    name, equals, value = head.partition("=")
    settings: dict[str, Setting] = {"value": value} if equals else {}
    for part in rest:
        key, equals, setting = part.partition("=")
        if not equals:
            raise FaultError(f"fault {text!r}: {part!r} is not KEY=VALUE")
        settings[key] = setting
    return name, settings or True


def make_fault(name: str, setting: Setting | Mapping[str, Any], now_ms: int, source: str) -> Fault:
    """Check a fault's name and settings. Raises FaultError."""
    kind = CATALOGUE.get(name)
    if kind is None:
        raise FaultError(f"no fault {name!r}; there are: {', '.join(CATALOGUE)}")
    settings = dict(setting) if isinstance(setting, Mapping) else {} if setting is True else {"value": setting}
    if unknown := settings.keys() - {"value", "count", "skip"} - set(kind.keys):
        allowed = ", ".join(("value", "count", "skip", *kind.keys))
        raise FaultError(f"fault {name}: no setting {sorted(unknown)[0]!r}; there are: {allowed}")
    value = settings.pop("value", None)
    count = settings.pop("count", kind.count)
    if kind.takes == "count":
        value, count = None, value if value is not None else count
    elif value is None and kind.needed:
        raise FaultError(f"fault {name} needs a value: {kind.takes}")
    return Fault(
        kind,
        str(value) if kind.takes == "glob" else _number(name, value),
        _whole(name, count),
        _whole(name, settings.pop("skip", 0)) or 0,
        {key: it if key in {"path", "reason"} else _number(name, it) or 0.0 for key, it in settings.items()},
        now_ms,
        source,
    )


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FaultError(f"fault {name}: {value!r} is not a number") from None


def _whole(name: str, value: Any) -> int | None:
    number = _number(name, value)
    return None if number is None else int(number)


def load_file(path: Path) -> dict[str, Any]:
    """The `[faults]` table of a TOML file. Raises FaultError for bad TOML or a bad table, OSError when unreadable."""
    try:
        faults = tomllib.loads(path.read_text()).get("faults", {})
    except tomllib.TOMLDecodeError as error:
        raise FaultError(f"{path}: {error}") from None
    if not isinstance(faults, dict):
        raise FaultError(f"{path}: [faults] must be a table")
    return faults
