"""Themes: found, checked with clear errors, readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.color import Color

from gpuscale_tui.tui import theme
from gpuscale_tui.tui.format import UNICODE
from gpuscale_tui.tui.look import make
from gpuscale_tui.tui.theme import COLORS, ThemeError

PLACES = theme.directories(None)
NAMES = theme.available(PLACES)
GOOD = "\n".join(["[colors]", *(f'{key} = "#123456"' for key in COLORS)])


def test_the_promised_themes_are_there() -> None:
    """Dark, light, high contrast, safe for colour-blind eyes, sixteen colours, and one more."""
    assert {"gpuscale-dark", "gpuscale-light", "high-contrast", "colour-blind-safe", "ansi-16"} <= set(NAMES)
    assert len(NAMES) >= 6


def contrast(one: str, two: str) -> float:
    """The contrast ratio of WCAG 2."""
    light = []
    for name in (one, two):
        channels = [value / 255 for value in Color.parse(name).rgb]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_every_text_can_be_read_on_every_ground(name: str) -> None:
    """4.5 to 1 for all texts and states on all grounds and on the cursor; 7 to 1 in the high-contrast theme."""
    found = theme.load(name, PLACES)
    if found.ansi:
        pytest.skip("the terminal's own colours are the user's to choose")
    least = 7.0 if name == "high-contrast" else 4.5
    texts = {key: found.colors[key] for key in ("foreground", "primary", "accent", "success", "warning", "error")}
    texts |= found.states
    for ground in ("background", "surface", "panel", "cursor"):
        for key, value in texts.items():
            if ground == "cursor" and value == found.colors["muted"]:
                continue
            assert contrast(value, found.colors[ground]) >= least, (key, ground)
    for ground in ("background", "surface", "panel"):
        assert contrast(found.colors["muted"], found.colors[ground]) >= least, ("muted", ground)
    assert contrast(found.colors["cursor-text"], found.colors["cursor"]) >= least


@pytest.mark.parametrize("name", NAMES)
def test_a_theme_becomes_a_look_with_a_visible_cursor(name: str) -> None:
    """Every state has a style, and the row under the cursor differs from the others by more than a colour of text."""
    look = make(theme.load(name, PLACES), UNICODE, None)
    assert {f"state-{state}" for state in theme.STATES} <= look.styles.keys()
    cursor, ground = look.styles["cursor"], look.styles["ground"]
    assert cursor.reverse or cursor.bgcolor != ground.bgcolor
    assert theme.textual_theme(theme.load(name, PLACES)).to_color_system().generate()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colors = 3", ["[colors]"]),
        ("[colours]", ["'colours'", "did you mean 'colors'"]),
        (GOOD.replace('error = "#123456"', 'eror = "#123456"'), ["'eror'", "did you mean 'error'"]),
        (GOOD.replace('error = "#123456"', ""), ["lacks error"]),
        (GOOD.replace('error = "#123456"', 'error = "reddish"'), ["error", "'reddish'", "#6cb2f7"]),
        (GOOD.replace('error = "#123456"', 'error = "#12345680"'), ["error", "#12345680"]),
        (GOOD + '\n[states]\nrunnning = "#ffffff"', ["[states]", "did you mean 'running'"]),
        ('dark = "yes"\n' + GOOD, ["dark", "true or false"]),
        ("[colors", ["cannot be read as TOML"]),
    ],
)
def test_a_wrong_theme_is_refused_with_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    """The message is enough to put it right."""
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ThemeError) as refused:
        theme.load("mine", [tmp_path])
    assert "mine.toml" in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_an_unknown_theme_is_refused_with_those_that_are_there() -> None:
    """And with the nearest one."""
    with pytest.raises(ThemeError, match="did you mean 'gpuscale-dark'"):
        theme.load("gpuscale-dak", PLACES)
    with pytest.raises(ThemeError, match="there is no theme"):
        theme.load("../../etc/passwd", PLACES)


def test_the_users_own_theme_wins(tmp_path: Path) -> None:
    """One of the same name in the config directory is taken instead of ours."""
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "gpuscale-dark.toml").write_text('description = "mine"\n' + GOOD)
    assert theme.load("gpuscale-dark", theme.directories(tmp_path)).description == "mine"
