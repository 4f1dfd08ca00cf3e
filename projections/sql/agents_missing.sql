-- Agents that need a node and whose own is not among those given: to have a process there, or to be brought to an end.
SELECT id, node_id
FROM agents
WHERE
    (state IN ('pending', 'running') OR (state = 'suspended' AND view ->> 'terminating' = 'true'))
    AND NOT node_id = ANY ($1::text[])
ORDER BY id
