SELECT view
FROM budgets
WHERE ($1::text IS NULL OR parent = $1) AND id > $2
ORDER BY id
LIMIT $3
