"""The agent executor: takes work to agents, performs the effects they ask for, and keeps the journal of both."""
