-- By which networks know profiles: two with the same would be suspended together. An import looks for it here; what older
-- releases have let in stays.
CREATE INDEX profile_by_imsi ON profile (network, imsi) WHERE imsi IS NOT NULL;
