"""The schema of the log file: what jobs printed, in compressed chunks with a line index."""

from __future__ import annotations

from gpuscale_tui.store.opening import Schema

MIGRATIONS = (
    """
    CREATE TABLE streams (                       -- the output of one attempt
        id       INTEGER PRIMARY KEY,
        job_id   INTEGER NOT NULL,
        attempt  INTEGER NOT NULL,
        size     INTEGER NOT NULL DEFAULT 0,     -- bytes
        newlines INTEGER NOT NULL DEFAULT 0,
        ended    INTEGER NOT NULL DEFAULT 1,     -- 1: empty, or the last byte is a line end
        pieces   INTEGER NOT NULL DEFAULT 0,     -- rows in `tails`
        UNIQUE (job_id, attempt)
    ) STRICT;

    CREATE TABLE chunks (                        -- bytes from number * 65536, 65536 of them
        stream          INTEGER NOT NULL,
        number          INTEGER NOT NULL,
        newlines_before INTEGER NOT NULL,        -- in the chunks before this one
        packed          INTEGER NOT NULL,        -- 1: zlib, 0: as it is
        data            BLOB NOT NULL,
        PRIMARY KEY (stream, number)
    ) STRICT;
    CREATE INDEX chunks_by_line ON chunks (stream, newlines_before, number);

    CREATE TABLE tails (                         -- bytes after the last whole chunk, in the order of `start`
        stream INTEGER NOT NULL,
        start  INTEGER NOT NULL,
        data   BLOB NOT NULL,
        PRIMARY KEY (stream, start)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE INDEX chunks_to_pack ON chunks (stream, number) WHERE packed = 2;   -- 2: as it is, to be packed later
    """,
    """
    ALTER TABLE streams ADD COLUMN parsed INTEGER NOT NULL DEFAULT 0;   -- so many bytes were read for the series
    UPDATE streams SET parsed = size;            -- what is there already belongs to the past
    CREATE INDEX streams_to_parse ON streams (id) WHERE parsed < size;

    CREATE TABLE series (                        -- one metric of one job over all of its attempts; see series.py
        id     INTEGER PRIMARY KEY,
        job_id INTEGER NOT NULL,
        name   TEXT NOT NULL,
        level  INTEGER NOT NULL DEFAULT 0,       -- how often it was thinned
        points INTEGER NOT NULL DEFAULT 0,       -- in its blocks
        blocks INTEGER NOT NULL DEFAULT 0,
        tail   BLOB NOT NULL DEFAULT x'',        -- points that fill no block yet
        open   BLOB NOT NULL DEFAULT x'',        -- the bucket that is being filled
        UNIQUE (job_id, name)
    ) STRICT;
    CREATE TABLE blocks (
        series INTEGER NOT NULL,
        number INTEGER NOT NULL,
        data   BLOB NOT NULL,                    -- points, compressed
        PRIMARY KEY (series, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE usage (                         -- what a machine did at a time; columns as in the main database
        worker_id        INTEGER NOT NULL,
        at               INTEGER NOT NULL,
        gpu_percent      INTEGER,
        gpu_mem_mb       INTEGER,
        gpu_mem_total_mb INTEGER,
        gpu_temp_c       INTEGER,
        cpu_percent      INTEGER,
        mem_mb           INTEGER,
        mem_total_mb     INTEGER,
        disk_free_mb     INTEGER,
        PRIMARY KEY (worker_id, at)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX usage_by_time ON usage (at);

    ALTER TABLE streams ADD COLUMN begun INTEGER;  -- UTC ms at which its first bytes arrived, where that was told
    ALTER TABLE streams ADD COLUMN timed INTEGER;  -- UTC ms of its newest row in `arrivals`

    CREATE TABLE arrivals (                      -- when lines came, thinned: line `line` and those after it, at `at`
        stream INTEGER NOT NULL,
        line   INTEGER NOT NULL,
        at     INTEGER NOT NULL,                 -- UTC ms
        PRIMARY KEY (stream, line)
    ) STRICT, WITHOUT ROWID;
    """,
)
SCHEMA = Schema(
    what="gpuscale log file",
    application_id=0x6770736C,  # "gpsl"
    migrations=MIGRATIONS,
    synchronous="NORMAL",
    loss="output of earlier jobs is then no longer shown; jobs and money are not touched",
    first="PRAGMA auto_vacuum = INCREMENTAL",
)
