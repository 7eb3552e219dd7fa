"""What a job's output says of its progress: pure, one module a family of trainers; nothing here trusts a line."""

from gpuscale_tui.policy.output.classifying import LineKind, classify
from gpuscale_tui.policy.output.parser import OutputParser
from gpuscale_tui.policy.output.reading import Reading

__all__ = ["LineKind", "OutputParser", "Reading", "classify"]
