"""Every `await` in the engine that reaches the store, files, a provider or a machine, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import gpuscale_tui.engine

ENGINE = Path(gpuscale_tui.engine.__file__).parent
REACHING = frozenset({"db", "logs", "provider", "providers", "site", "connect", "to_thread", "snapshots"})
"""Names in the awaited call by which it reaches out of the engine."""
TOLD = frozenset({"warn", "notify"})
"""What of the context writes to the store: it only passes the call on."""
OUTSIDE = {
    "audit": "verbs of their own: they look, and give back what a user names",
    "context": "passes calls on: who asks for them is the place",
    "notifier": "messages, read from an outbox in the store; no order, job or dollar depends on it",
    "messenger": "the same",
    "packer": "housekeeping of logs",
    "clearer": "housekeeping of snapshots, of what crashes left: tests/store/test_clearing.py",
    "autopilot": "a process around the engine; killed by the campaign",
    "background": "starts a process; killed by the campaign",
    "commands": "users' commands: no await, one transaction each",
    "code": "git on this host: no order, job or dollar depends on it, and what it leaves is made anew",
    "reach": "ways to a machine for its user: no await",
    "doctor": "a verb of its own that only looks",
    "doorbell": "nothing depends on it",
    "intake": "checks of a submission: no await",
    "lock": "no await",
    "s3_depot": "object storage, which the simulated world has none of; what breaks off there is played in tests/s3",
    "s3_carrier": "the same",
}
"""Modules of the engine that are no part of its services, and why they are left out."""
UNREACHED: dict[str, str] = {
    "engine.open_context": "the simulation opens an engine's files by itself, by the same commands: (start).open",
    "reloader.FileSources.aclose": "closes ports at the engine's end; those of the simulated world need no closing",
    "attempt.AttemptRun._why_stopped": "needs an exit that says stopped where the store does not yet say why: an engine"
    " that was told to stop writes the reason first",
    "depot.LocalDepot._fetch": "where parts of files are kept is asked for files of 64 MB only; making it is harmless",
    "saver.Saver._record": "a remark is told once, on file systems without hard links",
    "staging._Bringer._code": "needs git and a repository; what is fetched is made anew or found there",
    "data._same": "only where an upload fails, to see whether its files have changed: it reads files of this host",
    "telling._tell": "words for who waits, after seconds; nothing depends on them",
}
"""Awaits that no scenario comes by (by `module.function`), and why."""


@dataclass(frozen=True, slots=True)
class Await:
    """One such await: lines `first` to `last` of a module's file."""

    module: str
    function: str
    first: int
    last: int
    call: str

    @property
    def name(self) -> str:
        """How it is listed."""
        return f"{self.module}.{self.function}: {self.call}"


class _Finder(ast.NodeVisitor):
    def __init__(self, module: str) -> None:
        self.module = module
        self.within: list[str] = []
        self.found: list[Await] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._inside(node)

    def _inside(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.within.append(node.name)
        self.generic_visit(node)
        self.within.pop()

    def visit_Await(self, node: ast.Await) -> None:
        if isinstance(node.value, ast.Call) and _reaches(_names(node.value.func)):
            call = ast.unparse(node.value).replace("\n", " ")
            last = node.end_lineno or node.lineno
            self.found.append(Await(self.module, ".".join(self.within), node.lineno, last, call))
        self.generic_visit(node)


def _reaches(names: frozenset[str]) -> bool:
    return "_links" not in names and bool(names & REACHING or ("context" in names and names & TOLD))


def _names(function: ast.expr) -> frozenset[str]:
    """All names in the expression that is called, such as `self`, `_context`, `db`, `write`."""
    names = {each.id for each in ast.walk(function) if isinstance(each, ast.Name)}
    return frozenset(names | {each.attr for each in ast.walk(function) if isinstance(each, ast.Attribute)})


def unseen(seen: Collection[tuple[str, int]]) -> list[Await]:
    """The awaits that nobody has come by, but for those that are explained; `seen` are modules and lines."""
    return [
        each
        for each in all_awaits()
        if f"{each.module}.{each.function}" not in UNREACHED
        and not any((each.module, line) in seen for line in range(each.first, each.last + 1))
    ]


def all_awaits() -> Iterator[Await]:
    """Every await of the engine's services that reaches out of it."""
    for path in sorted(ENGINE.glob("*.py")):
        if path.stem not in OUTSIDE:
            finder = _Finder(path.stem)
            finder.visit(ast.parse(path.read_text()))
            yield from finder.found
