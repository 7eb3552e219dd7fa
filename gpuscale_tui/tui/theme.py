"""Themes: TOML files, found beside the program and in the user's config directory, checked strictly.

A theme file has `description`, `dark`, `ansi` and two tables. `[colors]` names every colour of COLORS, as `#rrggbb` or,
for the terminal's own sixteen, `ansi_red`. `[states]` may give a job's or worker's state a colour of its own. The
theme's name is the file's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuscale_tui.model.errors import GpuscaleError, nearest

if TYPE_CHECKING:
    from textual.theme import Theme

COLORS = (
    "foreground", "muted", "background", "surface", "panel", "border", "primary", "accent", "success", "warning",
    "error", "cursor", "cursor-text",
)  # fmt: skip
"""What a theme must colour: texts, three depths of ground, lines, and what needs an eye."""

STATES: Mapping[str, str] = {
    "pending": "foreground", "running": "primary", "done": "success", "failed": "error", "cancelled": "muted",
    "ordering": "accent", "booting": "accent", "idle": "warning", "busy": "primary", "releasing": "accent",
    "released": "muted", "lost": "error", "assigned": "accent", "staging": "accent", "saving": "accent",
    "ended": "muted", "stopping": "accent",
}  # fmt: skip
"""The colour that a state has unless `[states]` gives it another."""

NO_COLOR_THEME = "ansi-16"
LIGHT_ANSI_THEME = "ansi-light"
MAX_BYTES = 64 * 1024

_KEYS = ("description", "dark", "ansi", "colors", "states")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RGB = re.compile(r"#[0-9a-fA-F]{6}")
_ANSI = re.compile(r"ansi_(?:default|(?:bright_)?(?:black|red|green|yellow|blue|magenta|cyan|white))")


class ThemeError(GpuscaleError, ValueError):
    """A theme that is missing or wrong: the message names the file, the key, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class ThemeFile:
    """A theme as its file says it, every colour there."""

    name: str
    description: str
    dark: bool
    ansi: bool
    colors: Mapping[str, str]
    states: Mapping[str, str]
    path: Path | None = None


def directories(user_config: Path | None) -> list[Path]:
    """Where themes are looked for, the user's first. Ours lie in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    bundled = [package / "themes", package.parent / "themes"]
    own = [] if user_config is None else [user_config / "themes"]
    return [path for path in (*own, *bundled) if path.is_dir()]


def available(places: Iterable[Path]) -> list[str]:
    """Names of the themes found, in alphabetical order."""
    return sorted({path.stem for place in places for path in place.glob("*.toml") if _NAME.fullmatch(path.stem)})


def load(name: str, places: Sequence[Path]) -> ThemeFile:
    """Read and check a theme by name. Raises ThemeError."""
    for place in places:
        path = place / f"{name}.toml"
        if _NAME.fullmatch(name) and path.is_file():
            return read(path)
    known = available(places)
    raise ThemeError(f"ui.theme: there is no theme {name!r}; there are {', '.join(known)}{nearest(name, known)}")


def read(path: Path) -> ThemeFile:
    """Read and check one theme file. Raises ThemeError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ThemeError(f"{path}: larger than {MAX_BYTES} bytes; a theme is a short file")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThemeError(f"{path}: cannot be read as TOML: {error}") from error
    _check_keys(path, "", table, _KEYS)
    colors = _colors(path, "colors", table.get("colors", {}), COLORS)
    missing = [key for key in COLORS if key not in colors]
    if missing:
        raise ThemeError(f"{path}: [colors] lacks {', '.join(missing)}; every theme gives all of {', '.join(COLORS)}")
    own = _colors(path, "states", table.get("states", {}), STATES)
    return ThemeFile(
        name=path.stem,
        description=_typed(path, table, "description", str, ""),
        dark=_typed(path, table, "dark", bool, True),
        ansi=_typed(path, table, "ansi", bool, False),
        colors=colors,
        states={state: own.get(state, colors[color]) for state, color in STATES.items()},
        path=path,
    )


def stamp_of(path: Path | None) -> tuple[int, int] | None:
    """What changes with a file, to know when to read it; None where there is none."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)


def described(places: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Names of the themes found, and a line about each."""
    names, lines = available(places), []
    for name in names:
        try:
            about = load(name, places).description
        except ThemeError:
            about = "there is something wrong with its file"
        lines.append(f"{name:<20} {about}")
    return names, lines


def fitting(name: str, environ: Mapping[str, str], places: Sequence[Path]) -> str:
    """The theme for a terminal: without colours, or with sixteen, one that uses what the terminal has.

    A terminal has sixteen where nothing says that it has more, as `rich` reckons it: the Linux console does.
    """
    if environ.get("NO_COLOR"):
        return NO_COLOR_THEME
    said = f"{environ.get('TERM', '')} {environ.get('COLORTERM', '')}".lower()
    more = ("256color", "truecolor", "24bit", "kitty", "direct")
    if not environ.get("TERM") or any(word in said for word in more):
        return name
    try:
        found = load(name, places)
    except ThemeError:
        return name  # whoever loads it says what is wrong with it
    return name if found.ansi else NO_COLOR_THEME if found.dark else LIGHT_ANSI_THEME


def _check_keys(path: Path, where: str, table: Mapping[str, Any], allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    for key in table:
        if key not in allowed:
            place = f"[{where}] " if where else ""
            raise ThemeError(
                f"{path}: {place}has the key {key!r}; allowed are {', '.join(allowed)}{nearest(key, allowed)}"
            )


def _colors(path: Path, where: str, table: object, allowed: Iterable[str]) -> dict[str, str]:
    if not isinstance(table, dict):
        raise ThemeError(f"{path}: {where} must be a table, [{where}], and is {table!r}")
    _check_keys(path, where, table, allowed)
    for key, value in table.items():
        if not isinstance(value, str) or not (_RGB.fullmatch(value) or _ANSI.fullmatch(value)):
            raise ThemeError(
                f"{path}: [{where}] {key}: found {value!r}; allowed is a colour such as '#6cb2f7', or one of the"
                f" terminal's own such as 'ansi_bright_blue'"
            )
    return dict(table)


def _typed(path: Path, table: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = table.get(key, default)
    if not isinstance(value, kind):
        words = {str: "a text", bool: "true or false"}
        raise ThemeError(f"{path}: {key}: found {value!r}; allowed is {words[kind]}")
    return value


def textual_theme(theme: ThemeFile) -> Theme:
    """The theme as Textual's widgets (inputs, buttons, the palette) need it."""
    from textual.theme import Theme

    color = theme.colors
    return Theme(
        name=theme.name,
        dark=theme.dark,
        ansi=theme.ansi,
        primary=color["primary"],
        secondary=color["accent"],
        accent=color["accent"],
        success=color["success"],
        warning=color["warning"],
        error=color["error"],
        foreground=color["foreground"],
        background=color["background"],
        surface=color["surface"],
        panel=color["panel"],
        boost=color["surface"],
        variables=_variables(theme),
    )


def _variables(theme: ThemeFile) -> dict[str, str]:
    color = theme.colors
    ground, text = ("ansi_white", "ansi_black") if theme.ansi else (color["primary"], color["background"])
    terminal = {"ansi-background": "ansi_default", "ansi-foreground": "ansi_default"} if theme.ansi else {}
    return terminal | {
        "muted": color["muted"],
        "line": color["border"],
        "border": color["primary"],
        "border-blurred": color["border"],
        "block-cursor-background": ground if theme.ansi else color["cursor"],
        "block-cursor-foreground": text if theme.ansi else color["cursor-text"],
        "block-cursor-blurred-background": color["surface"],
        "block-cursor-blurred-foreground": color["foreground"],
        "block-hover-background": color["surface"],
        "input-cursor-background": ground,
        "input-cursor-foreground": text,
        "input-selection-background": "ansi_blue" if theme.ansi else color["border"],
        "scrollbar": color["border"],
        "scrollbar-hover": color["muted"],
        "scrollbar-active": color["primary"],
        "scrollbar-background": color["background"],
        "scrollbar-background-hover": color["background"],
        "scrollbar-background-active": color["background"],
        "scrollbar-corner-color": color["background"],
    }
