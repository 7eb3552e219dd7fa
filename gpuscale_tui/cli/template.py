"""`template`: job files that run as they are, to read, to copy and to change."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuscale_tui.cli.common import config_option, settings_of, user_name
from gpuscale_tui.cli.errors import WrongInput
from gpuscale_tui.cli.formatting import print_lines
from gpuscale_tui.model.errors import NotFound, Refused, nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SIZES = ("tiny", "small", "medium", "large")
BIG = ("medium", "large")
"""Sizes that want a GPU: this one, where the user names none."""
BIG_GPU = "RTX 4090"
PLACES: Mapping[str, str] = {
    "name": "name",
    "git": "git",
    "gpu": "gpu",
    "max_price": "max_price",
    "rehearse": "rehearse",
    "data": "data",
    "size": "SIZE",
    "steps": "STEPS",
    "save_every": "SAVE_EVERY",
    "python": "PYTHON",
}
"""Each option of `template new`, and the key whose line it fills."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  gpuscale template new nanogpt\n  gpuscale submit --file nanogpt.toml",
)
def template() -> None:
    """Job files that run as they are, to read, to copy and to change."""


def _verb(name: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    return template.command(
        name, epilog=f"\b\nExample:\n  {example}",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )  # fmt: skip


@_verb("list", "gpuscale template list")
def list_() -> None:
    """List the templates: name and what it trains."""
    known = names()
    width = max(map(len, known))
    print_lines(f"{name:<{width}}  {_title(name)}" for name in known)


@_verb("show", "gpuscale template show nanogpt")
@click.argument("name")
def show(name: str) -> None:
    """Print a template."""
    click.echo(text_of(name), nl=False)


@_verb("new", "gpuscale template new nanogpt --size small --steps 5000")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--name", "title", metavar="TEXT", help="How the job is called.")
@click.option("--size", type=click.Choice(SIZES), help="How large a model; medium and large want a GPU.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="It ends after so many steps.")
@click.option("--save-every", type=click.IntRange(1), metavar="N", help="A checkpoint after each so many steps.")
@click.option("--gpu", metavar="MODEL", help="GPU model, or none.")
@click.option("--max-price", type=click.FloatRange(0, min_open=True), metavar="USD", help="Most an hour and GPU costs.")
@click.option("--git", metavar="URL@REV", help="Code from here.")
@click.option("--data", metavar="PATH", help="The text to learn from: a file, or a directory of .txt files.")
@click.option("--python", metavar="PROGRAM", help="Python on the machine; one that has PyTorch needs no installing.")
@click.option("--rehearse", is_flag=True, default=None, help="Move it once on purpose, to see that it resumes.")
@config_option
def new(name: str, file: Path | None, title: str | None, config: Path | None, **options: Any) -> None:
    """Write a template's job file to FILE (else NAME.toml), with what the options say in its places.

    It is an ordinary file for `gpuscale submit --file`, to be read and changed. One that is there is not replaced."""
    target = file or Path(f"{name}.toml")
    text = filled(text_of(name), _chosen(name, title, options))
    _check(text, target, config)
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise Refused(f"{target} exists: name another file") from error
    print_lines([f"{target} is written; `gpuscale submit --file {target}` submits it"])


def names() -> list[str]:
    """The templates of this package."""
    return sorted(_files())


def text_of(name: str) -> str:
    """A template's text. Raises NotFound."""
    known = _files()
    if name not in known:
        raise NotFound(f"there is no template {name!r}{nearest(name, known)}; `gpuscale template list` has them")
    return known[name].read_text(encoding="utf-8")


def _files() -> dict[str, Traversable]:
    found = (resources.files("gpuscale_tui") / "templates").iterdir()
    return {each.name.removesuffix(".toml"): each for each in found if each.name.endswith(".toml")}


def _title(name: str) -> str:
    first = text_of(name).partition("\n")[0].lstrip("# ")
    return first.removeprefix(f"{name}: ")


def _chosen(name: str, title: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The values by option; a size names the job, and a large one its GPU, unless the user does."""
    chosen = {option: value for option, value in {"name": title, **options}.items() if value is not None}
    if "size" in chosen:
        chosen.setdefault("name", f"{name}-{chosen['size']}")
        if chosen["size"] in BIG:
            chosen.setdefault("gpu", BIG_GPU)
    return chosen


def filled(text: str, values: Mapping[str, Any]) -> str:
    """A template with these values (by option) in their places; what is a comment there becomes a line.

    Raises WrongInput for an option that this template has no place for.
    """
    for option, value in values.items():
        key = PLACES[option]
        found = re.search(rf'^(?:# )?{key} = (?:"[^"\n]*"|[^#\n]*?)(?P<comment> *#[^\n]*)?$', text, re.MULTILINE)
        if found is None:
            raise WrongInput(f"--{option.replace('_', '-')}: this template has no place for it")
        line = f"{key} = {_toml(option, value)}{found['comment'] or ''}"
        text = text[: found.start()] + line + text[found.end() :]
    return text


def _toml(option: str, value: Any) -> str:
    if option == "data":
        return f"{{ shakespeare = {_quoted(str(Path(value).expanduser().absolute()))} }}"
    if option == "rehearse":
        return "true"
    return str(value) if option == "max_price" else _quoted(str(value))


def _quoted(text: str) -> str:
    """A basic string of TOML; JSON escapes all that has to be, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check(text: str, target: Path, config: Path | None) -> None:
    """Refuse what `submit --file` would refuse. Raises JobFileError."""
    from gpuscale_tui.cli.jobfile import JobFileError, entries
    from gpuscale_tui.cli.jobspecs import EntryError, Surroundings, specs_of

    around = Surroundings(settings_of(config), os.environ, target.absolute().parent, user_name())
    for entry in entries(f"{target.stem}.toml", text):
        try:
            specs_of(entry.fields, around)
        except EntryError as error:
            raise JobFileError([str(each) for each in error.errors]) from error
