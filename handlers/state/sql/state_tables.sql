-- Chunks of content, each once for each agent. `data` is packed already: PostgreSQL is not to try it again.
CREATE TABLE state_chunks (
    agent_id  text COLLATE "C" NOT NULL,
    sha256    bytea NOT NULL,
    data      bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, sha256)
);
ALTER TABLE state_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE state_checkpoints (
    agent_id      text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    sha256        bytea NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_id, checkpoint_id, sha256)
);

-- Which chunks make up a checkpoint. The last key keeps a chunk from being removed while a checkpoint needs it.
CREATE TABLE state_references (
    agent_id      text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    sha256        bytea NOT NULL,
    position      integer NOT NULL,
    chunk         bytea NOT NULL,
    PRIMARY KEY (agent_id, checkpoint_id, sha256, position),
    FOREIGN KEY (agent_id, checkpoint_id, sha256) REFERENCES state_checkpoints ON DELETE CASCADE,
    FOREIGN KEY (agent_id, chunk) REFERENCES state_chunks
);
CREATE INDEX state_references_chunk ON state_references (agent_id, chunk);
