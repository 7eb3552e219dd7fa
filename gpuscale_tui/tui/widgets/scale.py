"""The question for more or fewer machines."""

from __future__ import annotations

from gpuscale_tui.tui.format import plural, rate
from gpuscale_tui.tui.widgets.confirm import Question


def scale_question(machines: int, most: int, price: int, left: int, gpu: str) -> Question[int]:
    """How many more, or fewer (negative). `price` is of one more, `left` what the cap leaves, both an hour."""
    text = [
        (
            f"{plural(machines, 'machine')} rented, at most {most} allowed. The cheapest known {gpu} costs about"
            f" {rate(price)}; the cap leaves {rate(left)}."
        ),
        "Machines that the queue needs are rented without asking; this is for more than that, or for fewer.",
    ]
    answers = [("c", "leave it as it is", 0)]
    room = max(0, min(most - machines, left // price if price else most))
    answers += [(str(n), f"{n} more, {rate(n * price)}", n) for n in range(1, min(room, 5) + 1)]
    if machines:
        answers.append(("-", "one fewer: the dearest idle one first", -1))
    if machines > 1:
        answers.append(("a", f"give all {machines} back", -machines))
    return Question("More machines, or fewer?", text, answers, otherwise=0)
