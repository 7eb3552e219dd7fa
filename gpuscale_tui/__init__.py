"""gpuscale: rent GPUs when a queue of training jobs needs them, run the jobs over SSH, never over an hourly budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuscale_tui.model.settings import ScalerConfig as ScalerConfig
    from gpuscale_tui.pipeline import Job as Job
    from gpuscale_tui.pipeline import Pipeline as Pipeline

__version__ = "0.1.0"

_API = {
    "Job": "gpuscale_tui.pipeline",
    "Pipeline": "gpuscale_tui.pipeline",
    "ScalerConfig": "gpuscale_tui.model.settings",
}


def __getattr__(name: str) -> object:
    """The Python API, imported when it is used: the command line must start fast."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_API[name]), name)
