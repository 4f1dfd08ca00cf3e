INSERT INTO langgraph_values (thread_id, checkpoint_ns, channel, version, data)
SELECT $2, checkpoint_ns, channel, version, data
FROM langgraph_values WHERE thread_id = $1
