-- Checkpoints with the values of their channels and the writes that are pending; a condition and an order follow.
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata,
    ARRAY(
        SELECT ROW (version.key, (
            SELECT data FROM langgraph_values AS value
            WHERE value.thread_id = graph.thread_id AND value.checkpoint_ns = graph.checkpoint_ns
                AND value.channel = version.key AND value.version = version.value
        ))
        FROM jsonb_each_text(graph.versions) AS version
    ) AS channels,
    ARRAY(
        SELECT ROW (task_id, channel, data) FROM langgraph_writes AS pending
        WHERE pending.thread_id = graph.thread_id AND pending.checkpoint_ns = graph.checkpoint_ns
            AND pending.checkpoint_id = graph.checkpoint_id
        ORDER BY task_path, task_id, idx
    ) AS writes
FROM langgraph_checkpoints AS graph
