CREATE TABLE further_listener (         -- who else is told what an account's listener of one service is told
    account       TEXT NOT NULL,
    service       TEXT NOT NULL,
    name          TEXT NOT NULL CONSTRAINT further_listener_has_a_name CHECK (name <> ''),
    url           TEXT NOT NULL,
    username      TEXT,
    password      BLOB,                       -- encrypted: it must be sent in clear
    registered_at INTEGER NOT NULL,
    CONSTRAINT further_listener_once PRIMARY KEY (account, service, name)
) STRICT, WITHOUT ROWID;

-- An outcome, or a warning, has a callback for the service's own listener, at '', and one for each further one there was.
CREATE TABLE callback_of_8 (
    sequence        INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    warned_at       INTEGER NOT NULL DEFAULT 0,
    listener        TEXT NOT NULL DEFAULT '',
    account         TEXT NOT NULL,
    service         INTEGER NOT NULL DEFAULT 0,
    eid             TEXT,
    imei            TEXT,
    msisdn          TEXT,
    left_state      TEXT,
    left_status     TEXT,
    left_role       TEXT,
    series          INTEGER NOT NULL DEFAULT 1,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,
    ended_at        INTEGER,
    answered        INTEGER,
    archived        TEXT,
    CONSTRAINT callback_waits_or_has_ended CHECK ((next_attempt_at IS NULL) = (ended_at IS NOT NULL)),
    CONSTRAINT callback_delivered_or_archived
        CHECK (ended_at IS NULL OR (answered IS NULL) <> (archived IS NULL)),
    CONSTRAINT callback_once_per_outcome PRIMARY KEY (sequence, number, warned_at, listener)
) STRICT, WITHOUT ROWID;
INSERT INTO callback_of_8 (sequence, number, warned_at, account, service, eid, imei, msisdn, left_state, left_status,
                           left_role, series, attempts, next_attempt_at, ended_at, answered, archived)
    SELECT sequence, number, warned_at, account, service, eid, imei, msisdn, left_state, left_status, left_role,
           series, attempts, next_attempt_at, ended_at, answered, archived FROM callback;
DROP TABLE callback;
ALTER TABLE callback_of_8 RENAME TO callback;
CREATE INDEX callback_due ON callback (account, service, listener, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
-- A request says how many of its own listener's wait or are archived; those of a further one are found here.
CREATE INDEX callback_further ON callback (account, listener, sequence, number, warned_at)
    WHERE listener <> '' AND answered IS NULL;

CREATE TABLE attempt_of_8 (
    sequence    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    warned_at   INTEGER NOT NULL DEFAULT 0,
    listener    TEXT NOT NULL DEFAULT '',
    series      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    account     TEXT NOT NULL,
    ended_at    INTEGER NOT NULL,
    answered    INTEGER,
    error       TEXT,
    CONSTRAINT attempt_once PRIMARY KEY (sequence, number, warned_at, listener, series, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt_of_8 (sequence, number, warned_at, series, ordinal, account, ended_at, answered, error)
    SELECT sequence, number, warned_at, series, ordinal, account, ended_at, answered, error FROM attempt;
DROP TABLE attempt;
ALTER TABLE attempt_of_8 RENAME TO attempt;
