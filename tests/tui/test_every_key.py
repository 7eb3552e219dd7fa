"""Every action of the table is pressed by a test: a key that nobody has ever pressed may lead anywhere.

For each area of the table stands which files test it. An action counts as tested where one function of these files
presses keys (`press`, `send`, `write`) and names one of the action's own keys, or the action itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from gpuscale_tui.tui.actions import ACTIONS, Action
from gpuscale_tui.tui.keymap import display_key

HERE = Path(__file__).parent
FILES: Mapping[str, tuple[str, ...]] = {
    "open": ("test_keys.py", "test_lists.py"),
    "job": (
        "test_keys.py",
        "test_undo.py",
        "test_pages.py",
        "test_form_keys.py",
        "test_form.py",
        "test_frame.py",
        "test_running_jobs.py",
    ),
    "checkpoint": ("test_checkpoints.py",),
    "worker": ("test_keys.py", "test_undo.py", "test_pages.py", "test_frame.py", "test_running_jobs.py"),
    "fleet": ("test_pages.py",),
    "scale": ("test_keys.py", "test_undo.py"),
    "host": ("test_keys.py", "test_market.py"),
    "offer": ("test_market.py",),
    "list": ("test_lists.py", "test_keys.py"),
    "costs": ("test_costs.py", "test_keys.py"),
    "log": ("test_logs.py", "test_keys.py"),
    "form": ("test_form_keys.py", "test_form.py"),
    "copy": ("test_keys.py", "test_lists.py"),
    "move": ("test_keys.py",),
    "screen": ("test_keys.py", "test_settings.py"),
    "back": ("test_keys.py", "test_lists.py"),
    "setup": ("test_guide.py", "test_settings.py"),
    "setting": ("test_settings.py",),
    "settings": ("test_settings.py",),
    "spend": ("test_keys.py",),
    "undo": ("test_undo.py",),
    "engine": ("test_keys.py", "test_frame.py"),
    "messages": ("test_frame.py",),
    "suspend": ("test_frame.py",),
    "theme": ("test_keys.py", "test_frame.py", "test_settings.py"),
    "palette": ("test_keys.py", "test_frame.py"),
    "help": ("test_frame.py",),
    "quit": ("test_keys.py",),
}
"""By the first word of an action's id."""
PRESSING = frozenset({"press", "send", "write", "find_in_palette"})


@cache
def functions(name: str) -> tuple[frozenset[str], ...]:
    """The texts in each test of a file that presses keys: its own, and those that it is parametrized with."""
    return tuple(_texts(node) for node in _tests(ast.parse((HERE / name).read_text(encoding="utf-8"))))


def _tests(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and _presses(node):
            yield node


def _presses(node: ast.AST) -> bool:
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return any(getattr(called, "id", getattr(called, "attr", "")) in PRESSING for called in calls)


def _texts(node: ast.AST) -> frozenset[str]:
    found = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return frozenset(found | {letter for text in found if text.isdigit() for letter in text})


def pressed(action: Action, texts: frozenset[str]) -> bool:
    """Whether a test names the action or one of its keys."""
    keys = [key.strip() for key in action.keys.split(",")]
    return action.id in texts or any(key in texts or display_key(key) in texts for key in keys)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_a_test_presses_it(action: Action) -> None:
    """Add a test that presses the key and sees what it does; a new area gets its files above."""
    files = FILES.get(action.id.partition(".")[0])
    assert files is not None, f"{action.id}: say in FILES which tests press it"
    there = [name for name in files if (HERE / name).exists()]
    assert any(pressed(action, texts) for name in there for texts in functions(name)), (
        f"{action.id} ({action.keys}): no test in {', '.join(files)} presses it"
    )


def test_an_action_that_no_test_presses_is_found() -> None:
    """The check itself can fail."""
    made_up = Action("log.made_up", "ctrl+shift+f12", "made up", "Does nothing.")
    assert not any(pressed(made_up, texts) for name in FILES["log"] for texts in functions(name))
