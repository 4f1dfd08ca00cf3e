SELECT executions.agent_id, executions.execution_id, executions.view
FROM executions
INNER JOIN unnest($1::text[], $2::text[]) AS wanted (agent_id, execution_id)
    ON executions.agent_id = wanted.agent_id AND executions.execution_id = wanted.execution_id
