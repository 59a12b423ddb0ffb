-- what an operator makes of a quarantined slot. The original stays as it came: the fix stands beside it
ALTER TABLE raw.quarantine
    ADD COLUMN fixed bytea,
    ADD COLUMN fixed_at timestamptz,
    ADD COLUMN fixed_by text,
    ADD COLUMN redriven_entry text;
COMMENT ON COLUMN raw.quarantine.fixed IS 'the corrected document that a redrive publishes in place of the original; null while there is none';
COMMENT ON COLUMN raw.quarantine.redriven_entry IS 'the stream entry that the last redrive made of it: ops.entries tells what became of that';

CREATE INDEX operator_actions_subject ON ops.operator_actions (subject, id);
