-- The latest first, of agent $1 and in state $2, if they are given; beginning after execution $4 of agent $3, if it is.
SELECT view
FROM executions
WHERE
    ($1::text IS NULL OR agent_id = $1)
    AND ($2::text IS NULL OR state = $2)
    AND (
        $4::text IS NULL
        OR (started_at, agent_id, execution_id) < (
            SELECT page.started_at, page.agent_id, page.execution_id
            FROM executions AS page
            WHERE page.agent_id = $3 AND page.execution_id = $4
        )
    )
ORDER BY started_at DESC, agent_id DESC, execution_id DESC
LIMIT $5
