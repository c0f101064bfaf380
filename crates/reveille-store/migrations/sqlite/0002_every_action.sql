-- What the other profile actions need: cards, devices as a whole, answers in pages, warnings, timelines.

ALTER TABLE profile ADD COLUMN fallback INTEGER NOT NULL DEFAULT 0;  -- its eUICC falls back to it
ALTER TABLE profile ADD COLUMN suspended_at INTEGER;   -- since when, where the store saw it
ALTER TABLE profile ADD COLUMN noticed_at INTEGER;     -- when it was told that this will end by itself
CREATE INDEX profile_by_msisdn ON profile (account, msisdn) WHERE msisdn IS NOT NULL;
CREATE INDEX device_by_imei ON device (account, imei) WHERE imei IS NOT NULL;

ALTER TABLE request ADD COLUMN mdn_zip_code TEXT;
ALTER TABLE request ADD COLUMN smsr_oid TEXT;
ALTER TABLE request ADD COLUMN carrier_name TEXT;
ALTER TABLE request ADD COLUMN reason_code TEXT;
ALTER TABLE request ADD COLUMN etf_waiver INTEGER NOT NULL DEFAULT 0;
ALTER TABLE request ADD COLUMN spares_fallback INTEGER NOT NULL DEFAULT 0;
ALTER TABLE request ADD COLUMN reported_state TEXT;    -- what a network changed by itself
ALTER TABLE request ADD COLUMN reported_status TEXT;
ALTER TABLE request ADD COLUMN resumes_at INTEGER;     -- what a notice tells

-- What a subrequest is about, as it was named: an ICCID, an EID of 32 digits, or nothing for a page.
ALTER TABLE subrequest RENAME COLUMN iccid TO subject;
ALTER TABLE subrequest ADD COLUMN calls INTEGER NOT NULL DEFAULT 0;  -- the ordinal of the call that settled it
ALTER TABLE subrequest ADD COLUMN called_at INTEGER;   -- when that began; it ended with the subrequest
ALTER TABLE subrequest ADD COLUMN reply TEXT;

CREATE TABLE page (                     -- what one callback of an answer covers, fixed at acceptance
    sequence       INTEGER NOT NULL,
    number         INTEGER NOT NULL,
    account        TEXT NOT NULL,
    of_pages       INTEGER NOT NULL,
    profiles       BLOB,                      -- keys of 8 bytes each, the highest byte first
    profile        INTEGER,                   -- or changes of this one: from, until, behind which, how many
    from_at        INTEGER,
    until_at       INTEGER,
    after_sequence INTEGER,
    after_number   INTEGER,
    row_limit      INTEGER,
    CONSTRAINT page_has_one_content CHECK ((profiles IS NULL) <> (profile IS NULL)),
    CONSTRAINT page_once_per_subrequest PRIMARY KEY (sequence, number)
) STRICT, WITHOUT ROWID;

-- The columns of status, fallback and plan are written where they changed; a row may be an outcome that
-- changed nothing, so that a profile's rows lead to everything that was asked of it.
ALTER TABLE history ADD COLUMN changed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE history ADD COLUMN from_status TEXT;
ALTER TABLE history ADD COLUMN to_status TEXT;
ALTER TABLE history ADD COLUMN from_fallback INTEGER;
ALTER TABLE history ADD COLUMN to_fallback INTEGER;
ALTER TABLE history ADD COLUMN from_plan TEXT;
ALTER TABLE history ADD COLUMN to_plan TEXT;

CREATE TABLE carrier_call (             -- a call that left its operation unsettled; the one that settled it
    sequence    INTEGER NOT NULL,             -- stands in `subrequest`
    number      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    account     TEXT NOT NULL,
    began_at    INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL,
    reply       TEXT NOT NULL,
    CONSTRAINT carrier_call_once PRIMARY KEY (sequence, number, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE callback_document (        -- what a callback tells that was asked about
    sequence    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    account     TEXT NOT NULL,
    body        TEXT NOT NULL,
    CONSTRAINT callback_document_once PRIMARY KEY (sequence, number)
) STRICT, WITHOUT ROWID;

-- A subrequest may have two callbacks: a warning, at whose instant it stands, and that of its outcome, at 0.
CREATE TABLE callback_of_2 (
    sequence        INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    warned_at       INTEGER NOT NULL DEFAULT 0,
    account         TEXT NOT NULL,
    service         INTEGER NOT NULL DEFAULT 0,
    eid             TEXT,
    imei            TEXT,
    msisdn          TEXT,
    left_state      TEXT,                     -- these three: NULL where the outcome is a fault or a document;
    left_status     TEXT,                     -- of a device as a whole, the state alone
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
    CONSTRAINT callback_once_per_outcome PRIMARY KEY (sequence, number, warned_at)
) STRICT, WITHOUT ROWID;
INSERT INTO callback_of_2 (sequence, number, account, eid, imei, msisdn, left_state, left_status, left_role,
                           series, attempts, next_attempt_at, ended_at, answered, archived)
    SELECT sequence, number, account, eid, imei, msisdn, left_state, left_status, left_role,
           series, attempts, next_attempt_at, ended_at, answered, archived FROM callback;
DROP TABLE callback;
ALTER TABLE callback_of_2 RENAME TO callback;
CREATE INDEX callback_due ON callback (account, service, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE attempt_of_2 (
    sequence    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    warned_at   INTEGER NOT NULL DEFAULT 0,
    series      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    account     TEXT NOT NULL,
    ended_at    INTEGER NOT NULL,
    answered    INTEGER,
    error       TEXT,
    CONSTRAINT attempt_once PRIMARY KEY (sequence, number, warned_at, series, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt_of_2 (sequence, number, series, ordinal, account, ended_at, answered, error)
    SELECT sequence, number, series, ordinal, account, ended_at, answered, error FROM attempt;
DROP TABLE attempt;
ALTER TABLE attempt_of_2 RENAME TO attempt;
