"""Themes: found, checked with clear errors, readable."""

from __future__ import annotations

from itertools import combinations
from math import dist
from pathlib import Path

import pytest
from textual.color import Color

from gpuscale_tui.store.home import Home
from gpuscale_tui.tui import theme
from gpuscale_tui.tui.format import UNICODE
from gpuscale_tui.tui.look import make
from gpuscale_tui.tui.theme import COLORS, ThemeError
from tests.tui.conftest import MakeApp, painted, settle

PLACES = theme.directories(None)
NAMES = theme.available(PLACES)
GOOD = "\n".join(["[colors]", *(f'{key} = "#123456"' for key in COLORS)])


def test_the_promised_themes_are_there() -> None:
    """Dark, light, high contrast, safe for colour-blind eyes, sixteen colours, and one more."""
    promised = {
        "high-contrast",
        "high-contrast-light",
        "colour-blind-safe",
        "colour-blind-light",
        "ansi-16",
        "ansi-light",
    }
    assert promised | {"gpuscale-dark", "gpuscale-light", "dusk", "deep", "paper"} <= set(NAMES)
    found = [theme.load(name, PLACES) for name in NAMES]
    assert all(each.description for each in found)
    assert sum(each.dark for each in found) >= 4
    assert sum(not each.dark for each in found) >= 4


def linear(name: str) -> list[float]:
    """A colour's parts as light."""
    channels = [value / 255 for value in Color.parse(name).rgb]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def contrast(one: str, two: str) -> float:
    """The contrast ratio of WCAG 2."""
    light = [sum(part * share for part, share in zip(linear(name), (0.2126, 0.7152, 0.0722), strict=True))
             for name in (one, two)]  # fmt: skip
    return (max(light) + 0.05) / (min(light) + 0.05)


ROLES = ("text", "muted", "heading", "title", "key", "link", "good", "warn", "bad", "accent")


@pytest.mark.parametrize("name", NAMES)
def test_every_text_can_be_read_on_every_ground(name: str) -> None:
    """As it is painted: every role and state on every ground and on the cursor, 4.5 to 1; 7 to 1 in high contrast."""
    found = theme.load(name, PLACES)
    if found.ansi:
        pytest.skip("the terminal's own colours are the user's to choose")
    look, least = make(found, UNICODE, None), 7.0 if name.startswith("high-contrast") else 4.5
    for base in ("ground", "raised", "bar", "cursor", "cursor-blurred", "tab"):
        for role in (*ROLES, *(f"state-{state}" for state in theme.STATES)):
            if base == "tab" and role != "text":
                continue
            (segment, *_) = look.strip([("word", role)], 10, base)
            assert segment.style is not None
            ink, paper = segment.style.color, segment.style.bgcolor
            assert ink is not None
            assert paper is not None
            assert contrast(ink.get_truecolor().hex, paper.get_truecolor().hex) >= least, (role, base)


EYES = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What eyes make of light: Machado, Oliveira and Fernandes 2009, severity 1."""


def seen(name: str, eyes: str) -> tuple[float, float, float]:
    """A colour in CIE Lab as these eyes see it."""
    light = linear(name)
    r, g, b = (min(1.0, max(0.0, sum(a * part for a, part in zip(row, light, strict=True)))) for row in EYES[eyes])
    x, y, z = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047, 0.2126 * r + 0.7152 * g + 0.0722 * b, (
        0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883  # fmt: skip
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("name", ["colour-blind-safe", "colour-blind-light"])
def test_states_stay_apart_for_every_eye(name: str, eyes: str) -> None:
    """What runs, is done, failed, idles, was cancelled, is on its way: any two of them differ clearly (Delta E 76)."""
    states = theme.load(name, PLACES).states
    for one, two in combinations(("running", "done", "failed", "idle", "cancelled", "ordering"), 2):
        apart = dist(seen(states[one], eyes), seen(states[two], eyes))
        assert apart >= (17 if eyes == "tritanopia" else 20), (one, two, apart)


@pytest.mark.parametrize(
    ("environ", "dark", "light"),
    [
        ({"TERM": "xterm-256color"}, "dusk", "paper"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "dusk", "paper"),
        ({"TERM": "xterm-kitty"}, "dusk", "paper"),
        ({"TERM": "linux"}, "ansi-16", "ansi-light"),
        ({"TERM": "screen"}, "ansi-16", "ansi-light"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "ansi-16", "ansi-16"),
        ({}, "dusk", "paper"),
    ],
)
def test_a_terminal_gets_a_theme_that_it_can_show(environ: dict[str, str], dark: str, light: str) -> None:
    """Sixteen colours, or none, have themes made for them."""
    assert theme.fitting("dusk", environ, PLACES) == dark
    assert theme.fitting("paper", environ, PLACES) == light
    assert theme.fitting("ansi-light", environ, PLACES) in {"ansi-light", "ansi-16"}


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


async def test_a_theme_that_is_being_written_is_shown_as_it_is_saved(
    make_app: MakeApp, busy_home: Home, tmp_path: Path
) -> None:
    """Its file is looked at now and then; what is wrong with it is told and the last good one stays."""
    place = tmp_path / "themes" / "mine.toml"
    place.parent.mkdir()
    place.write_text(GOOD)
    app = make_app(busy_home, theme="mine", user_config=tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        before = app.look
        app.look_at_theme()
        assert app.look is before, "nothing has changed"
        place.write_text(GOOD.replace('background = "#123456"', 'background = "#f0f0f0"'))
        app.look_at_theme()
        await settle(pilot)
        assert app.look.styles["ground"].bgcolor != before.styles["ground"].bgcolor
        (strip, *_) = painted(app)[10:]
        assert {
            segment.style.bgcolor.get_truecolor().hex for segment in strip if segment.style and segment.style.bgcolor
        } == {"#f0f0f0"}
        good = app.look
        place.write_text("[colors]")
        for _ in range(2):
            app.look_at_theme()
        await settle(pilot)
        assert app.look is good
        assert [("lacks" in toast.message) for toast in app._notifications] == [True]
