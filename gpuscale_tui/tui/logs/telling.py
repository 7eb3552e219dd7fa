"""What the Logs screen tells of what is looked for: counts, which one is current, how far it is."""

from __future__ import annotations

from gpuscale_tui.tui.format import plural
from gpuscale_tui.tui.logs.finding import LogFinding
from gpuscale_tui.tui.logs.sweep import Sweep, rank_of
from gpuscale_tui.tui.look import Line, Span

NARROW = 100


def found_line(finding: LogFinding) -> tuple[list[Span], Line]:
    """What is looked for and how far that is; empty when there is nothing to tell."""
    spans: list[Span] = []
    dot = (f" {finding.gpuscale.look.glyphs.dot} ", "muted")
    if finding.trouble:
        spans.append((f"{finding.gpuscale.look.glyphs.warn} {finding.trouble}", "bad"))
    elif finding.search is not None:
        spans += _count(finding, finding.search)
        done, total = finding.search.progress(finding.output.lineup.parts)
        if finding.search.next(finding.output.lineup.parts) is not None and total:
            spans += [dot, (f"searched {100 * done // total} %", "warn")]
    if finding.mode == "matches":
        spans += [dot] if spans else []
        spans.append(("only lines that match, & shows all", "accent"))
    if finding.mode == "sections":
        spans += [dot] if spans else []
        spans.append(("epochs folded: Enter unfolds one, Z shows all", "accent"))
    if finding.output.raw:
        spans += [dot] if spans else []
        spans.append(("raw: every control character, v shows lines as a terminal would", "accent"))
    return spans, ()


def _count(finding: LogFinding, search: Sweep) -> list[Span]:
    place, found = finding.output.place, search.found()
    rank = rank_of(found, place) if place is not None and not finding.output.follow else None
    total = search.count()
    if rank is not None and search.next(finding.output.lineup.parts) is None:
        return [(f"match {rank:,} of {total:,}", "strong")]
    return [(plural(total, "match", "matches"), "strong" if total else "muted")]


def counts_line(finding: LogFinding, width: int) -> list[Span]:
    """How many errors and warnings there are, with a sign and a word, short where there is little room."""
    if finding.index is None:
        return []
    glyphs, more = finding.gpuscale.look.glyphs, "" if finding.index.next(finding.output.lineup.parts) is None else "+"
    spans: list[Span] = []
    short = width < NARROW
    kinds = (
        (0, glyphs.states["failed"], "err" if short else "error", "bad"),
        (1, glyphs.warn, "warn" if short else "warning", "warn"),
    )
    for which, sign, word, role in kinds:
        count = finding.index.count(which)
        if count:
            spans.append((f"{sign} {count:,}{more} {word}{'s' if (count != 1 or more) and not short else ''}  ", role))
    return spans
