"""What a hostile machine, marketplace or file says, and what a terminal may be sent all the same."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata

TITLE = "\x1b]0;OWNED\x07"
CLIPBOARD = "\x1b]52;c;T1dORUQ=\x07"
CORPUS: tuple[str, ...] = (
    TITLE,
    "\x1b]2;OWNED\x1b\\",
    CLIPBOARD,
    "\x1b]8;;http://owned.example/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]1337;File=inline=1:T1dORUQ=\x07",
    "\x1b[38;5;201mcolour",
    "\x1b[5;8mblink and hide",
    "\x1b[2J\x1b[H",
    "\x1b[999A\x1b[999Dup",
    "\x1b[?1049l\x1b[?25h",
    "\x1b[6n",
    "\x1b[c",
    "\x1bc",
    "\x1b(0",
    '\x1bP$q"p\x1b\\',
    "\x1b_Gi=1\x1b\\",
    "\x1b^private\x1b\\",
    "\x1b",
    "\x9b31m",
    "\x9d0;OWNED\x9c",
    "\x90q\x9c",
    "\x84\x85\x8d",
    "\x00\x07\x08\x0b\x0c\x0e\x0f\x7f",
    "\r\n",
    "\t",
    "\u202eright to left\u202c\u2066\u2069\u200f\u061c",
    "\u200b\u2060\ufeff\u00ad",
    "\u2028\u2029",
    "\U000e0041\U000e007f",
    "[/]",
    "[bold red]x[/bold red][/red]",
    "[link=http://owned.example/]x[/link]",
    "[@click=app.quit]x[/]",
    "[[unclosed",
    "$x {y} %s %(z)s \\n",
    "e\u0301\u0301\u0301\u0301\u0301\u0301",
    "\U0001f9e8\U0001f468\u200d\U0001f469",
    "W" * 300,
)
"""Each of these in each field."""

EVIL = "EVIL[/]" + "".join(CORPUS)
OUTPUT = EVIL.encode() + b"\xff\xfe\xc3(\x80\n" + b"A" * 300_000 + b"\n" + EVIL.encode() + b"\rlast line\n\x1b]0;OWNED"
"""What a job prints: the same, bytes that are no UTF-8, and a line without end; ends within a sequence."""

_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|\x1b")
_FORBIDDEN_SGR = re.compile(rb"\x1b\[(?:\d+;)*(?:5|6|8|9|38;5;201)(?:;\d+)*m")


def sequences(data: bytes) -> set[bytes]:
    """The escape sequences in what a terminal was sent, but for colours and places of the cursor as such."""
    return {shape(found) for found in _SEQUENCE.findall(data)}


def shape(sequence: bytes) -> bytes:
    """A sequence without what changes from one moment to the next: where the cursor goes, and which colour comes."""
    if re.fullmatch(rb"\x1b\[\d*(?:;\d*)?H", sequence):
        return b"\x1b[H"
    if re.fullmatch(rb"\x1b\[[\d;]*m", sequence) and not _FORBIDDEN_SGR.fullmatch(_colours_out(sequence)):
        return b"\x1b[m"
    return sequence


def _colours_out(sequence: bytes) -> bytes:
    """Without the numbers of colours, which are no attributes."""
    return re.sub(rb"[34]8;2;\d{1,3};\d{1,3};\d{1,3}", b"39", sequence)


def misfits(data: bytes) -> list[str]:
    """What no terminal may be sent: controls, C1, format and direction characters, bytes that are no text."""
    text = _SEQUENCE.sub(b"", data).decode("utf-8", "surrogateescape")
    return sorted(
        {repr(c) for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in "\r\n\t"}
    )


LIMITED = frozenset(
    (
        *("meta.key", "meta.value", "engine.mode", "spans.kind", "events.kind", "events.from_state", "events.to_state"),
        *("events.cause", "requests.kind", "offers.market", "group_reasons.group_key", "notices.kind", "notices.key"),
        *("jobs.state", "jobs.group_key", "jobs.argv", "jobs.image", "jobs.gpu_type", "jobs.env", "jobs.secret_names"),
        *("jobs.data", "jobs.stop_signal", "jobs.rehearsal", "jobs.git_commit", "snapshots.kind", "snapshots.place"),
        *("jobs.params", "jobs.project", "jobs.provider", "jobs.market", "jobs.cause", "attempts.state"),
        *("attempts.cause", "workers.state", "workers.token", "workers.market", "workers.terms", "workers.group_key"),
        *(
            "outcomes.kind",
            "offers.serves",
            "offers.details",
            "outcomes.examined",
            "outcomes.market",
            "workers.purpose",
            "workers.outcome",
            "workers.known_orders",
            "workers.cause",
        ),
    )
)
"""Columns whose values are ours alone (words of a list, JSON, keys), or are checked when they are read."""


def poison(connection: sqlite3.Connection, evil: str = EVIL) -> list[str]:
    """Put hostile text into every text column of every table that anybody else may fill; the columns."""
    done = []
    for (guard,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {guard}")  # what is append-only could have been written so
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for table in tables:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        key = " || ".join(f"CAST({column[1]} AS TEXT)" for column in columns if column[5])  # what is unique stays so
        for column in columns:
            name, kind = column[1], column[2]
            if kind == "TEXT" and f"{table}.{name}" not in LIMITED:
                given = SPECIAL.get(f"{table}.{name}", str)(evil)
                connection.execute(
                    f"UPDATE OR IGNORE {table} SET {name} = ? || {key} WHERE {name} IS NOT NULL", (given,)
                )
                done.append(f"{table}.{name}")
    _poison_offers(connection, evil)
    return done


def _poison_offers(connection: sqlite3.Connection, evil: str) -> None:
    """What a marketplace says of an offer and the names of the jobs that it would serve, which are kept as JSON."""
    found = connection.execute("SELECT provider || '|' || server_id || '|' || market, details FROM offers")
    for key, details in found.fetchall():
        said = json.loads(details)
        said = {name: evil if isinstance(value, str) and name in FOREIGN else value for name, value in said.items()}
        connection.execute(
            "UPDATE offers SET serves = ?, details = ? WHERE provider || '|' || server_id || '|' || market = ?",
            (json.dumps([evil]), json.dumps(said), key),
        )


def clean_name(evil: str) -> str:
    """What of it a job's name may be: no control characters, up to 200 characters."""
    return re.sub("[\x00-\x1f\x7f-\x9f]", "", evil)[:190]


def without_nul(evil: str) -> str:
    """What of it a command may be."""
    return evil.replace("\0", "")


def relative(evil: str) -> str:
    """What of it a path may be."""
    return without_nul(evil).replace("/", "|")


FOREIGN = frozenset({"country", "owner", "cuda_version"})
"""What a marketplace says of an offer in words of its own."""
SPECIAL = {
    "jobs.name": clean_name,
    "jobs.command": without_nul,
    "jobs.workdir": lambda evil: "/" + relative(evil),
    "jobs.checkpoint_dir": relative,
}
"""Fields that refuse some of it when a job is submitted, and what gets through."""
