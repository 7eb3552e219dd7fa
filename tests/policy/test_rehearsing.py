"""What came before a move and after it, compared by the lines of real trainers."""

from __future__ import annotations

import pytest

from gpuscale_tui.policy.rehearsing import Mark, comparable, compare, is_enough, lost_words, told

NANOGPT = """\
tokens per iteration will be: 512
step {0}: train loss {1}, val loss 4.2
iter {0}: loss {1}, time 12.00ms, mfu -100.00%
iter {2}: loss {3}, time 12.00ms, mfu 0.10%
"""


def lines(*values: object) -> list[str]:
    """Output of nanoGPT."""
    return NANOGPT.format(*values).splitlines()


def verdict(before: list[str], after: list[str], saved: int | None = None) -> tuple[bool, str]:
    """The comparison of two outputs."""
    unit, old, new = comparable(told(before), told(after))
    found = compare(unit, old, new, saved)
    return found.ok, found.text


def test_steps_and_losses_are_read() -> None:
    """Each line with a step, in their order."""
    assert told(lines(0, 4.1, 10, 3.5)).steps == (Mark(0, 4.1), Mark(0, 4.1), Mark(10, 3.5))
    assert told(["hello", ""]).steps == ()


def test_going_on_at_the_snapshot_is_right() -> None:
    """The step of the snapshot, a loss near that before, and what was done again."""
    before = ["iter 0: loss 4.1", "iter 200: loss 2.30", "iter 215: loss 2.25"]
    words = "went on at step 200 from the snapshot at step 200, loss 2.31 after 2.3, 15 steps done again"
    assert verdict(before, lines(200, 2.31, 210, 2.28), 200) == (True, words)


def test_a_snapshot_may_hold_more_than_was_known_of_when_it_was_taken() -> None:
    """Output is read some seconds after it was printed."""
    ok, text = verdict(lines(0, 4.1, 215, 2.25), lines(200, 2.31, 210, 2.28), 50)
    assert ok
    assert text.startswith("went on at step 200 from its snapshot, taken after step 50, loss ")


@pytest.mark.parametrize("saved", [None, 200])
def test_beginning_anew_is_wrong(saved: int | None) -> None:
    """It told steps beyond its first one before, and begins with that again."""
    ok, text = verdict(lines(0, 4.1, 215, 2.25), lines(0, 4.1, 10, 3.5), saved)
    assert not ok
    assert text.startswith("it began at step 0, as it had before, and not from ")


def test_a_job_that_was_moved_at_its_first_step_may_begin_there() -> None:
    """Nothing tells the two apart: no claim that it is wrong."""
    assert verdict(["step 1 loss 4.0"], ["step 1 loss 4.0"])[0]


def test_weights_that_did_not_come_back_are_found_by_the_loss() -> None:
    """The count goes on and the loss is that of the start; a noisy loss is none of that."""
    before = ["step 1 loss 4.2", "step 100 loss 2.0", "step 200 loss 1.5"]
    ok, text = verdict(before, ["step 201 loss 4.1"], 200)
    assert not ok
    assert text.endswith("loss 4.1 after 1.5, near the 4.2 of its start: its count came back, its weights did not")
    assert verdict(before, ["step 201 loss 1.9"], 200)[0]
    assert verdict(["step 1 loss 2.0", "step 9 loss 1.9"], ["step 10 loss 2.4"], 9)[0]
    assert not verdict(before, ["step 201 loss nan"], 200)[0]


def test_epochs_will_do_where_no_step_is_told() -> None:
    """By epoch, with the loss."""
    unit, old, new = comparable(told(["Epoch 1/9 loss: 4.0", "Epoch 3/9 loss: 2.0"]), told(["Epoch 3/9 loss: 2.1"]))
    assert (unit, old[-1], new[0]) == ("epoch", Mark(3, 2.0), Mark(3, 2.1))
    assert compare(unit, old, new, 2).text == "went on at epoch 3 from the snapshot at epoch 2, loss 2.1 after 2"


def test_a_loss_is_waited_for_but_not_for_ever() -> None:
    """Where losses were told before, the first step alone is too early."""
    before = [Mark(1, 3.0), Mark(50, 2.0)]
    assert not is_enough(before, [])
    assert not is_enough(before, [Mark(50, None)])
    assert is_enough(before, [Mark(50, None), Mark(51, 2.0)])
    assert is_enough(before, [Mark(50, None), Mark(70, None)])
    assert is_enough([Mark(1, None)], [Mark(2, None)])


def test_what_a_move_took_is_told_to_the_cent_or_finer() -> None:
    """Time and money."""
    assert lost_words(48_000, 750_000) == "48s and $0.01 lost"
    assert lost_words(5_000, 400_000) == "5s and $0.0006 lost"
    assert lost_words(1_000, 300_000) == "1s and under $0.0001 lost"
    assert lost_words(5_000, 0) == "5s and $0.00 lost"
