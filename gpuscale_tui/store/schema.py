"""The schema of the main database, as forward migrations by number (`PRAGMA user_version`).

Money is integer micro-dollars, time integer UTC milliseconds. A migration that has been released is never changed.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE engine (                          -- one row: the engine of this home, running or last seen
        id           INTEGER PRIMARY KEY CHECK (id = 1),
        epoch        INTEGER NOT NULL,             -- rises with each engine; an older one may write nothing
        pid          INTEGER NOT NULL,
        mode         TEXT NOT NULL,                -- screen | autopilot | pipeline
        started_at   INTEGER NOT NULL,
        heartbeat_at INTEGER NOT NULL,
        stopped_at   INTEGER,
        cap          INTEGER NOT NULL,             -- micro-dollars per hour
        max_workers  INTEGER NOT NULL,
        note         TEXT NOT NULL DEFAULT ''      -- what it is doing, in words, or why it stopped
    ) STRICT;

    CREATE TABLE jobs (
        id              INTEGER PRIMARY KEY,
        name            TEXT NOT NULL,
        state           TEXT NOT NULL CHECK (state IN ('pending', 'running', 'done', 'failed', 'cancelled')),
        priority        INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 10),
        group_key       TEXT NOT NULL,             -- model.offers.Need.key
        command         TEXT,
        argv            TEXT NOT NULL,             -- JSON list
        image           TEXT NOT NULL,
        gpu_type        TEXT,
        gpu_count       INTEGER NOT NULL,
        max_price       INTEGER,
        max_runtime_sec INTEGER,
        env             TEXT NOT NULL,             -- JSON object, without secrets
        secret_names    TEXT NOT NULL,             -- JSON list; the values are in the home's secrets directory
        params          TEXT NOT NULL,             -- JSON object
        workdir         TEXT,
        checkpoint_dir  TEXT,
        project         TEXT,
        provider        TEXT,
        market          TEXT,
        retries         INTEGER,
        user            TEXT NOT NULL,
        attempt         INTEGER NOT NULL DEFAULT 0,
        faults          INTEGER NOT NULL DEFAULT 0,
        not_before      INTEGER,
        cancel_requested_at INTEGER,
        worker_id       INTEGER REFERENCES workers (id),
        submitted_at    INTEGER NOT NULL,
        started_at      INTEGER,
        finished_at     INTEGER,
        exit_code       INTEGER,
        cause           TEXT,
        error           TEXT,
        cost            INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX jobs_in_order ON jobs (state, priority, id);
    CREATE INDEX jobs_ended ON jobs (state, finished_at, id) WHERE finished_at IS NOT NULL;
    CREATE INDEX jobs_by_group ON jobs (group_key, priority, id) WHERE state = 'pending';
    CREATE INDEX jobs_cancelling ON jobs (id) WHERE cancel_requested_at IS NOT NULL;

    CREATE TABLE workers (
        id              INTEGER PRIMARY KEY,
        provider        TEXT NOT NULL,
        state           TEXT NOT NULL CHECK (state IN
                            ('ordering', 'booting', 'idle', 'busy', 'releasing', 'released', 'lost')),
        token           TEXT NOT NULL UNIQUE,
        order_id        TEXT,
        server_id       TEXT NOT NULL,
        owner           TEXT,
        gpu_type        TEXT,
        gpu_count       INTEGER NOT NULL,
        image           TEXT,
        market          TEXT NOT NULL,
        rate            INTEGER NOT NULL,          -- micro-dollars per hour, fees included
        terms           TEXT NOT NULL,             -- JSON object of model.money.Terms
        quote           TEXT NOT NULL,
        group_key       TEXT NOT NULL,
        purpose         TEXT NOT NULL,             -- queue | hand | minimum
        host            TEXT,
        port            INTEGER,
        ssh_user        TEXT,
        key_file        TEXT,
        host_key        TEXT,
        outcome         TEXT,                      -- of the create call, while ordering
        known_orders    TEXT NOT NULL,             -- JSON list: order ids listed before the call
        absences        INTEGER NOT NULL DEFAULT 0,
        created_at      INTEGER NOT NULL,          -- the intent
        call_ended_at   INTEGER,
        held_from       INTEGER,                   -- since when it costs
        idle_since      INTEGER,
        contact_at      INTEGER,                   -- last successful SSH contact
        release_asked   INTEGER NOT NULL DEFAULT 0,
        release_next_at INTEGER,
        ended_at        INTEGER,
        job_id          INTEGER REFERENCES jobs (id),
        attempt         INTEGER,
        cost            INTEGER NOT NULL DEFAULT 0,
        billed          INTEGER NOT NULL DEFAULT 0,
        cause           TEXT,
        reason          TEXT NOT NULL,             -- why it was rented
        why             TEXT NOT NULL DEFAULT ''   -- why it is still up, or what it waits for
    ) STRICT;
    CREATE INDEX workers_live ON workers (id, state, rate) WHERE state NOT IN ('released', 'lost');
    CREATE INDEX workers_ended ON workers (ended_at, id, state) WHERE ended_at IS NOT NULL;
    CREATE INDEX workers_by_order ON workers (order_id, provider) WHERE order_id IS NOT NULL;
    CREATE UNIQUE INDEX one_worker_an_order ON workers (provider, order_id)
        WHERE order_id IS NOT NULL AND state NOT IN ('released', 'lost');

    CREATE TABLE attempts (
        job_id       INTEGER NOT NULL REFERENCES jobs (id),
        number       INTEGER NOT NULL,
        worker_id    INTEGER NOT NULL REFERENCES workers (id),
        state        TEXT NOT NULL CHECK (state IN ('assigned', 'staging', 'running', 'saving', 'ended')),
        assigned_at  INTEGER NOT NULL,
        started_at   INTEGER,
        ended_at     INTEGER,
        cause        TEXT,
        exit_code    INTEGER,
        output_bytes INTEGER NOT NULL DEFAULT 0,
        resumed_from INTEGER,                      -- number of the snapshot that was put back
        PRIMARY KEY (job_id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX one_live_attempt_a_job ON attempts (job_id) WHERE state <> 'ended';
    CREATE UNIQUE INDEX one_live_attempt_a_worker ON attempts (worker_id) WHERE state <> 'ended';

    CREATE TABLE spans (                           -- which worker did what when, and what that cost
        id         INTEGER PRIMARY KEY,
        worker_id  INTEGER NOT NULL REFERENCES workers (id),
        kind       TEXT NOT NULL CHECK (kind IN ('setup', 'job', 'idle', 'rejected', 'lost')),
        job_id     INTEGER REFERENCES jobs (id),
        attempt    INTEGER,
        started_at INTEGER NOT NULL,
        ended_at   INTEGER,
        cost       INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX spans_of_worker ON spans (worker_id, started_at);
    CREATE INDEX spans_open ON spans (worker_id) WHERE ended_at IS NULL;
    CREATE INDEX spans_of_job ON spans (job_id) WHERE job_id IS NOT NULL;

    CREATE TABLE ledger (                          -- append-only: how each worker's cost grew
        id        INTEGER PRIMARY KEY,
        at        INTEGER NOT NULL,
        worker_id INTEGER NOT NULL REFERENCES workers (id),
        amount    INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX ledger_by_time ON ledger (at, amount);

    CREATE TABLE snapshots (
        job_id  INTEGER NOT NULL REFERENCES jobs (id),
        number  INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        at      INTEGER NOT NULL,
        files   INTEGER NOT NULL,
        bytes   INTEGER NOT NULL,
        pruned_at INTEGER,
        PRIMARY KEY (job_id, number)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX snapshots_by_time ON snapshots (at, job_id, number);

    CREATE TABLE events (                          -- the audit log: every transition with its cause
        id         INTEGER PRIMARY KEY,
        at         INTEGER NOT NULL,
        epoch      INTEGER,                        -- the engine that wrote it; NULL: a user's command
        kind       TEXT NOT NULL,                  -- job | attempt | worker | engine | request | warning
        job_id     INTEGER,
        attempt    INTEGER,
        worker_id  INTEGER,
        from_state TEXT,
        to_state   TEXT,
        cause      TEXT,
        detail     TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX events_of_job ON events (job_id, id) WHERE job_id IS NOT NULL;
    CREATE INDEX events_of_worker ON events (worker_id, id) WHERE worker_id IS NOT NULL;

    CREATE TABLE requests (                        -- what users ask of the engine
        id      INTEGER PRIMARY KEY,
        at      INTEGER NOT NULL,
        kind    TEXT NOT NULL CHECK (kind IN ('stop', 'stop_now', 'scale_up', 'scale_down', 'release')),
        amount  INTEGER,                           -- machines to rent or give back; the worker of a release
        user    TEXT NOT NULL,
        done_at INTEGER,
        result  TEXT
    ) STRICT;
    CREATE INDEX requests_open ON requests (id) WHERE done_at IS NULL;

    CREATE TABLE offers (                          -- the newest reading of each provider's market
        provider    TEXT NOT NULL,
        server_id   TEXT NOT NULL,
        market      TEXT NOT NULL,
        gpu_type    TEXT,
        gpu_count   INTEGER NOT NULL,
        rate        INTEGER NOT NULL,              -- micro-dollars per hour, fees included
        reliability REAL,
        country     TEXT,
        verdict     TEXT NOT NULL DEFAULT '',      -- why it would not be rented, empty where it would
        read_at     INTEGER NOT NULL,
        PRIMARY KEY (provider, server_id, market)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE group_reasons (                   -- why the pending jobs of a group wait: one sentence a group
        group_key TEXT PRIMARY KEY,
        at        INTEGER NOT NULL,
        code      TEXT NOT NULL,
        reason    TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE workers ADD COLUMN up_at INTEGER;      -- since when its provider says that it runs
    ALTER TABLE workers ADD COLUMN ready_at INTEGER;   -- when it was first usable over SSH
    ALTER TABLE workers ADD COLUMN expires_at INTEGER; -- when its rental ends by itself, where it does

    CREATE TABLE notices (                         -- messages to the outside, in the order in which they are sent
        id        INTEGER PRIMARY KEY,
        at        INTEGER NOT NULL,
        kind      TEXT NOT NULL,
        key       TEXT UNIQUE,                     -- what may be said once only; NULL: each time
        text      TEXT NOT NULL,
        job_id    INTEGER,
        worker_id INTEGER
    ) STRICT;
    CREATE TABLE notice_targets (                  -- how far each address that notices go to has been told
        target        TEXT PRIMARY KEY,            -- a digest of the address, which is a secret itself
        label         TEXT NOT NULL,
        upto          INTEGER NOT NULL,            -- id of the last notice that was sent there, or given up
        sent_at       INTEGER,                     -- when it last took one
        failures      INTEGER NOT NULL DEFAULT 0,  -- in a row
        failing_since INTEGER,
        next_at       INTEGER NOT NULL DEFAULT 0,  -- not before this
        error         TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE spent (                           -- the ledger and the jobs' spans, summed by day as they grow
        scope  TEXT NOT NULL CHECK (scope IN ('all', 'project', 'user')),
        name   TEXT NOT NULL,                      -- of the project or the user; empty for all
        day    INTEGER NOT NULL,                   -- its midnight (UTC)
        amount INTEGER NOT NULL,
        PRIMARY KEY (scope, name, day)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO spent SELECT 'all', '', at - at % 86400000, sum(amount) FROM ledger GROUP BY 3;
    INSERT INTO spent SELECT 'project', j.project, s.started_at - s.started_at % 86400000, sum(s.cost)
        FROM spans s JOIN jobs j ON j.id = s.job_id WHERE j.project IS NOT NULL GROUP BY 2, 3;
    INSERT INTO spent SELECT 'user', j.user, s.started_at - s.started_at % 86400000, sum(s.cost)
        FROM spans s JOIN jobs j ON j.id = s.job_id GROUP BY 2, 3;
    CREATE TRIGGER ledger_is_summed AFTER INSERT ON ledger BEGIN
        INSERT INTO spent VALUES ('all', '', NEW.at - NEW.at % 86400000, NEW.amount)
            ON CONFLICT DO UPDATE SET amount = amount + excluded.amount;
    END;

    -- what was booked and what happened stays as it was written
    CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE ON ledger BEGIN
        SELECT RAISE(ABORT, 'the ledger is append-only');
    END;
    CREATE TRIGGER ledger_is_not_cut BEFORE DELETE ON ledger BEGIN
        SELECT RAISE(ABORT, 'the ledger is append-only');
    END;
    CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;
    CREATE TRIGGER events_are_not_cut BEFORE DELETE ON events BEGIN
        SELECT RAISE(ABORT, 'the audit log is append-only');
    END;

    CREATE TABLE holds (                           -- limits of money that are used up, and what they hold back
        scope  TEXT NOT NULL CHECK (scope IN ('day', 'month', 'project', 'user', 'job')),
        name   TEXT NOT NULL,                      -- of the project or the user, the id of the job; empty for all
        begins INTEGER NOT NULL,                   -- of the time that is used up; 0 for a job
        amount INTEGER NOT NULL,                   -- the limit, in micro-dollars
        at     INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (scope, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX jobs_waiting_paid ON jobs (cost) WHERE state = 'pending' AND cost > 0;

    ALTER TABLE workers ADD COLUMN asked_back_at INTEGER; -- when its provider was first asked to take it back
    ALTER TABLE workers ADD COLUMN reckoned INTEGER;   -- what the final bill should have been by our own reckoning

    CREATE TABLE outcomes (                        -- append-only: what came of renting each machine
        id        INTEGER PRIMARY KEY,
        at        INTEGER NOT NULL,
        worker_id INTEGER NOT NULL REFERENCES workers (id),
        provider  TEXT NOT NULL,
        server_id TEXT NOT NULL,
        owner     TEXT,
        image     TEXT,
        market    TEXT NOT NULL,
        kind      TEXT NOT NULL CHECK (kind IN
                      ('ready', 'refused', 'no_start', 'failed_test', 'lost', 'evicted', 'job_fault', 'returned')),
        setup_ms  INTEGER,                         -- from the order to the first use
        held_ms   INTEGER,
        lost_ms   INTEGER,                         -- work that stood in no snapshot
        down_mbps REAL,                            -- measured over our SSH link
        up_mbps   REAL,
        examined  TEXT,                            -- JSON object of model.hosts.Examination
        detail    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outcomes_by_time ON outcomes (at);
    CREATE INDEX outcomes_of_host ON outcomes (server_id, provider);
    CREATE INDEX outcomes_of_worker ON outcomes (worker_id) WHERE examined IS NOT NULL;
    ALTER TABLE workers ADD COLUMN promised TEXT;  -- JSON object: what it was offered as, for its test

    CREATE TABLE bans (                            -- hosts and owners that a user does not want
        scope    TEXT NOT NULL CHECK (scope IN ('host', 'owner')),
        provider TEXT NOT NULL,
        key      TEXT NOT NULL,                    -- server id or owner
        at       INTEGER NOT NULL,
        until    INTEGER,                          -- NULL: for good
        reason   TEXT NOT NULL,
        user     TEXT NOT NULL,
        PRIMARY KEY (scope, provider, key)
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX workers_by_group ON workers (group_key, created_at);
    CREATE INDEX workers_of_host ON workers (server_id, provider) WHERE billed = 1;
    CREATE TABLE group_marks (                     -- when a job of a group last started, or its user wanted a new try
        group_key TEXT PRIMARY KEY,
        at        INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE wallets (                         -- what is left to pay with, as last read
        provider  TEXT PRIMARY KEY,
        name      TEXT NOT NULL,                   -- of the wallet that orders are paid from
        micros    INTEGER NOT NULL,
        at        INTEGER NOT NULL,
        low_since INTEGER                          -- since when it lasts for too few hours
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE workers ADD COLUMN silent_since INTEGER; -- since when SSH does not answer there
    ALTER TABLE workers ADD COLUMN down_since INTEGER; -- since when its provider says that it does not run
    ALTER TABLE attempts ADD COLUMN stalled_at INTEGER; -- when it was noticed that its job does nothing
    CREATE TABLE silences (                        -- how long machines were out of reach before they answered again
        id        INTEGER PRIMARY KEY,
        at        INTEGER NOT NULL,                -- when it answered again
        worker_id INTEGER NOT NULL REFERENCES workers (id),
        provider  TEXT NOT NULL,
        server_id TEXT NOT NULL,
        lasted_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX silences_of_provider ON silences (provider, id);
    """,
    """
    CREATE TABLE asked (                           -- requests, with what they are about and when they are to be heard
        id      INTEGER PRIMARY KEY,
        at      INTEGER NOT NULL,
        kind    TEXT NOT NULL CHECK (kind IN
                    ('stop', 'stop_now', 'scale_up', 'scale_down', 'release', 'rent', 'reload')),
        amount  INTEGER,                           -- machines to rent or give back; the worker of a release
        about   TEXT NOT NULL DEFAULT '',          -- of a rent: JSON list of provider, server id, market
        due_at  INTEGER NOT NULL,                  -- not heard before: until then it can be taken back
        user    TEXT NOT NULL,
        done_at INTEGER,
        result  TEXT
    ) STRICT;
    INSERT INTO asked SELECT id, at, kind, amount, '', at, user, done_at, result FROM requests;
    DROP TABLE requests;
    ALTER TABLE asked RENAME TO requests;
    CREATE INDEX requests_open ON requests (id) WHERE done_at IS NULL;

    ALTER TABLE jobs ADD COLUMN start_job INTEGER; -- it begins with a snapshot of this job: another's, or an older own
    ALTER TABLE jobs ADD COLUMN start_snapshot INTEGER; -- number of that snapshot
    ALTER TABLE jobs ADD COLUMN start_after INTEGER NOT NULL DEFAULT 0; -- own snapshots of attempts after this one win
    CREATE INDEX jobs_that_start_from ON jobs (start_job, start_snapshot)
        WHERE start_job IS NOT NULL AND state IN ('pending', 'running');

    CREATE TABLE progress (                        -- how far each job is, by its own output; written every 10 s at most
        job_id   INTEGER PRIMARY KEY REFERENCES jobs (id),
        attempt  INTEGER NOT NULL,
        at       INTEGER NOT NULL,                 -- of the last line that told something
        step     INTEGER,
        steps    INTEGER,
        epoch    REAL,
        epochs   INTEGER,
        fraction REAL,                             -- 0 to 1
        loss     ANY,                              -- REAL, or the word nan, for which SQLite has no number
        speed    REAL,                             -- steps per second
        eta_ms   INTEGER
    ) STRICT;
    CREATE TABLE usage (                           -- what each machine does now; written with the above
        worker_id        INTEGER PRIMARY KEY REFERENCES workers (id),
        at               INTEGER NOT NULL,
        gpu_percent      INTEGER,                  -- mean over its GPUs
        gpu_mem_mb       INTEGER,                  -- of all GPUs together
        gpu_mem_total_mb INTEGER,
        gpu_temp_c       INTEGER,                  -- the hottest
        cpu_percent      INTEGER,                  -- of all cores together
        mem_mb           INTEGER,
        mem_total_mb     INTEGER,
        disk_free_mb     INTEGER
    ) STRICT;
    ALTER TABLE snapshots ADD COLUMN step INTEGER; -- the step that was known when it was taken
    CREATE INDEX spans_by_end ON spans (ended_at, started_at) WHERE ended_at IS NOT NULL; -- the timeline: 1 ms, not 25

    -- how long finished jobs took, by name (its first word without the number at its end) or by project, and by GPU
    CREATE INDEX jobs_done_by_name ON jobs
        (rtrim(substr(name || ' ', 1, instr(name || ' ', ' ') - 1), '0123456789-_.#'), gpu_type, finished_at,
         started_at) WHERE state = 'done';
    CREATE INDEX jobs_done_by_project ON jobs (project, gpu_type, finished_at, started_at) WHERE state = 'done';

    ALTER TABLE offers ADD COLUMN owner TEXT;
    ALTER TABLE offers ADD COLUMN rank INTEGER;        -- among those that may be rented for the first group it serves
    ALTER TABLE offers ADD COLUMN expected INTEGER;    -- what an hour of useful work there is expected to cost
    ALTER TABLE offers ADD COLUMN reason TEXT NOT NULL DEFAULT ''; -- what that is made of, in words
    ALTER TABLE offers ADD COLUMN serves TEXT NOT NULL DEFAULT '[]'; -- JSON list of group keys, the most urgent first
    ALTER TABLE offers ADD COLUMN details TEXT NOT NULL DEFAULT '{}'; -- JSON object: the hardware and the terms
    CREATE TABLE prices (                              -- what machines cost on the market, hour by hour
        provider  TEXT NOT NULL,
        gpu_type  TEXT NOT NULL,                       -- empty: no GPU
        gpu_count INTEGER NOT NULL,
        market    TEXT NOT NULL,
        hour      INTEGER NOT NULL,                    -- when it began
        low       INTEGER NOT NULL,                    -- the lowest rate of a machine seen in it, fees included
        quarter   INTEGER NOT NULL,                    -- quartiles: the means of those of its readings
        median    INTEGER NOT NULL,
        three     INTEGER NOT NULL,
        high      INTEGER NOT NULL,
        offers    INTEGER NOT NULL,                    -- how many there were, the mean of its readings
        readings  INTEGER NOT NULL,
        at        INTEGER NOT NULL,                    -- of the last reading
        PRIMARY KEY (provider, gpu_type, gpu_count, market, hour)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE jobs ADD COLUMN git_url TEXT;          -- code is cloned from here instead of a workdir
    ALTER TABLE jobs ADD COLUMN git_rev TEXT NOT NULL DEFAULT ''; -- branch, tag or commit as asked; empty: the default
    ALTER TABLE jobs ADD COLUMN git_commit TEXT;       -- what that was when it was first fetched: later attempts use it
    ALTER TABLE jobs ADD COLUMN data TEXT NOT NULL DEFAULT '{}'; -- JSON object: data sets, name to local path
    ALTER TABLE jobs ADD COLUMN stop_signal TEXT NOT NULL DEFAULT 'TERM';
    ALTER TABLE jobs ADD COLUMN grace_sec INTEGER;     -- between that signal and KILL; NULL: the setting
    ALTER TABLE jobs ADD COLUMN rehearsal TEXT NOT NULL DEFAULT ''
        CHECK (rehearsal IN ('', 'wanted', 'moving', 'resumed', 'verified', 'failed'));
    ALTER TABLE jobs ADD COLUMN rehearsal_detail TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN rehearsal_attempt INTEGER; -- the attempt that is moved for it
    ALTER TABLE jobs ADD COLUMN rehearsal_at INTEGER;  -- when that was decided
    ALTER TABLE jobs ADD COLUMN rehearsal_elsewhere INTEGER NOT NULL DEFAULT 0; -- its machine goes back for it
    CREATE INDEX jobs_rehearsing ON jobs (id) WHERE rehearsal IN ('wanted', 'moving', 'resumed');
    ALTER TABLE jobs ADD COLUMN save_asked_at INTEGER; -- its user wants a snapshot now
    CREATE INDEX jobs_to_save ON jobs (id) WHERE save_asked_at IS NOT NULL;

    ALTER TABLE attempts ADD COLUMN resumed_step INTEGER; -- of the snapshot that it began with
    ALTER TABLE attempts ADD COLUMN first_step INTEGER; -- the first that its own output told
    ALTER TABLE attempts ADD COLUMN lost_ms INTEGER;   -- work that stood in no verified snapshot when it ended
    ALTER TABLE attempts ADD COLUMN lost_cost INTEGER; -- what its machine cost meanwhile, micro-dollars
    ALTER TABLE attempts ADD COLUMN lost_steps INTEGER;

    ALTER TABLE snapshots ADD COLUMN kind TEXT NOT NULL DEFAULT 'interval'
        CHECK (kind IN ('interval', 'last', 'asked'));
    ALTER TABLE snapshots ADD COLUMN took_ms INTEGER;  -- from the first look to its manifest on disk
    ALTER TABLE snapshots ADD COLUMN stored INTEGER;   -- bytes that it added; the rest stood in snapshots before it
    ALTER TABLE snapshots ADD COLUMN pinned_at INTEGER; -- never pruned while set
    ALTER TABLE snapshots ADD COLUMN checked_at INTEGER; -- when every byte was last read and compared
    ALTER TABLE snapshots ADD COLUMN fault TEXT;       -- what is wrong with it; NULL: nothing known
    ALTER TABLE snapshots ADD COLUMN epoch REAL;       -- of the training, as far as its output says
    ALTER TABLE snapshots ADD COLUMN loss REAL;
    ALTER TABLE snapshots ADD COLUMN place TEXT NOT NULL DEFAULT 'dir' CHECK (place IN ('dir', 's3'));
    ALTER TABLE snapshots ADD COLUMN of_at INTEGER;    -- when the newest of its files was written; NULL: not known

    CREATE TABLE outputs (                             -- what was fetched of a job's OUTPUT_DIR when an attempt ended
        job_id  INTEGER NOT NULL REFERENCES jobs (id),
        attempt INTEGER NOT NULL,
        at      INTEGER NOT NULL,
        files   INTEGER NOT NULL,
        bytes   INTEGER NOT NULL,
        error   TEXT,                                  -- why not everything could be fetched
        PRIMARY KEY (job_id, attempt)
    ) STRICT, WITHOUT ROWID;
    """,
)
