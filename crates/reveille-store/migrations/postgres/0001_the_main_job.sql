-- Instants are milliseconds since 1970, UTC, from the Clock. Every hot table carries the account: the key
-- to shard by. A request's sequence is the order of the store; a subrequest stands at (sequence, number).
--
-- Differs from SQLite: texts that are compared or ordered say COLLATE "C", for there the order is that of
-- bytes whatever the database was created with; tables whose rows are updated in place leave a fifth of each
-- page free, so that the new version of a row finds its place next to the old one.

CREATE TABLE account (                  -- a billing account
    name        TEXT COLLATE "C" NOT NULL CONSTRAINT account_named_once PRIMARY KEY
);

-- Differs from SQLite: what waits of an account is a sum over slots, one for each writer of a node, so that
-- nodes do not wait for each other's commit. A slot alone may be below zero: what came in by one may end by
-- another.
CREATE TABLE account_backlog (          -- its subrequests without outcome, counted as they come and go
    account     TEXT COLLATE "C" NOT NULL,
    slot        INTEGER NOT NULL,
    waiting     BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT account_backlog_once_per_slot PRIMARY KEY (account, slot)
);

CREATE TABLE service_plan (             -- a plan that an account has contracted on a network
    account     TEXT COLLATE "C" NOT NULL,
    network     TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    CONSTRAINT service_plan_once_per_network PRIMARY KEY (account, network, name)
);

CREATE TABLE client (                   -- an OAuth2 client
    number          INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- stands in its tokens
    key             TEXT COLLATE "C" NOT NULL CONSTRAINT client_key_once UNIQUE,
    secret_digest   BYTEA NOT NULL,
    token_issued_at BIGINT,                   -- the token is an HMAC over number and this
    token_revoked   BOOLEAN NOT NULL DEFAULT FALSE
);

-- Differs from SQLite: "user" is a reserved word, as a table and as a column.
CREATE TABLE "user" (                   -- who logs in
    name          TEXT COLLATE "C" NOT NULL CONSTRAINT user_named_once PRIMARY KEY,
    password_hash TEXT NOT NULL,              -- argon2id
    operator      BOOLEAN NOT NULL DEFAULT FALSE,
    failed_logins INTEGER NOT NULL DEFAULT 0, -- since the last success or unlock
    locked_at     BIGINT
);

CREATE TABLE user_account (             -- the accounts that a user sees
    "user"      TEXT COLLATE "C" NOT NULL,
    account     TEXT COLLATE "C" NOT NULL,
    CONSTRAINT user_account_once PRIMARY KEY ("user", account)
);

CREATE TABLE session (
    token_digest BYTEA NOT NULL CONSTRAINT session_token_once PRIMARY KEY,
    "user"       TEXT COLLATE "C" NOT NULL,
    client       INTEGER NOT NULL,            -- works only with tokens of this client
    last_used_at BIGINT NOT NULL,             -- may lag half a minute behind
    ended_at     BIGINT
);
CREATE INDEX session_by_last_use ON session (last_used_at);

CREATE TABLE listener (                 -- where an account's callbacks of one service go
    account       TEXT COLLATE "C" NOT NULL,
    service       TEXT COLLATE "C" NOT NULL,
    url           TEXT COLLATE "C" NOT NULL,
    username      TEXT COLLATE "C",
    password      BYTEA,                      -- encrypted: it must be sent in clear
    registered_at BIGINT NOT NULL,
    CONSTRAINT listener_once_per_service PRIMARY KEY (account, service)
);

CREATE TABLE carrier_hold (             -- a network whose carrier an operator holds
    network     TEXT COLLATE "C" NOT NULL CONSTRAINT carrier_held_once PRIMARY KEY,
    held_at     BIGINT NOT NULL
);

CREATE TABLE device (                   -- one eUICC
    number      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account     TEXT COLLATE "C" NOT NULL,
    eid         TEXT COLLATE "C" NOT NULL CONSTRAINT device_eid_once UNIQUE,
    imei        TEXT COLLATE "C"
) WITH (fillfactor = 80);

CREATE TABLE profile (                  -- one subscription on an eUICC
    number       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account      TEXT COLLATE "C" NOT NULL,
    iccid        TEXT COLLATE "C" NOT NULL CONSTRAINT profile_iccid_once UNIQUE,
    device       BIGINT NOT NULL REFERENCES device (number),
    msisdn       TEXT COLLATE "C",
    imsi         TEXT COLLATE "C",
    network      TEXT COLLATE "C" NOT NULL CONSTRAINT profile_network CHECK (network IN ('verizon-us', 'global')),
    role         TEXT COLLATE "C" NOT NULL CONSTRAINT profile_role CHECK (role IN ('lead', 'local', 'default')),
    state        TEXT COLLATE "C" NOT NULL CONSTRAINT profile_state CHECK (state IN
                     ('pre_active', 'active', 'suspended_by_profile', 'suspended_by_device', 'deactive')),
    status       TEXT COLLATE "C" NOT NULL,
    service_plan TEXT COLLATE "C",
    in_doubt     INTEGER NOT NULL DEFAULT 0      -- what of it an operation left unsettled, as bits
) WITH (fillfactor = 80);
CREATE INDEX profile_of_account ON profile (account, iccid);
CREATE INDEX profile_of_device ON profile (device);

CREATE TABLE request (                  -- what one call asked for
    sequence            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- never given twice, so the order stays the order
    account             TEXT COLLATE "C" NOT NULL,
    request_id          TEXT COLLATE "C" NOT NULL CONSTRAINT request_id_once UNIQUE,
    action              TEXT COLLATE "C" NOT NULL,
    service_plan        TEXT COLLATE "C",
    "user"              TEXT COLLATE "C" NOT NULL,
    accepted_at         BIGINT NOT NULL,
    cancelled_at        BIGINT,
    ended_at            BIGINT,               -- when its last subrequest ended
    told_at             BIGINT,               -- when its last callback ended: delivered or archived
    subrequests         INTEGER NOT NULL,
    succeeded           INTEGER NOT NULL DEFAULT 0,
    failed              INTEGER NOT NULL DEFAULT 0,
    callbacks_delivered INTEGER NOT NULL DEFAULT 0,
    callbacks_archived  INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT request_ends_with_its_last_subrequest
        CHECK ((ended_at IS NOT NULL) = (succeeded + failed = subrequests)),
    CONSTRAINT request_tells_only_what_ended
        CHECK (callbacks_delivered + callbacks_archived <= succeeded + failed)
) WITH (fillfactor = 80);
CREATE INDEX request_of_account ON request (account, sequence);
CREATE INDEX request_running ON request (account, sequence) WHERE ended_at IS NULL;
CREATE INDEX request_cancelled ON request (sequence) WHERE cancelled_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX request_archived ON request (account, callbacks_archived) WHERE callbacks_archived > 0;
CREATE INDEX request_told ON request (told_at) WHERE told_at IS NOT NULL;

CREATE TABLE request_fault (            -- how many subrequests of a request failed with one fault
    sequence    BIGINT NOT NULL,
    fault       TEXT COLLATE "C" NOT NULL,
    subrequests INTEGER NOT NULL,
    CONSTRAINT request_fault_once PRIMARY KEY (sequence, fault)
);

CREATE TABLE idempotency_key (          -- a repeat of a call is the same request
    account     TEXT COLLATE "C" NOT NULL,
    "user"      TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    digest      BYTEA NOT NULL,               -- of the action and the raw body
    request_id  TEXT COLLATE "C" NOT NULL,
    accepted_at BIGINT NOT NULL,
    CONSTRAINT idempotency_key_once PRIMARY KEY (account, "user", key)
);
CREATE INDEX idempotency_key_by_age ON idempotency_key (accepted_at);

CREATE TABLE subrequest (               -- one profile's part of a request, the unit of outcome
    sequence     BIGINT NOT NULL,
    number       INTEGER NOT NULL,            -- from 1, in the order given
    account      TEXT COLLATE "C" NOT NULL,
    iccid        TEXT COLLATE "C" NOT NULL,
    profile      BIGINT,                      -- NULL where the account has no such profile
    device       BIGINT,
    lane         TEXT COLLATE "C" NOT NULL    -- the network that performs it; 'none' where there is nothing to perform
                     CONSTRAINT subrequest_lane CHECK (lane IN ('verizon-us', 'global', 'none')),
    fault        TEXT COLLATE "C",            -- why it failed; before its end: why it will, known at acceptance
    fault_detail TEXT,
    outcome      TEXT COLLATE "C" CONSTRAINT subrequest_outcome CHECK (outcome IN ('succeeded', 'failed')),
    ended_at     BIGINT,
    CONSTRAINT subrequest_ended_iff_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT subrequest_fault_iff_failed
        CHECK (outcome IS NULL OR (fault IS NOT NULL) = (outcome = 'failed')),
    CONSTRAINT subrequest_once_per_request PRIMARY KEY (sequence, number)
) WITH (fillfactor = 80);
-- Whose turn it is on one eUICC; partial, so that it is as small as the backlog. A lane is read back through
-- the requests that have not ended: an index of its own would cost each subrequest two more writes.
CREATE INDEX subrequest_waiting_on_device ON subrequest (device, sequence, number) WHERE ended_at IS NULL;

-- Differs from SQLite: where one node's turn on an eUICC ends and another's begins, the order in which
-- changes were recorded need not be that of their requests. The lease says it: it grows with each turn.
CREATE TABLE history (                  -- each change of a profile's record, oldest first
    profile     BIGINT NOT NULL,
    lease       BIGINT NOT NULL,              -- the fence under which it was recorded
    sequence    BIGINT NOT NULL,              -- the subrequest that changed it
    number      INTEGER NOT NULL,
    account     TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    from_state  TEXT COLLATE "C" NOT NULL,
    to_state    TEXT COLLATE "C" NOT NULL,
    in_doubt    BOOLEAN NOT NULL,
    CONSTRAINT history_once_per_subrequest PRIMARY KEY (profile, lease, sequence, number)
);

CREATE TABLE callback (                 -- the message that tells one outcome; what it says is frozen here
    sequence        BIGINT NOT NULL,
    number          INTEGER NOT NULL,
    account         TEXT COLLATE "C" NOT NULL,
    eid             TEXT COLLATE "C",
    imei            TEXT COLLATE "C",
    msisdn          TEXT COLLATE "C",
    left_state      TEXT COLLATE "C",         -- these three: NULL where the outcome is a fault
    left_status     TEXT COLLATE "C",
    left_role       TEXT COLLATE "C",
    series          INTEGER NOT NULL DEFAULT 1,  -- a replay is a new one
    attempts        INTEGER NOT NULL DEFAULT 0,  -- of this series, ended
    next_attempt_at BIGINT,                   -- NULL once it has ended
    ended_at        BIGINT,
    answered        INTEGER,                  -- the HTTP status that acknowledged it
    archived        TEXT COLLATE "C",         -- why it was archived; NULL where it was delivered
    CONSTRAINT callback_waits_or_has_ended CHECK ((next_attempt_at IS NULL) = (ended_at IS NOT NULL)),
    CONSTRAINT callback_delivered_or_archived
        CHECK (ended_at IS NULL OR (answered IS NULL) <> (archived IS NULL)),
    CONSTRAINT callback_once_per_outcome PRIMARY KEY (sequence, number)
) WITH (fillfactor = 80);
CREATE INDEX callback_due ON callback (account, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE attempt (                  -- one POST that was not acknowledged; the one that was stands in `callback`
    sequence    BIGINT NOT NULL,
    number      INTEGER NOT NULL,
    series      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    account     TEXT COLLATE "C" NOT NULL,
    ended_at    BIGINT NOT NULL,
    answered    INTEGER,
    error       TEXT,
    CONSTRAINT attempt_once PRIMARY KEY (sequence, number, series, ordinal)
);

-- Differs from SQLite: a sum over slots, one for each writer of a node, as in `account_backlog`.
CREATE TABLE backlog (                  -- what waits in all
    slot        INTEGER CONSTRAINT backlog_once_per_slot PRIMARY KEY,
    waiting     BIGINT NOT NULL DEFAULT 0,
    untold      BIGINT NOT NULL DEFAULT 0
);
