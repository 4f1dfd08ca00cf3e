SELECT checkpoints.agent_id, checkpoints.checkpoint_id, checkpoints.view
FROM checkpoints
INNER JOIN unnest($1::text[], $2::text[]) AS wanted (agent_id, checkpoint_id)
    ON checkpoints.agent_id = wanted.agent_id AND checkpoints.checkpoint_id = wanted.checkpoint_id
