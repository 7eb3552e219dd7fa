"""A guarded task that is cancelled before it has begun leaves no coroutine behind that nobody awaits."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from gpuscale_tui.engine.service import guarded


async def test_a_task_that_is_cancelled_before_its_first_step_leaves_nothing_behind() -> None:
    """Warnings are errors: an inner coroutine made too early would fail this test when it is collected."""
    begun: list[int] = []
    nothing: Any = None

    async def work() -> None:
        begun.append(1)

    task = asyncio.create_task(guarded(nothing, "work", work))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert begun == []
