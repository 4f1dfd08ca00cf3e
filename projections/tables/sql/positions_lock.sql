-- In the order of names, so that two projectors that lock several never wait for each other.
SELECT name, position FROM positions WHERE name = ANY ($1::text[]) ORDER BY name FOR UPDATE
