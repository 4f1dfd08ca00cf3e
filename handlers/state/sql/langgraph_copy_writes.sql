INSERT INTO langgraph_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, data)
SELECT $2, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, data
FROM langgraph_writes WHERE thread_id = $1
