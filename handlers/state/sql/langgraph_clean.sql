-- Of the threads $1 the values that no checkpoint has any more.
DELETE FROM langgraph_values AS value
WHERE thread_id = ANY ($1::text[]) AND NOT EXISTS (
    SELECT FROM langgraph_checkpoints AS graph
    WHERE graph.thread_id = value.thread_id AND graph.checkpoint_ns = value.checkpoint_ns
        AND graph.versions ->> value.channel = value.version
)
