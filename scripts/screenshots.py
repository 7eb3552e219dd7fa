"""Take the pictures in `screenshots/`: the real application over a busy home, every screen in two sizes.

    python scripts/screenshots.py [DIRECTORY] [NAME...]

Writes SVG, and PNG where `rsvg-convert` (librsvg2-bin, with fonts-firacode and DejaVu) is installed. The clock stands
still and the home is written the same each time, so that two runs make the same files.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import busy_home  # noqa: E402 - found beside this file

from gpuscale_tui.model.settings import CloreConfig, ProvidersConfig, ScalerConfig, Settings, UiConfig  # noqa: E402
from gpuscale_tui.store.home import Home  # noqa: E402
from gpuscale_tui.tui.app import GpuscaleApp  # noqa: E402
from gpuscale_tui.tui.host import EngineHost  # noqa: E402
from gpuscale_tui.tui.messages import EngineState  # noqa: E402

SIZES = ((80, 24), (120, 40))
SHOTS: Mapping[str, tuple[str, ...]] = {
    "queue": (),
    "filter": ("slash", *"status:done,running cost>0.1", "enter", "o", "o"),
    "marks": ("j", "space", "space", "space"),
    "job": ("j", "enter"),
    "story": ("G", "k", "k", "k", "k", "enter"),
    "workers": ("2",),
    "timeline": ("2", "t"),
    "worker": ("2", "j", "enter"),
    "costs": ("3",),
    "logs": ("j", "l"),
    "search": ("j", "l", "slash", *r"loss 1\.4[0-9]+", "enter"),
    "checkpoints": ("5",),
    "market": ("6",),
    "offer": ("6", "enter"),
    "events": ("7",),
    "settings": ("8",),
    "form": ("j", "c", "tab", "tab", *" seed=1..3"),
    "stop": ("exclamation_mark",),
    "palette": ("ctrl+p", *"whi"),
    "help": ("question_mark",),
}
"""What each picture shows: the keys pressed for it."""

THEMES = ("gpuscale-light", "high-contrast", "colour-blind-safe", "dusk", "ansi-16")
FIRA_CODE_PX = 19.825
"""Font size at which a character of Fira Code is exactly as wide as a cell of the picture."""


class _NoEngine(EngineHost):
    """Says that the engine runs inside, as it does in the real program; nothing is rented for a picture."""

    def __init__(self) -> None:
        super().__init__(None)

    def state(self, _pid: int | None) -> EngineState:
        """As the header shall show it."""
        return EngineState("inside", 4121)


def settings(theme: str) -> Settings:
    """The settings that the busy home was made under."""
    return Settings(
        scaler=ScalerConfig(max_workers=8, max_hourly_budget=4.0, max_price_per_gpu=0.48),
        providers=ProvidersConfig(clore=CloreConfig(enabled=True)),
        ui=UiConfig(theme=theme),
    )


async def picture(home: Home, keys: tuple[str, ...], size: tuple[int, int], theme: str) -> str:
    """The SVG of the screen after some keys."""
    app = GpuscaleApp(
        home, settings(theme), host=_NoEngine(), clock=lambda: busy_home.NOW, interval=None, zone=UTC
    )  # fmt: skip
    app.user = "ada"
    (home.path / "drafts.json").unlink(missing_ok=True)  # of the picture before
    async with app.run_test(size=size) as pilot:
        for key in ("", *keys):
            await pilot.press(*([key] if key else []))
            while await app.reader.read():
                await pilot.pause()
            await pilot.pause()
        svg = app.export_screenshot(title="gpuscale", simplify=True)
    return svg.replace("<text ", '<text xml:space="preserve" ')


def write(path: Path, svg: str) -> None:
    """Write the SVG, and the PNG beside it where that can be made."""
    path.write_text(svg, encoding="utf-8")
    if shutil.which("rsvg-convert"):
        fitted = svg.replace("font-size: 20px", f"font-size: {FIRA_CODE_PX}px")
        subprocess.run(["rsvg-convert", "-o", str(path.with_suffix(".png"))], input=fitted.encode(), check=True)


def main(arguments: list[str]) -> int:
    """Take all pictures, or those whose names begin as given."""
    for name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_DIM_FACTOR"):
        os.environ.pop(name, None)
    directory = Path(arguments[0]) if arguments else ROOT / "screenshots"
    directory.mkdir(parents=True, exist_ok=True)
    wanted = tuple(arguments[1:]) or ("",)
    shots = [(f"{name}-{w}x{h}", keys, (w, h), "gpuscale-dark") for name, keys in SHOTS.items() for w, h in SIZES]
    shots += [(f"theme-{theme}", (), (80, 24), theme) for theme in THEMES]
    with tempfile.TemporaryDirectory() as place:
        home = busy_home.make(Path(place) / "home")
        for name, keys, size, theme in shots:
            if name.startswith(wanted):
                own = Home(Path(shutil.copytree(home.path, Path(place) / name)))  # what a key leaves there stays there
                write(directory / f"{name}.svg", asyncio.run(picture(own, keys, size, theme)))
                print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
