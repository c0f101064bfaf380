CREATE TABLE carrier_notice (           -- what a carrier's other side sent by itself; it may come before the handle
    name        TEXT COLLATE "C" NOT NULL, -- under which the other side had accepted it
    iccid       TEXT COLLATE "C" NOT NULL,
    text        TEXT NOT NULL,          -- as the carrier's adapter spells it
    heard_at    BIGINT NOT NULL,
    CONSTRAINT carrier_notice_first_counts PRIMARY KEY (name, iccid)
);
CREATE INDEX carrier_notice_by_age ON carrier_notice (heard_at);

CREATE TABLE carrier_login (            -- how logins ended that all carriers and nodes share, lest they lock the user
    login       TEXT COLLATE "C" NOT NULL CONSTRAINT carrier_login_once PRIMARY KEY, -- a digest of where and who
    credentials TEXT COLLATE "C" NOT NULL, -- a digest of those that were used last
    failures    INTEGER NOT NULL,       -- since the last that succeeded; one under way counts
    proven      BOOLEAN NOT NULL,       -- whether the last that was answered succeeded, with these credentials
    begun_until BIGINT NOT NULL        -- until when one may be under way; 0: none is
);
