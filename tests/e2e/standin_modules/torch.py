"""As much of PyTorch as asks whether there is a GPU."""


class cuda:  # noqa: N801 - its name there
    """No GPU."""

    @staticmethod
    def is_available() -> bool:
        """There is none."""
        return False
