-- one row per entry that killed its consumer again and again and is now tried event by event; gone once it has landed
CREATE TABLE ops.attempts (
    stream          text NOT NULL,
    entry_id        text NOT NULL,
    position        integer NOT NULL,
    tries           integer NOT NULL DEFAULT 1 CHECK (tries > 0),
    process         uuid NOT NULL,
    fatal           jsonb NOT NULL DEFAULT '{}',
    tried_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, entry_id)
);
COMMENT ON COLUMN ops.attempts.position IS 'what is being tried: -1 is taking the entry apart, the number of its events is landing all of them together. Written before the attempt, so after a crash it names the culprit';
COMMENT ON COLUMN ops.attempts.fatal IS 'positions given up, with why';
COMMENT ON COLUMN ops.attempts.tries IS 'how many processes have tried it; all but the last died of it, or were stopped in it';
