-- Under which name a subrequest's carrier has accepted it, where it answers later. It stays as evidence.
ALTER TABLE subrequest ADD COLUMN handle TEXT;
