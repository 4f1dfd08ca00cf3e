-- The checkpoints of the runs $1 with their writes; the threads that had some.
WITH gone AS (
    DELETE FROM langgraph_checkpoints WHERE metadata ->> 'run_id' = ANY ($1::text[])
    RETURNING thread_id, checkpoint_ns, checkpoint_id
), writes AS (
    DELETE FROM langgraph_writes USING gone
    WHERE langgraph_writes.thread_id = gone.thread_id AND langgraph_writes.checkpoint_ns = gone.checkpoint_ns
        AND langgraph_writes.checkpoint_id = gone.checkpoint_id
)
SELECT DISTINCT thread_id FROM gone
