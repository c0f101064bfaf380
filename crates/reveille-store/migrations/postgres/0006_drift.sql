CREATE TABLE comparison (               -- how far profiles are compared with what their network says
    network     TEXT COLLATE "C" NOT NULL CONSTRAINT comparison_once PRIMARY KEY,
    after       TEXT COLLATE "C",          -- the ICCID that this round has reached; NULL: none is under way
    began_at    BIGINT NOT NULL,      -- the round, or the last one
    begun_until BIGINT NOT NULL       -- until when a process is at it; 0: none is
);

CREATE TABLE profile_drift (            -- a profile whose network says otherwise than its record
    iccid       TEXT COLLATE "C" NOT NULL CONSTRAINT profile_drift_once PRIMARY KEY,
    account     TEXT COLLATE "C" NOT NULL,
    network     TEXT COLLATE "C" NOT NULL,
    seen        TEXT COLLATE "C" NOT NULL, -- what the network says
    found_at    BIGINT NOT NULL,      -- when that was seen first
    looks       INTEGER NOT NULL,       -- how often in a row; once may be a change under way
    request_id  TEXT COLLATE "C"           -- what told it
);
CREATE INDEX profile_drift_of_account ON profile_drift (account, iccid);
CREATE INDEX profile_drift_of_network ON profile_drift (network) WHERE looks > 1;
