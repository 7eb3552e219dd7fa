"""`gpuscale` and `python -m gpuscale_tui`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from gpuscale_tui.cli import run

    run()


if __name__ == "__main__":
    main()
