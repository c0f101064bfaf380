CREATE TABLE further_listener (         -- who else is told what an account's listener of one service is told
    account       TEXT COLLATE "C" NOT NULL,
    service       TEXT COLLATE "C" NOT NULL,
    name          TEXT COLLATE "C" NOT NULL CONSTRAINT further_listener_has_a_name CHECK (name <> ''),
    url           TEXT COLLATE "C" NOT NULL,
    username      TEXT COLLATE "C",
    password      BYTEA,                      -- encrypted: it must be sent in clear
    registered_at BIGINT NOT NULL,
    CONSTRAINT further_listener_once PRIMARY KEY (account, service, name)
);

-- An outcome, or a warning, has a callback for the service's own listener, at '', and one for each further one there was.
ALTER TABLE callback ADD COLUMN listener TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE callback DROP CONSTRAINT callback_once_per_outcome;
ALTER TABLE callback ADD CONSTRAINT callback_once_per_outcome PRIMARY KEY (sequence, number, warned_at, listener);
DROP INDEX callback_due;
CREATE INDEX callback_due ON callback (account, service, listener, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
-- A request says how many of its own listener's wait or are archived; those of a further one are found here.
CREATE INDEX callback_further ON callback (account, listener, sequence, number, warned_at)
    WHERE listener <> '' AND answered IS NULL;

ALTER TABLE attempt ADD COLUMN listener TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE attempt DROP CONSTRAINT attempt_once;
ALTER TABLE attempt ADD CONSTRAINT attempt_once PRIMARY KEY (sequence, number, warned_at, listener, series, ordinal);
