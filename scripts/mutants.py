"""`make mutants`: plant each bug of the table into a copy of the project; the tests that it names must fail.

A test suite is worth what it catches. Each entry of `mutant_table` changes one place of the code that keeps money, jobs
or machines safe into something dangerous. All named tests must pass without it; with it at least one must fail.

Exit code 0 when all were caught, 1 when one survived (a test is missing) or the table does not fit the code, 2 when the
tests fail without any mutant. `--check` only looks whether the table fits the code.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from mutant_table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SEC = 900
TESTS_FAILED, ALL_PASSED = 1, 0
"""Exit codes of pytest; any other says that the tests could not be run, which proves nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant, and by which test it was caught."""

    mutant: Mutant
    verdict: str
    by: str
    seconds: float


def misfits(root: Path) -> Iterator[str]:
    """Entries whose old text does not stand exactly once in their file, or whose tests do not exist."""
    names = [mutant.name for mutant in MUTANTS]
    yield from (f"{name}: the name is not unique" for name in sorted(set(names)) if names.count(name) > 1)
    for mutant in MUTANTS:
        path = root / "gpuscale_tui" / mutant.file
        found = path.read_text().count(mutant.old) if path.exists() else 0
        if found != 1:
            yield f"{mutant.name}: {mutant.old!r} stands {found} times in {mutant.file}"
        if mutant.old == mutant.new:
            yield f"{mutant.name}: changes nothing"
        for test in mutant.tests:
            file, _, name = test.partition("::")
            function = name.partition("[")[0]
            if not (root / file).exists() or f"def {function}(" not in (root / file).read_text():
                yield f"{mutant.name}: there is no test {test}"


def copy_tree(target: Path) -> Path:
    """A copy of the project as it stands in the working tree, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        source, place = ROOT / name, target / name
        if source.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)
    return target


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in a copy; pytest's exit code (or 1 for a hang) and the first test that failed."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-rf", "--tb=no"]
    command += tests
    try:
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, timeout=LIMIT_SEC, check=False
        )
    except subprocess.TimeoutExpired:
        return TESTS_FAILED, f"no end within {LIMIT_SEC} s"
    failed = [
        line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")) and " " in line
    ]
    return done.returncode, (failed or [done.stdout[-600:] + done.stderr[-600:]])[0]


def try_mutant(tree: Path, mutant: Mutant) -> Result:
    """Plant a mutant in a copy, run its tests, take it out again."""
    begun, path = time.monotonic(), tree / "gpuscale_tui" / mutant.file
    before = path.read_text()
    path.write_text(before.replace(mutant.old, mutant.new))
    try:
        code, by = run_tests(tree, mutant.tests)
    finally:
        path.write_text(before)
    verdict = {TESTS_FAILED: "caught", ALL_PASSED: "SURVIVED"}.get(code, f"BROKEN ({code})")
    return Result(mutant, verdict, by if code != ALL_PASSED else "", time.monotonic() - begun)


def try_all(mutants: Sequence[Mutant], trees: Sequence[Path]) -> list[Result]:
    """Try mutants, as many at once as there are copies; each is told as it ends."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(mutant: Mutant) -> Result:
        tree = free.get()
        try:
            result = try_mutant(tree, mutant)
        finally:
            free.put(tree)
        print(f"{result.verdict:9} {result.seconds:5.1f} s  {mutant.name}: {result.by}", flush=True)
        return result

    with ThreadPoolExecutor(len(trees)) as pool:
        return list(pool.map(one, mutants))


def main() -> int:
    """Check the table, run the tests as they are, then with each mutant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only look whether the table fits the code")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at once (default: %(default)s)")
    parser.add_argument("names", nargs="*", help="only these mutants")
    args = parser.parse_args()
    wrong = list(misfits(ROOT))
    print("\n".join([*wrong, f"{len(MUTANTS)} mutants, {len(wrong)} of them do not fit the code"]))
    if wrong or args.check:
        return int(bool(wrong))
    chosen = [mutant for mutant in MUTANTS if not args.names or mutant.name in args.names]
    with tempfile.TemporaryDirectory(prefix="gpuscale-mutants-") as directory:
        trees = [copy_tree(Path(directory) / str(number)) for number in range(args.jobs)]
        code, by = run_tests(trees[0], sorted({test for mutant in chosen for test in mutant.tests}))
        if code != ALL_PASSED:
            print(f"the tests fail without any mutant: {by}")
            return 2
        begun = time.monotonic()
        results = try_all(chosen, trees)
    left = [result for result in results if result.verdict != "caught"]
    print(f"{len(results) - len(left)} of {len(results)} mutants caught in {time.monotonic() - begun:.0f} s")
    for result in left:
        print(f"{result.verdict}: {result.mutant.name} ({result.mutant.why}) {result.by}")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
