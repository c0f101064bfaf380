-- Differs from PostgreSQL: one process works on a file, so nothing is leased. What both have:

CREATE TABLE server_key (               -- one row: of the key under which secrets are kept
    only_row    INTEGER PRIMARY KEY CONSTRAINT server_key_is_one_row CHECK (only_row = 1),
    fingerprint BLOB NOT NULL
) STRICT;
