SELECT name, position FROM positions WHERE name = ANY ($1::text[])
