-- All of the threads $1.
WITH checkpoints AS (
    DELETE FROM langgraph_checkpoints WHERE thread_id = ANY ($1::text[])
), writes AS (
    DELETE FROM langgraph_writes WHERE thread_id = ANY ($1::text[])
)
DELETE FROM langgraph_values WHERE thread_id = ANY ($1::text[])
