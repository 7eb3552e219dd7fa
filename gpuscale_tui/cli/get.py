"""`get`: what a job left in OUTPUT_DIR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuscale_tui.cli.common import JOB_ID, home_option, json_option, note, read, verb
from gpuscale_tui.cli.formatting import Column, print_json, print_table
from gpuscale_tui.model.errors import Refused
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store.archive import FileEntry
from gpuscale_tui.store.home import Home

if TYPE_CHECKING:
    from gpuscale_tui.engine.collecting import Outputs


@verb(example="gpuscale get j17\ngpuscale get j17 ./results --attempt 1\ngpuscale get j17 --list")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.argument("directory", metavar="[PATH]", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--attempt", type=click.IntRange(min=1), help="The outputs of this attempt; else of the newest.")
@click.option("--list", "listing", is_flag=True, help="Only list what there is.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@json_option
@home_option
def get(  # noqa: PLR0917 - click names them
    job_id: int, directory: Path | None, attempt: int | None, listing: bool, overwrite: bool, as_json: bool, home: Home
) -> None:
    """Copy what a job left in $OUTPUT_DIR into a directory.

    By default into one of its name, such as ./j17. It was fetched when the attempt ended. Files that are there and the
    same are not copied again: what was interrupted goes on when it is repeated."""
    from gpuscale_tui.engine import collecting

    found = read(home, collecting.find, home, job_id, attempt)
    if found.remark:
        note(found.remark)
    if listing or as_json:
        _list(collecting.entries(found), as_json=as_json)
        return
    _copy(home, found, directory or Path(job_label(job_id)), overwrite=overwrite)
    if found.others and attempt is None:
        others = ", ".join(str(each.attempt) for each in found.others)
        note(f"these are of attempt {found.row.attempt}; there are others of {others} (--attempt)")


def _copy(home: Home, found: Outputs, directory: Path, *, overwrite: bool) -> None:
    from gpuscale_tui.cli.checkpoints import bar
    from gpuscale_tui.engine import collecting
    from gpuscale_tui.engine.telling import human

    tree = collecting.hashed(home, found)
    standing = collecting.look(tree, directory)
    if standing.taken and not overwrite:
        names = ", ".join(repr(name) for name in standing.taken[:5])
        raise Refused(
            f"{directory} has {len(standing.taken)} other files of the same name ({names}): --overwrite replaces them"
        )
    with bar(tree.size, job_label(found.row.job_id)) as progress:
        done = collecting.copy(found, tree, directory, standing=standing, overwrite=overwrite, progress=progress)
    there = f", {human(done.there)} of it were there already" if done.there else ""
    files = sum(entry.kind == "file" for entry in tree.files)
    note(f"{directory}: {files} files, {human(tree.size)}{there}")


def _list(entries: tuple[FileEntry, ...], *, as_json: bool) -> None:
    if as_json:
        print_json([{"path": entry.name, "bytes": entry.size, "kind": entry.kind} for entry in entries])
        return
    columns: list[Column[FileEntry]] = [
        Column("BYTES", lambda entry: f"{entry.size:,}" if entry.kind == "file" else "", right=True),
        Column("PATH", lambda entry: entry.name + ("/" if entry.kind == "directory" else "")),
    ]
    print_table(columns, entries, "nothing")
