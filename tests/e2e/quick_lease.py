"""The real program with one wait shortened: `gpuscale` otherwise.

A host of one's own that is out of reach may still run its job. It goes on elsewhere only when the lease of its machine
is over for certain (`lease_hours`), for which five minutes more are given than these tests have.
"""

from __future__ import annotations

from gpuscale_tui.__main__ import main
from gpuscale_tui.engine import releaser

MARGIN_MS = 3_000

if __name__ == "__main__":
    assert releaser.LEASE_MARGIN_MS > MARGIN_MS
    releaser.LEASE_MARGIN_MS = MARGIN_MS
    main()
