-- What the other profile actions need: cards, devices as a whole, answers in pages, warnings, timelines.

ALTER TABLE profile ADD COLUMN fallback BOOLEAN NOT NULL DEFAULT FALSE;  -- its eUICC falls back to it
ALTER TABLE profile ADD COLUMN suspended_at BIGINT;    -- since when, where the store saw it
ALTER TABLE profile ADD COLUMN noticed_at BIGINT;      -- when it was told that this will end by itself
CREATE INDEX profile_by_msisdn ON profile (account, msisdn) WHERE msisdn IS NOT NULL;
CREATE INDEX device_by_imei ON device (account, imei) WHERE imei IS NOT NULL;

ALTER TABLE request ADD COLUMN mdn_zip_code TEXT;
ALTER TABLE request ADD COLUMN smsr_oid TEXT;
ALTER TABLE request ADD COLUMN carrier_name TEXT;
ALTER TABLE request ADD COLUMN reason_code TEXT;
ALTER TABLE request ADD COLUMN etf_waiver BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE request ADD COLUMN spares_fallback BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE request ADD COLUMN reported_state TEXT COLLATE "C";  -- what a network changed by itself
ALTER TABLE request ADD COLUMN reported_status TEXT COLLATE "C";
ALTER TABLE request ADD COLUMN resumes_at BIGINT;      -- what a notice tells

-- What a subrequest is about, as it was named: an ICCID, an EID of 32 digits, or nothing for a page.
ALTER TABLE subrequest RENAME COLUMN iccid TO subject;
ALTER TABLE subrequest ADD COLUMN calls INTEGER NOT NULL DEFAULT 0;  -- the ordinal of the call that settled it
ALTER TABLE subrequest ADD COLUMN called_at BIGINT;    -- when that began; it ended with the subrequest
ALTER TABLE subrequest ADD COLUMN reply TEXT COLLATE "C";

CREATE TABLE page (                     -- what one callback of an answer covers, fixed at acceptance
    sequence       BIGINT NOT NULL,
    number         INTEGER NOT NULL,
    account        TEXT COLLATE "C" NOT NULL,
    of_pages       INTEGER NOT NULL,
    profiles       BIGINT[],                  -- Differs from SQLite: a list, where that packs the keys in bytes
    profile        BIGINT,                    -- or changes of this one: from, until, behind which, how many
    from_at        BIGINT,
    until_at       BIGINT,
    after_sequence BIGINT,
    after_number   INTEGER,
    row_limit      INTEGER,
    CONSTRAINT page_has_one_content CHECK ((profiles IS NULL) <> (profile IS NULL)),
    CONSTRAINT page_once_per_subrequest PRIMARY KEY (sequence, number)
);

-- The columns of the plan are written where it changed; a row may be an outcome that changed nothing, so that
-- a profile's rows lead to everything that was asked of it.
-- Differs from SQLite: those of status and fallback are always written, so that a row is read without the
-- rows behind it. No database of this dialect was ever left at version 1, so no row wants them.
ALTER TABLE history ADD COLUMN changed BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE history ADD COLUMN from_status TEXT COLLATE "C" NOT NULL;
ALTER TABLE history ADD COLUMN to_status TEXT COLLATE "C" NOT NULL;
ALTER TABLE history ADD COLUMN from_fallback BOOLEAN NOT NULL;
ALTER TABLE history ADD COLUMN to_fallback BOOLEAN NOT NULL;
ALTER TABLE history ADD COLUMN from_plan TEXT COLLATE "C";
ALTER TABLE history ADD COLUMN to_plan TEXT COLLATE "C";

CREATE TABLE carrier_call (             -- a call that left its operation unsettled; the one that settled it
    sequence    BIGINT NOT NULL,              -- stands in `subrequest`
    number      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    account     TEXT COLLATE "C" NOT NULL,
    began_at    BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    reply       TEXT COLLATE "C" NOT NULL,
    CONSTRAINT carrier_call_once PRIMARY KEY (sequence, number, ordinal)
);

CREATE TABLE callback_document (        -- what a callback tells that was asked about
    sequence    BIGINT NOT NULL,
    number      INTEGER NOT NULL,
    account     TEXT COLLATE "C" NOT NULL,
    body        TEXT NOT NULL,
    CONSTRAINT callback_document_once PRIMARY KEY (sequence, number)
);

-- A subrequest may have two callbacks: a warning, at whose instant it stands, and that of its outcome, at 0.
-- What it left is NULL where the outcome is a fault or a document; of a device as a whole, the state alone.
-- Differs from SQLite: a primary key is changed in place, where SQLite copies the table.
ALTER TABLE callback ADD COLUMN warned_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE callback ADD COLUMN service INTEGER NOT NULL DEFAULT 0;
ALTER TABLE callback DROP CONSTRAINT callback_once_per_outcome;
ALTER TABLE callback ADD CONSTRAINT callback_once_per_outcome PRIMARY KEY (sequence, number, warned_at);
DROP INDEX callback_due;
CREATE INDEX callback_due ON callback (account, service, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

ALTER TABLE attempt ADD COLUMN warned_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attempt DROP CONSTRAINT attempt_once;
ALTER TABLE attempt ADD CONSTRAINT attempt_once PRIMARY KEY (sequence, number, warned_at, series, ordinal);
