"""Keys as a user knows them, and the user's own choice of them: `[ui.keymap]`, checked against the table of actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpuscale_tui.model.errors import GpuscaleError, nearest
from gpuscale_tui.tui.actions import ACTIONS, Action, by_id


class KeymapError(GpuscaleError, ValueError):
    """`[ui.keymap]` names an action or a key that cannot be, or the same key twice."""


_SIGNS = {
    "question_mark": "?", "exclamation_mark": "!", "slash": "/", "plus": "+", "minus": "-", "equals_sign": "=",
    "colon": ":", "left_square_bracket": "[", "right_square_bracket": "]", "escape": "esc", "pagedown": "pgdn",
    "pageup": "pgup", "full_stop": ".", "comma": ",", "semicolon": ";", "tilde": "~", "at": "@", "dollar_sign": "$",
    "number_sign": "#", "percent_sign": "%", "ampersand": "&", "asterisk": "*", "underscore": "_",
    "less_than_sign": "<", "greater_than_sign": ">", "apostrophe": "'", "quotation_mark": '"', "backslash": "\\",
    "vertical_line": "|", "circumflex_accent": "^", "grave_accent": "`", "left_parenthesis": "(",
    "right_parenthesis": ")", "left_curly_bracket": "{", "right_curly_bracket": "}",
}  # fmt: skip
_NAMES = {sign: name for name, sign in _SIGNS.items() if len(sign) == 1}
_NAMED_KEYS = frozenset(_SIGNS) | {
    "enter", "space", "tab", "shift+tab", "up", "down", "left", "right", "home", "end", "insert", "delete", "backspace",
    *(f"f{number}" for number in range(1, 13)),
}  # fmt: skip


def display_key(key: str) -> str:
    """A key as a user knows it: `?`, `^p`, `esc`."""
    key = key.strip()
    if key.startswith("ctrl+"):
        return "^" + key.removeprefix("ctrl+")
    return _SIGNS.get(key, key)


def display_keys(action: Action, keymap: Mapping[str, str] | None = None) -> list[str]:
    """All keys of an action as a user knows them, those of the keymap where it names the action."""
    keys = (keymap or {}).get(action.id, action.keys)
    return [display_key(key) for key in keys.split(",")]


def checked_keymap(keymap: Mapping[str, str]) -> dict[str, str]:
    """`[ui.keymap]` as Textual wants it. Raises KeymapError for unknown ids, unknown keys, and keys used twice."""
    known = by_id()
    for action_id in keymap:
        if action_id not in known:
            raise KeymapError(
                f"ui.keymap: there is no action {action_id!r}{nearest(action_id, known)}; `?` on the screen lists them"
            )
    named = {action_id: _key_names(action_id, keys) for action_id, keys in keymap.items()}
    _check_clashes({action.id: named.get(action.id, action.keys).split(",") for action in ACTIONS})
    return named


def _key_names(action_id: str, keys: str) -> str:
    names = []
    for key in (part.strip() for part in keys.split(",")) if keys != "," else ("comma",):
        name = _NAMES.get(key, key)
        plain = name.removeprefix("ctrl+").removeprefix("shift+")
        if not name or not ((len(plain) == 1 and plain.isalnum() and plain.isascii()) or plain in _NAMED_KEYS):
            raise KeymapError(
                f"ui.keymap: {action_id}: found the key {key!r}; allowed are characters such as 'x' or '+', names such"
                f" as 'enter' or 'f5', and 'ctrl+' before a letter; several are set apart by commas"
            )
        names.append(name)
    return ",".join(names)


def _check_clashes(keys: Mapping[str, Iterable[str]]) -> None:
    taken: dict[tuple[str, str], str] = {}
    for action in ACTIONS:
        for key in keys[action.id]:
            for screen in action.where:
                other = taken.setdefault((screen, key), action.id)
                if other != action.id:
                    raise KeymapError(
                        f"ui.keymap: the key {display_key(key)!r} would mean both {other} and {action.id} on the screen"
                        f" {screen!r}: give one of them another key"
                    )


def key_table() -> str:
    """The list of keys as a Markdown table, for the README."""
    rows = ["| key | id | what it does |", "|---|---|---|"]
    for action in ACTIONS:
        keys = " ".join(f"`{key}`" if key != "`" else "`` ` ``" for key in display_keys(action))
        rows.append(f"| {keys.replace('|', chr(92) + '|')} | `{action.id}` | {action.help} |")
    return "\n".join(rows)
