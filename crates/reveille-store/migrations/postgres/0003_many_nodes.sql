-- What many nodes need to keep out of each other's way: leases by this database's clock, fenced by a number.

CREATE SEQUENCE node_number AS INTEGER;  -- each start of a node takes one
CREATE SEQUENCE lease_number;            -- each lease takes one: later on an eUICC is higher

ALTER TABLE device ADD COLUMN lease          BIGINT;       -- the fence; what was performed under a lower one is refused
ALTER TABLE device ADD COLUMN lease_node     INTEGER;
ALTER TABLE device ADD COLUMN lease_until    TIMESTAMPTZ;
ALTER TABLE device ADD COLUMN lease_sequence BIGINT;       -- the subrequest that it is for; once that has ended,
ALTER TABLE device ADD COLUMN lease_position INTEGER;      -- the lease has too
ALTER TABLE device ADD CONSTRAINT device_lease_is_whole
    CHECK (num_nulls(lease, lease_node, lease_until, lease_sequence, lease_position) IN (0, 5));

ALTER TABLE callback ADD COLUMN lease_node  INTEGER;       -- the node that attempts it next
ALTER TABLE callback ADD COLUMN lease_until TIMESTAMPTZ;
ALTER TABLE callback ADD CONSTRAINT callback_lease_is_whole CHECK ((lease_node IS NULL) = (lease_until IS NULL));

CREATE INDEX request_unended ON request (sequence) WHERE ended_at IS NULL;

CREATE TABLE server_key (               -- one row: of the key under which secrets are kept
    only_row    INTEGER CONSTRAINT server_key_once PRIMARY KEY CONSTRAINT server_key_is_one_row CHECK (only_row = 1),
    fingerprint BYTEA NOT NULL
);
