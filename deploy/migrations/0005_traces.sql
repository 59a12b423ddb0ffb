-- what drp events find looks for: the batch that a trace is of
CREATE INDEX batches_trace ON ops.batches (split_part(traceparent, '-', 2)) WHERE traceparent IS NOT NULL;
