"""gpuscale: rent GPUs when a queue of training jobs needs them, run the jobs over SSH, never over an hourly budget."""

__version__ = "0.1.0"
