"""No threat of the list is without a test."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.hostile.threats import THREATS, Threat

ROOT = Path(__file__).resolve().parents[2]
RUNS_DATA = re.compile(
    r"\b(?:import|from) (?:pickle|marshal|shelve|dill|joblib|torch|yaml)\b"
    r"|\b(?:pickle|marshal|shelve|dill|joblib|torch|yaml)\.\w|(?<![.\w])(?:eval|exec|compile)\(|__import__\("
)
ROWS = 15


def test_the_list_is_whole() -> None:
    """A row that is taken away is noticed."""
    assert len(THREATS) == ROWS == len({threat.word for threat in THREATS})


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.word)
def test_a_threat_has_tests_that_are_named_after_it(threat: Threat) -> None:
    """Each test that the list names exists, and one at least says in its name what it stands against."""
    for test in threat.tests:
        file, name = test.split("::")
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"def {re.escape(name)}\(", source), test
    assert any(threat.word in test.split("::")[1] for test in threat.tests)


def test_every_dependency_is_pinned_and_no_data_is_run_as_code() -> None:
    """What is installed for work and tests has one version each; no module unpickles or evaluates anything."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"].get("optional-dependencies", {}).values()
    named = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"], *(n for e in extras for n in e)]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    known = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    for requirement in named:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in known, requirement
    for file in (ROOT / "gpuscale_tui").rglob("*.py"):
        code = re.sub(r'"""(?:.|\n)*?"""|#.*', "", file.read_text(encoding="utf-8"))
        if "sandbox" not in file.parts:
            found = RUNS_DATA.search(code)
            assert found is None or found[0] == "compile(", (file, found)
