INSERT INTO langgraph_checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata, versions)
SELECT $2, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata, versions
FROM langgraph_checkpoints WHERE thread_id = $1
