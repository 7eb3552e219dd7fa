"""The README stays true: keys, settings, verbs and make targets in it are the program's."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from gpuscale_tui.model.settings import ScalerConfig
from gpuscale_tui.tui.keymap import key_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_list_of_keys_is_the_table_of_actions() -> None:
    """`python -c "from gpuscale_tui.tui.keymap import key_table; print(key_table())"` makes it anew."""
    listed = README.split("<!-- keys", 1)[1].split("-->\n", 1)[1].split("\n<!-- end of keys", 1)[0]
    assert listed.strip() == key_table().strip()


def test_every_verb_that_is_shown_exists() -> None:
    """No line of the README names a verb that the program does not know."""
    from click import Context

    from gpuscale_tui.cli.root import root

    known = set(root.list_commands(Context(root)))
    shown = set(re.findall(r"^    gpuscale ([a-z]+)", README, re.MULTILINE))
    assert shown
    assert shown <= known


@pytest.mark.parametrize("field", fields(ScalerConfig), ids=lambda field: field.name)
def test_defaults_that_are_stated_are_the_defaults(field: object) -> None:
    """A default in the table of settings is the program's."""
    name, default = field.name, field.default  # type: ignore[attr-defined]
    rows = [line.split("|") for line in README.splitlines() if line.startswith("|") and f"`{name}`" in line]
    for row in rows:
        names = [part.strip(" `") for part in re.split(r"[,/]", row[1])]
        values = [part.strip() for part in re.split(r"[,/]", row[2])]
        if len(names) == len(values) and isinstance(default, int | float):
            assert float(values[names.index(name)]) == float(default)


def test_every_make_target_that_is_shown_exists() -> None:
    """`make X` in the README is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = set(re.findall(r"(?:^    |`)make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= shown
    assert shown <= targets


def test_pictures_that_are_shown_exist() -> None:
    """No broken picture."""
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / name).exists(), name
