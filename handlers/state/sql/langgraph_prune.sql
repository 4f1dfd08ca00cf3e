-- Of the threads $1 the checkpoints that are not the latest of their namespace, with their writes.
-- A thread with a channel that keeps differences needs its past to tell its present: it is left as it is.
WITH gone AS (
    DELETE FROM langgraph_checkpoints AS old
    WHERE thread_id = ANY ($1::text[])
        AND EXISTS (
            SELECT FROM langgraph_checkpoints AS later
            WHERE later.thread_id = old.thread_id AND later.checkpoint_ns = old.checkpoint_ns
                AND later.checkpoint_id > old.checkpoint_id
        )
        AND NOT EXISTS (
            SELECT FROM langgraph_checkpoints AS other
            WHERE other.thread_id = old.thread_id AND other.metadata ? 'counters_since_delta_snapshot'
        )
    RETURNING thread_id, checkpoint_ns, checkpoint_id
)
DELETE FROM langgraph_writes USING gone
WHERE langgraph_writes.thread_id = gone.thread_id AND langgraph_writes.checkpoint_ns = gone.checkpoint_ns
    AND langgraph_writes.checkpoint_id = gone.checkpoint_id
