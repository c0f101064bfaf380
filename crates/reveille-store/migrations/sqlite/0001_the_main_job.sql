-- Instants are milliseconds since 1970, UTC, from the Clock. Every hot table carries the account: the key
-- to shard by. A request's sequence is the order of the store; a subrequest stands at (sequence, number).

CREATE TABLE account (                  -- a billing account
    name        TEXT NOT NULL CONSTRAINT account_named_once PRIMARY KEY,
    waiting     INTEGER NOT NULL DEFAULT 0,   -- its subrequests without outcome, counted as they come and go
    CONSTRAINT account_waiting_is_a_count CHECK (waiting >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE service_plan (             -- a plan that an account has contracted on a network
    account     TEXT NOT NULL,
    network     TEXT NOT NULL,
    name        TEXT NOT NULL,
    CONSTRAINT service_plan_once_per_network PRIMARY KEY (account, network, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE client (                   -- an OAuth2 client
    number          INTEGER PRIMARY KEY,      -- stands in its tokens
    key             TEXT NOT NULL CONSTRAINT client_key_once UNIQUE,
    secret_digest   BLOB NOT NULL,
    token_issued_at INTEGER,                  -- the token is an HMAC over number and this
    token_revoked   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE user (                     -- who logs in
    name          TEXT NOT NULL CONSTRAINT user_named_once PRIMARY KEY,
    password_hash TEXT NOT NULL,              -- argon2id
    operator      INTEGER NOT NULL DEFAULT 0,
    failed_logins INTEGER NOT NULL DEFAULT 0, -- since the last success or unlock
    locked_at     INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE user_account (             -- the accounts that a user sees
    user        TEXT NOT NULL,
    account     TEXT NOT NULL,
    CONSTRAINT user_account_once PRIMARY KEY (user, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    token_digest BLOB NOT NULL CONSTRAINT session_token_once PRIMARY KEY,
    user         TEXT NOT NULL,
    client       INTEGER NOT NULL,            -- works only with tokens of this client
    last_used_at INTEGER NOT NULL,            -- may lag half a minute behind
    ended_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_last_use ON session (last_used_at);

CREATE TABLE listener (                 -- where an account's callbacks of one service go
    account       TEXT NOT NULL,
    service       TEXT NOT NULL,
    url           TEXT NOT NULL,
    username      TEXT,
    password      BLOB,                       -- encrypted: it must be sent in clear
    registered_at INTEGER NOT NULL,
    CONSTRAINT listener_once_per_service PRIMARY KEY (account, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE carrier_hold (             -- a network whose carrier an operator holds
    network     TEXT NOT NULL CONSTRAINT carrier_held_once PRIMARY KEY,
    held_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE device (                   -- one eUICC
    number      INTEGER PRIMARY KEY,
    account     TEXT NOT NULL,
    eid         TEXT NOT NULL CONSTRAINT device_eid_once UNIQUE,
    imei        TEXT
) STRICT;

CREATE TABLE profile (                  -- one subscription on an eUICC
    number       INTEGER PRIMARY KEY,
    account      TEXT NOT NULL,
    iccid        TEXT NOT NULL CONSTRAINT profile_iccid_once UNIQUE,
    device       INTEGER NOT NULL REFERENCES device (number),
    msisdn       TEXT,
    imsi         TEXT,
    network      TEXT NOT NULL CONSTRAINT profile_network CHECK (network IN ('verizon-us', 'global')),
    role         TEXT NOT NULL CONSTRAINT profile_role CHECK (role IN ('lead', 'local', 'default')),
    state        TEXT NOT NULL CONSTRAINT profile_state CHECK (state IN
                     ('pre_active', 'active', 'suspended_by_profile', 'suspended_by_device', 'deactive')),
    status       TEXT NOT NULL,
    service_plan TEXT,
    in_doubt     INTEGER NOT NULL DEFAULT 0   -- an operation was given up unsettled
) STRICT;
CREATE INDEX profile_of_account ON profile (account, iccid);
CREATE INDEX profile_of_device ON profile (device);

CREATE TABLE request (                  -- what one call asked for
    sequence            INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, so the order stays the order
    account             TEXT NOT NULL,
    request_id          TEXT NOT NULL CONSTRAINT request_id_once UNIQUE,
    action              TEXT NOT NULL,
    service_plan        TEXT,
    user                TEXT NOT NULL,
    accepted_at         INTEGER NOT NULL,
    cancelled_at        INTEGER,
    ended_at            INTEGER,              -- when its last subrequest ended
    told_at             INTEGER,              -- when its last callback ended: delivered or archived
    subrequests         INTEGER NOT NULL,
    succeeded           INTEGER NOT NULL DEFAULT 0,
    failed              INTEGER NOT NULL DEFAULT 0,
    callbacks_delivered INTEGER NOT NULL DEFAULT 0,
    callbacks_archived  INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT request_ends_with_its_last_subrequest
        CHECK ((ended_at IS NOT NULL) = (succeeded + failed = subrequests)),
    CONSTRAINT request_tells_only_what_ended
        CHECK (callbacks_delivered + callbacks_archived <= succeeded + failed)
) STRICT;
CREATE INDEX request_of_account ON request (account, sequence);
CREATE INDEX request_running ON request (account, sequence) WHERE ended_at IS NULL;
CREATE INDEX request_cancelled ON request (sequence) WHERE cancelled_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX request_archived ON request (account, callbacks_archived) WHERE callbacks_archived > 0;
CREATE INDEX request_told ON request (told_at) WHERE told_at IS NOT NULL;

CREATE TABLE request_fault (            -- how many subrequests of a request failed with one fault
    sequence    INTEGER NOT NULL,
    fault       TEXT NOT NULL,
    subrequests INTEGER NOT NULL,
    CONSTRAINT request_fault_once PRIMARY KEY (sequence, fault)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency_key (          -- a repeat of a call is the same request
    account     TEXT NOT NULL,
    user        TEXT NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,                -- of the action and the raw body
    request_id  TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    CONSTRAINT idempotency_key_once PRIMARY KEY (account, user, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_key_by_age ON idempotency_key (accepted_at);

CREATE TABLE subrequest (               -- one profile's part of a request, the unit of outcome
    sequence     INTEGER NOT NULL,
    number       INTEGER NOT NULL,            -- from 1, in the order given
    account      TEXT NOT NULL,
    iccid        TEXT NOT NULL,
    profile      INTEGER,                     -- NULL where the account has no such profile
    device       INTEGER,
    lane         TEXT NOT NULL                -- the network that performs it; 'none' where there is nothing to perform
                     CONSTRAINT subrequest_lane CHECK (lane IN ('verizon-us', 'global', 'none')),
    fault        TEXT,                        -- why it failed; before its end: why it will, known at acceptance
    fault_detail TEXT,
    outcome      TEXT CONSTRAINT subrequest_outcome CHECK (outcome IN ('succeeded', 'failed')),
    ended_at     INTEGER,
    CONSTRAINT subrequest_ended_iff_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT subrequest_fault_iff_failed
        CHECK (outcome IS NULL OR (fault IS NOT NULL) = (outcome = 'failed')),
    CONSTRAINT subrequest_once_per_request PRIMARY KEY (sequence, number)
) STRICT, WITHOUT ROWID;
-- Whose turn it is on one eUICC; partial, so that it is as small as the backlog. A lane is read back through
-- the requests that have not ended: an index of its own would cost each subrequest two more writes.
CREATE INDEX subrequest_waiting_on_device ON subrequest (device, sequence, number) WHERE ended_at IS NULL;

CREATE TABLE history (                  -- each change of a profile's record, oldest first
    profile     INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,             -- the subrequest that changed it
    number      INTEGER NOT NULL,
    account     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    from_state  TEXT NOT NULL,
    to_state    TEXT NOT NULL,
    in_doubt    INTEGER NOT NULL,
    CONSTRAINT history_once_per_subrequest PRIMARY KEY (profile, sequence, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE callback (                 -- the message that tells one outcome; what it says is frozen here
    sequence        INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    account         TEXT NOT NULL,
    eid             TEXT,
    imei            TEXT,
    msisdn          TEXT,
    left_state      TEXT,                     -- these three: NULL where the outcome is a fault
    left_status     TEXT,
    left_role       TEXT,
    series          INTEGER NOT NULL DEFAULT 1,  -- a replay is a new one
    attempts        INTEGER NOT NULL DEFAULT 0,  -- of this series, ended
    next_attempt_at INTEGER,                  -- NULL once it has ended
    ended_at        INTEGER,
    answered        INTEGER,                  -- the HTTP status that acknowledged it
    archived        TEXT,                     -- why it was archived; NULL where it was delivered
    CONSTRAINT callback_waits_or_has_ended CHECK ((next_attempt_at IS NULL) = (ended_at IS NOT NULL)),
    CONSTRAINT callback_delivered_or_archived
        CHECK (ended_at IS NULL OR (answered IS NULL) <> (archived IS NULL)),
    CONSTRAINT callback_once_per_outcome PRIMARY KEY (sequence, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX callback_due ON callback (account, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE attempt (                  -- one POST that was not acknowledged; the one that was stands in `callback`
    sequence    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    series      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    account     TEXT NOT NULL,
    ended_at    INTEGER NOT NULL,
    answered    INTEGER,
    error       TEXT,
    CONSTRAINT attempt_once PRIMARY KEY (sequence, number, series, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE backlog (                  -- one row: what waits in all
    only_row    INTEGER PRIMARY KEY CONSTRAINT backlog_is_one_row CHECK (only_row = 1),
    waiting     INTEGER NOT NULL CONSTRAINT backlog_is_a_count CHECK (waiting >= 0),
    untold      INTEGER NOT NULL CONSTRAINT backlog_untold_is_a_count CHECK (untold >= 0)
) STRICT;
INSERT INTO backlog (only_row, waiting, untold) VALUES (1, 0, 0);
