"""`python -m gpuscale_tui.sandbox serve`: a marketplace with machines on this computer. See `README.md` beside it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from gpuscale_tui.sandbox.catalogue import as_text
from gpuscale_tui.sandbox.options import Options
from gpuscale_tui.sandbox.processes import Target
from gpuscale_tui.sandbox.watchdog import start_watchdog


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        values = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither SECONDS nor LOW-HIGH") from None
    if not 0 <= values[0] <= values[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: the first must not be above the second")
    return values


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gpuscale_tui.sandbox", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser("serve", help="run until stdin closes, or SIGTERM or SIGINT comes")
    defaults = Options()
    add = serve.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    add("--root", type=Path, help="directory for machines, new or empty, removed at the end (default: a temporary one)")
    add("--seed", type=int, default=defaults.seed, help="which market (default: %(default)s)")
    add("--boot-seconds", type=_range, default=defaults.boot_seconds, metavar="S|LOW-HIGH", help="default: 2-4")
    add(
        "--listing-lag", type=float, default=defaults.listing_lag, metavar="S", help="until an order shows (default: 1)"
    )
    add("--rate-limits", action=argparse.BooleanOptionalAction, default=False, help="1 call a second, 1 create in 5 s")
    add("--balance", type=float, default=defaults.balance, metavar="USD", help="on the account (default: 100)")
    add("--nice", type=int, default=0, metavar="N", help="run what machines run this much nicer (default: 0)")
    add("--api-key", help="the key to expect (default: a new one)")
    add("--fault", action="append", default=[], metavar="NAME[=VALUE][,KEY=VALUE...]", help="may be repeated")
    add("--faults", type=Path, metavar="FILE.toml", help="faults from a file, read again whenever it changes")
    add("--list-faults", action="store_true", help="say which faults there are, and exit")
    add("--keep-running", action="store_true", help="do not end when stdin closes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program. 0 after an orderly end, 1 when the sandbox itself failed, 2 for wrong usage."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.list_faults:
        sys.stdout.write(as_text() + "\n")
        return 0
    options = Options(
        port=args.port,
        root=args.root,
        seed=args.seed,
        boot_seconds=args.boot_seconds,
        listing_lag=args.listing_lag,
        rate_limits=args.rate_limits,
        balance=args.balance,
        nice=args.nice,
        api_key=args.api_key,
        faults=tuple(args.fault),
        faults_file=args.faults,
    )
    return _serve(parser, options, keep_running=args.keep_running)


def _serve(parser: argparse.ArgumentParser, options: Options, *, keep_running: bool) -> int:
    from gpuscale_tui.sandbox.start import StartError, check, new_mark, new_root

    try:
        check(options)
        root = new_root(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    _allow_many_files()
    mark = new_mark()
    watchdog = start_watchdog(Target(mark + ".", root))
    try:
        return asyncio.run(_run(options, mark, root, keep_running=keep_running))
    except StartError as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 1
    finally:
        watchdog.release()


def _allow_many_files() -> None:
    """Every session needs half a dozen descriptors; the usual soft limit of 1024 is too low for many machines."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(options: Options, mark: str, root: Path, *, keep_running: bool) -> int:
    from gpuscale_tui.sandbox.server import Sandbox

    sandbox = Sandbox(options, mark=mark, root=root)
    loop, stopping = asyncio.get_running_loop(), sandbox.stopping
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    if not keep_running:
        threading.Thread(target=_watch_stdin, args=(loop, stopping), daemon=True).start()
    async with sandbox:
        _announce(sandbox.url, sandbox.api_key, sandbox.control_token, sandbox.control_url)
        await stopping.wait()
    return 0


def _watch_stdin(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """Wait for the end of stdin: it comes when the parent dies, in whatever way."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has already ended
        loop.call_soon_threadsafe(stopping.set)


def _announce(url: str, api_key: str, token: str, control_url: str) -> None:
    line = {"url": url, "api_key": api_key, "control_token": token, "control_url": control_url, "pid": os.getpid()}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
