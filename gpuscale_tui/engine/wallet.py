"""The wallet: what is left at each provider, for how long that lasts, and a warning before it does not."""

from __future__ import annotations

from gpuscale_tui.engine import view
from gpuscale_tui.engine.context import Context
from gpuscale_tui.model.money import format_usd
from gpuscale_tui.model.notices import NoticeKind
from gpuscale_tui.providers.base import Provider, ProviderError
from gpuscale_tui.store import wallets
from gpuscale_tui.store.wallets import Wallet as Reading

LOOK_SEC = 15.0
READ_SEC = 300.0
LOW_READ_SEC = 60.0
"""How often a wallet is read, and one whose end is near or that did not answer; in between it is reckoned."""
AGAIN = 1.2
"""A wallet that was low lasts again when it does for so much more than the warning's hours: no warning at each look."""


class Wallet:
    """Reads the balances now and then; warns by what the store then says of them and of what is rented."""

    name = "wallet"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._failed: dict[str, str] = {}
        self._due: dict[str, int] = {}

    async def tick(self) -> float:
        """See `Service.tick`."""
        context = self._context
        known = {wallet.provider: wallet for wallet in await context.db.read(wallets.wallets, context.now())}
        if known.keys() - context.providers.keys():
            await context.db.write(wallets.forget_others, list(context.providers))
        for name, provider in context.providers.items():
            if context.now() >= self._due.get(name, 0):
                near = name in known and self._near(known[name])
                answered = await self._read(name, provider)
                pause = READ_SEC if answered and not near else LOW_READ_SEC
                self._due[name] = context.now() + round(pause * 1000)
        for wallet in await context.db.read(wallets.wallets, context.now()):
            if wallet.provider in context.providers:
                await self._judge(wallet)
        return LOOK_SEC

    def _near(self, wallet: Reading) -> bool:
        """Whether its end is near enough to look more often, or its user may be filling it just now."""
        limit, cap = self._context.settings.scaler.low_balance_hours, view.cap(self._context.settings)
        return wallet.left < cap or (wallet.hours is not None and wallet.hours < 2 * limit)

    async def _read(self, name: str, provider: Provider) -> bool:
        """Take over one balance; False when it could not be read, which says nothing about it."""
        context = self._context
        try:
            balance = await provider.balance()
        except ProviderError as error:
            if self._failed.get(name) != str(error):
                self._failed[name] = str(error)
                await context.warn(f"the wallet at {name} could not be read: {error}")
            return False
        self._failed.pop(name, None)
        if balance is not None:
            await context.db.write(wallets.record, name, balance.wallet, balance.micros, context.now())
        return True

    async def _judge(self, wallet: Reading) -> None:
        """Warn once when it lasts for too few hours."""
        context = self._context
        limit, hours = context.settings.scaler.low_balance_hours, wallet.hours
        low = hours is not None and hours < limit
        if low and wallet.low_since is None:
            now = context.now()
            await context.db.write(wallets.set_low, wallet.provider, now)
            await context.warn(describe(wallet, limit))
            key = f"balance:{wallet.provider}:{now}"
            await context.notify(NoticeKind.BALANCE, describe(wallet, limit), key=key)
        elif wallet.low_since is not None and (hours is None or hours > limit * AGAIN):
            await context.db.write(wallets.set_low, wallet.provider, None)


def describe(wallet: Reading, limit: float) -> str:
    """The warning: what is left, for how long, and what happens then."""
    hours = wallet.hours or 0.0
    return (
        f"{wallet.provider}: {format_usd(wallet.left)} are left in {wallet.name}, which lasts {hours:.1f} h at the"
        f" present {format_usd(wallet.rate)}/h (low_balance_hours is {limit:g}); at zero its machines end"
    )
