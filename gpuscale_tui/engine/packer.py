"""Packing: output that came too fast to be compressed is compressed once there is time."""

from __future__ import annotations

from gpuscale_tui.engine.context import Context

LOOK_SEC = 20.0
NEXT_SEC = 0.1
AT_ONCE = 16
"""Chunks packed in one go: a hundredth of a second for which other output waits."""


class Packer:
    """Nothing depends on it but the size of the log file."""

    name = "packer"

    def __init__(self, context: Context) -> None:
        self._context = context

    async def tick(self) -> float:
        """See `Service.tick`."""
        packed = await self._context.logs.pack_later(AT_ONCE)
        return NEXT_SEC if packed == AT_ONCE else LOOK_SEC
