"""The pure parts of the Logs screen: what a line looks like, which line stands where, what a search goes through."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.store import logs
from gpuscale_tui.store.database import in_snapshot
from gpuscale_tui.tui.logs.draw import painted, pieces
from gpuscale_tui.tui.logs.helper import Helper, SearchError, compiled
from gpuscale_tui.tui.logs.layout import Part, Row, filtered, folded, plain
from gpuscale_tui.tui.logs.lines import Shown, shown
from gpuscale_tui.tui.logs.numbers import Numbers
from gpuscale_tui.tui.logs.save import completion
from gpuscale_tui.tui.logs.scan import Slice, Texts, run
from gpuscale_tui.tui.logs.sweep import Sweep, nearest, rank_of
from gpuscale_tui.tui.logs.window import parts_of
from gpuscale_tui.tui.widgets.log_view import Stream


def numbers(*lines: int) -> Numbers:
    """Some line numbers."""
    return Numbers([array("I", lines)])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(logs.connect_logs(tmp_path / "logs.db")) as connection:
        yield connection


def test_a_line_is_what_a_terminal_would_be_left_with() -> None:
    """The last state of a progress bar; colours become roles of ours; no other sequence has any effect."""
    assert shown(b" 10%|#\r 60%|##\r100%|####\r") == Shown("100%|####")
    assert shown(b"\x1b[31mbad\x1b[0m \x1b[1;32mgood\x1b[m") == Shown("bad good", ((0, 3, "bad"), (4, 8, "good")))
    assert shown(b"\x1b[38;5;31mnumbered\x1b[2J\x1b]52;c;aGk=\x07\x1b[999C") == Shown("numbered")
    assert shown(b"\x1b[31mone\x1b[39m\x1b[7m two") == Shown("one two", ((0, 3, "bad"),))


def test_raw_spells_every_control_character() -> None:
    assert shown(b"a\rb\x1b[31m\tc\x07\x00", raw=True).text == "a^Mb^[[31m    c^G^@"


@given(st.binary(max_size=300), st.booleans())
def test_no_line_has_a_control_character(line: bytes, raw: bool) -> None:
    look = shown(line, raw=raw)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", look.text)
    assert all(0 <= start < end <= len(look.text) for start, end, _ in look.paint)


@given(st.text(max_size=200), st.integers(1, 30))
def test_wrapped_pieces_are_the_whole_text(text: str, width: int) -> None:
    text = shown(text.encode("utf-8", "replace")).text
    found = pieces(text, max(2, width))
    assert "".join(text[start:end] for start, end in found) == text


def test_matches_stand_above_colours_and_only_what_is_in_view_is_drawn() -> None:
    spans = painted("abcdefghij", ((2, 6, "bad"),), [(4, 8), (50, 60)], (1, 9))
    assert spans == [("b", "text"), ("cd", "bad"), ("ef", "match"), ("gh", "match"), ("i", "text")]
    assert painted("abc", (), (), (10, 20)) == []


@given(st.lists(st.lists(st.integers(0, 5_000), max_size=40, unique=True), max_size=6), st.integers(0, 5_000))
def test_numbers_are_like_a_sorted_list(blocks: list[list[int]], line: int) -> None:
    """However they were put together, before and after."""
    model = sorted({number for block in blocks for number in block})
    half = len(model) // 2
    found = Numbers().after(array("I", model[half:])).before(array("I", model[:half]))
    assert [found[index] for index in range(len(found))] == model
    assert found.rank(line) == len([number for number in model if number < line])
    assert found.has(line) == (line in model)
    kept = found.until(line)
    assert [kept[index] for index in range(len(kept))] == [number for number in model if number < line]


def test_large_numbers_of_matches_stay_in_blocks() -> None:
    """Blocks that are full are not copied any more."""
    found = Numbers()
    for start in range(0, 100_000, 1_000):
        found = found.after(array("I", range(start, start + 1_000)))
    assert len(found) == 100_000
    assert found[77_777] == 77_777
    assert found.rank(50_000) == 50_000
    assert 20 < len(found._blocks) < 40


PARTS = (Part(1, 3), Part(2, 5))


def test_attempts_as_one_have_a_rule_before_each() -> None:
    layout = plain(PARTS)
    assert layout.total == 10
    assert layout.at(0) == Row("rule", 1, 0, 0)
    assert layout.at(3) == Row("line", 1, 2)
    assert layout.at(4).kind == "rule"
    assert layout.at(9) == Row("line", 2, 4)
    assert [layout.find(1, 0), layout.find(1, 2), layout.find(2, 0), layout.find(2, 9)] == [1, 3, 5, 9]
    assert plain((Part(1, 3),)).at(0) == Row("line", 1, 0)
    assert plain(()).total == 0


def test_a_filter_shows_only_its_lines_and_finds_the_next_one() -> None:
    layout = filtered({1: numbers(1), 2: numbers(0, 3)})(PARTS)
    assert [layout.at(index).line for index in range(layout.total) if layout.at(index).kind == "line"] == [1, 0, 3]
    assert layout.at(layout.find(2, 2)) == Row("line", 2, 3)


def test_sections_fold_and_unfold() -> None:
    """Lines before the first epoch stand as they are; an epoch that is named again is no new section."""
    part = (Part(1, 10),)
    marks = {1: ((2, 1), (4, 1), (6, 2))}
    layout = folded(marks, frozenset())(part)
    rows = [layout.at(index) for index in range(layout.total)]
    assert [row.kind for row in rows] == ["line", "line", "section", "section"]
    assert (rows[2].line, rows[2].count, rows[2].epoch) == (2, 4, 1)
    assert (rows[3].line, rows[3].count, rows[3].epoch) == (6, 4, 2)
    assert layout.find(1, 5) == 2
    opened = folded(marks, frozenset({(1, 2)}))(part)
    assert opened.total == 8
    assert opened.at(opened.find(1, 5)) == Row("line", 1, 5)
    assert opened.at(opened.find(1, 2)) == Row("line", 1, 2)
    assert opened.at(opened.find(1, 7)).kind == "section"


def sweep_all(log: sqlite3.Connection, sweep: Sweep, stream: Stream) -> int:
    """Go through everything, a chunk at a time; how many slices it took."""
    parts, count = parts_of(log, stream), 0
    while (task := sweep.next(parts)) is not None:
        small = Slice(task.job_id, task.attempt, task.forward, task.line, task.chunk, task.pattern, task.flags, -1)
        sweep.take(task, in_snapshot(log, run, small))
        count += 1
        assert count < 10_000
    return count


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_search_goes_through_every_line_once_while_the_log_grows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """From any line, in both directions, over several attempts, with lines that are longer than a chunk."""
    piece = st.one_of(
        st.sampled_from([b"hit\n", b"miss\n", b"hi", b"t\n", b"\n", b"no\n" * 9_000, b"hit no\n" * 5_000]),
        st.integers(1, 150_000).map(lambda size: b"y" * size),
    )
    with closing(logs.connect_logs(tmp_path_factory.mktemp("sweep") / "logs.db")) as log:
        model = {1: b"", 2: b""}
        start = data.draw(st.one_of(st.none(), st.tuples(st.integers(1, 2), st.integers(0, 9_000))))
        sweep = Sweep(1, start, backwards=data.draw(st.booleans()), pattern="hit")
        for _ in range(2):
            for attempt in (1, 2):
                for part in data.draw(st.lists(piece, max_size=4)):
                    logs.append(log, 1, attempt, len(model[attempt]), part)
                    model[attempt] += part
            sweep_all(log, sweep, Stream(1, 0))
            for attempt, found in sweep.found().items():
                lines = logs.lines(log, 1, attempt, 0, 1 << 30)
                assert [found[index] for index in range(len(found))] == [
                    number for number, line in enumerate(lines) if b"hit" in line
                ]
            done, total = sweep.progress(parts_of(log, Stream(1, 0)))
            assert total - 2 <= done <= total


def test_the_index_knows_errors_warnings_and_epochs(log: sqlite3.Connection) -> None:
    text = b"start\nEpoch 1/2\nstep 1 loss 2.0\nUserWarning: slow\nEpoch 2/2\nRuntimeError: bad\nCUDA out of memory\n"
    logs.append(log, 1, 1, 0, text)
    sweep = Sweep(1, None)
    sweep_all(log, sweep, Stream(1, 1))
    errors, warnings = sweep.found(0)[1], sweep.found(1)[1]
    assert [errors[index] for index in range(len(errors))] == [5, 6]
    assert [warnings[index] for index in range(len(warnings))] == [3]
    assert [mark for mark in sweep.epochs()[1] if mark[0] in {1, 4}] == [(1, 1), (4, 2)]


def test_the_nearest_place_is_found_in_both_directions_and_round_the_end() -> None:
    found = {1: numbers(1), 2: numbers(0, 3)}
    assert nearest(found, PARTS, (2, 3), backwards=True) == ((2, 0), False)
    assert nearest(found, PARTS, (2, 0), backwards=True) == ((1, 1), False)
    assert nearest(found, PARTS, (1, 1), backwards=True) == ((2, 3), True)
    assert nearest(found, PARTS, (2, 3), backwards=False) == ((1, 1), True)
    assert nearest({}, PARTS, (1, 1), backwards=False) is None
    assert [rank_of(found, place) for place in ((1, 1), (2, 0), (2, 3), (2, 1))] == [1, 2, 3, None]


def test_a_wrong_expression_says_where() -> None:
    with pytest.raises(SearchError, match=r"missing .* at character 1"):
        compiled("(loss")
    with pytest.raises(SearchError, match="longer than"):
        compiled("x" * 501)
    with pytest.raises(SearchError, match=r"too large|nested|overflow"):
        compiled("x{99999999999}")
    assert compiled("loss") == ("loss", re.IGNORECASE)
    assert compiled("Loss") == ("Loss", 0)
    assert compiled("[[a]")[0] == "[[a]", "a warning of Python's is none of the user's"


async def test_an_expression_that_never_ends_is_stopped_and_the_next_one_works(tmp_path: Path) -> None:
    """It is the helper's own processor time that is limited; another helper takes its place."""
    helper = Helper(tmp_path / "logs.db", limit=0.2)
    try:
        with pytest.raises(SearchError, match="takes too long"):
            await helper.spans(Texts("(a+)+b", 0, ["a" * 64]))
        assert (await helper.spans(Texts("an", 0, ["banana", "x"]))).spans == [[(1, 3), (3, 5)], []]
    finally:
        await helper.close()
    assert helper._process is None


async def test_the_helper_reads_the_log_and_ends_with_its_input(tmp_path: Path) -> None:
    with closing(logs.connect_logs(tmp_path / "logs.db")) as log:
        logs.append(log, 1, 1, 0, b"one\ntwo\nthree\n")
        helper = Helper(tmp_path / "logs.db")
        found = await helper.look(Slice(1, 1, True, 0, pattern="^t"))
        assert array("I", found.lines[0]).tolist() == [1, 2]
        process = helper._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.to_thread(process.wait, 60) == 0
        process.stdin = None
        await helper.close()


def test_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "report.txt").touch()
    assert completion(f"{tmp_path}/rep") == f"{tmp_path}/report.txt"
    assert completion(f"{tmp_path}/res") == f"{tmp_path}/results/"
    assert completion(f"{tmp_path}/x") is None
    assert completion(f"{tmp_path}/none/x") is None


def test_output_that_came_after_the_last_look_is_no_reason_to_look_again(log: sqlite3.Connection) -> None:
    """A slice may read more than was known of when it was asked for: that is more than enough, not something else."""
    logs.append(log, 1, 1, 0, b"one\n")
    known = parts_of(log, Stream(1, 1))
    logs.append(log, 1, 1, 4, b"two\n")
    sweep = Sweep(1, None)
    while (task := sweep.next(known)) is not None:
        assert sweep.generation < 10
        sweep.take(task, in_snapshot(log, run, task))
        sweep.generation += 1
    assert sweep.next(known) is None
    assert sweep.next(parts_of(log, Stream(1, 1))) is None
