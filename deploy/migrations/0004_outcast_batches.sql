-- what the transformer looks for every second: batches that readers see though they are held (the others, which
-- readers lack, have batches_unpublished)
CREATE INDEX batches_outcast ON ops.batches (dataset) WHERE held_at IS NOT NULL AND generation IS NOT NULL;
