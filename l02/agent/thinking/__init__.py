"""The built-in agent: a model that calls tools, made of a specification's `model` instead of anybody's code.

It is an agent as any other, in the sandbox of its trust level, and has no way to the world but its context.
"""
