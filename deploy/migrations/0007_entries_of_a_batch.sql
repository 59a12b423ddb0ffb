-- what an auditor asks of a batch: the stream entries that it took
CREATE INDEX entries_batch ON ops.entries (batch_id);
