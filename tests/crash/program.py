"""The real program with two waits of the real marketplace shortened to those of the sandbox: `gpuscale` otherwise.

A create call that was on its way when its engine was killed is given two minutes to arrive, and a new order a minute to
appear in the list. The sandbox needs a moment for both.
"""

from __future__ import annotations

from gpuscale_tui.__main__ import main
from gpuscale_tui.engine import reconciler
from gpuscale_tui.providers.clore import provider

CALL_MS = 5_000
LAG_MS = 2_000


def shorten() -> None:
    """Put the sandbox's waits in the place of the marketplace's."""
    assert reconciler.CREATE_CALL_MS > CALL_MS
    assert provider.LISTING_LAG_MS > LAG_MS
    reconciler.CREATE_CALL_MS = CALL_MS
    # the lag is a default of the constructor, bound long before this
    defaults = provider.CloreProvider.__init__.__kwdefaults__
    assert defaults is not None
    assert defaults["listing_lag_ms"] == provider.LISTING_LAG_MS
    defaults["listing_lag_ms"] = LAG_MS


if __name__ == "__main__":
    shorten()
    main()
