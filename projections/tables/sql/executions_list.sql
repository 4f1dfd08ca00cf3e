-- The latest first, beginning after execution $2, if it is given.
SELECT view
FROM executions
WHERE
    agent_id = $1
    AND (
        $2::text IS NULL
        OR (started_at, execution_id) < (
            SELECT page.started_at, page.execution_id
            FROM executions AS page
            WHERE page.agent_id = $1 AND page.execution_id = $2
        )
    )
ORDER BY started_at DESC, execution_id DESC
LIMIT $3
