"""No cell of the fault matrix is empty, and every test that a cell names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.matrix.cells import FAULTS, INVARIANTS, Fault

TESTS = Path(__file__).resolve().parents[1]
CHIEFLY = {
    "F1": "1 2 4 5 8 10", "F2": "1 4 5 8", "F3": "1 2 8", "F4": "1 2", "F5": "1 2 8", "F6": "1 2 8", "F7": "1 2 6",
    "F8": "2 10", "F9": "1 2 10", "F10": "2 3 6 8", "F11": "4 5 8 9", "F12": "2 4 5 10", "F13": "4 5 9 10",
    "F14": "7 9 11", "F15": "5", "F16": "1 4 8", "F17": "1 4", "F18": "1 4 5 8", "F19": "2 3 8 10", "F20": "1 2 5 6",
    "F21": "1 2 4 11", "F22": "5 9", "F23": "2 3 8", "F24": "1 4",
}  # fmt: skip
"""The invariants that each fault chiefly threatens: these cells must have tests, no reason excuses them."""
ROWS = [pytest.param(name, fault, id=name) for name, fault in FAULTS.items()]


def test_the_matrix_is_whole() -> None:
    """A row that is taken away is noticed."""
    assert list(FAULTS) == list(CHIEFLY) == [f"F{number}" for number in range(1, 25)]


@pytest.mark.parametrize(("name", "fault"), ROWS)
def test_a_cell_has_tests_or_a_reason(name: str, fault: Fault) -> None:
    """Each of the eleven, once; and tests where the fault chiefly strikes."""
    reasons = [invariant for key in fault.others for invariant in key.split()]
    assert sorted([*fault.cells, *reasons]) == sorted(INVARIANTS)
    assert all(fault.others.values())
    for number in CHIEFLY[name].split():
        assert fault.cells[f"I{number}"], (name, number)


@pytest.mark.parametrize(("name", "fault"), ROWS)
def test_a_cells_tests_exist_and_one_bears_the_faults_name(name: str, fault: Fault) -> None:
    """By file and function; from F3 on one at least is named after the fault, and says which invariants it checks."""
    named = {test for tests in fault.cells.values() for test in tests}
    for test in named:
        file, function = test.split("::")
        assert re.search(rf"def {re.escape(function)}\(", (TESTS / file).read_text(encoding="utf-8")), test
    own = [test for test in named if f"::test_f{int(name[1:]):02d}_" in test]
    assert own or name in {"F1", "F2"}


def test_every_test_of_the_matrix_stands_in_its_row() -> None:
    """And its docstring begins with the invariants that it checks."""
    for file in Path(__file__).parent.glob("test_*.py"):
        source = file.read_text(encoding="utf-8")
        for function, number in re.findall(r"def (test_f(\d\d)_\w+)\(", source):
            row = FAULTS[f"F{int(number)}"]
            assert f"matrix/{file.name}::{function}" in {test for tests in row.cells.values() for test in tests}, (
                function
            )
            doc = re.search(rf"def {function}\([^\"]*\"\"\"((?:I\d+ ?)+):", source)
            assert doc is not None, f"{function} does not say what it checks"
            assert set(doc[1].split()) <= set(INVARIANTS)
