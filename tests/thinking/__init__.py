"""The built-in agent: a model that calls tools."""
