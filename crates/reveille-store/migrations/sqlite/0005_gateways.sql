CREATE TABLE carrier_notice (           -- what a carrier's other side sent by itself; it may come before the handle
    name        TEXT NOT NULL,          -- under which the other side had accepted it
    iccid       TEXT NOT NULL,
    text        TEXT NOT NULL,          -- as the carrier's adapter spells it
    heard_at    INTEGER NOT NULL,
    CONSTRAINT carrier_notice_first_counts PRIMARY KEY (name, iccid)
) STRICT, WITHOUT ROWID;
CREATE INDEX carrier_notice_by_age ON carrier_notice (heard_at);

CREATE TABLE carrier_login (            -- how logins ended that all carriers and nodes share, lest they lock the user
    login       TEXT NOT NULL CONSTRAINT carrier_login_once PRIMARY KEY, -- a digest of where and who
    credentials TEXT NOT NULL, -- a digest of those that were used last
    failures    INTEGER NOT NULL,       -- since the last that succeeded; one under way counts
    proven      INTEGER NOT NULL,       -- whether the last that was answered succeeded, with these credentials
    begun_until INTEGER NOT NULL        -- until when one may be under way; 0: none is
) STRICT, WITHOUT ROWID;
