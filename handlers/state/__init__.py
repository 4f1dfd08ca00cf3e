"""The state manager's room: an agent's durable state is kept in checkpoints, so that whatever dies, it can come back.

`checkpoint_store` says what is asked of a place that keeps them, `stores` has the places, `hot` the quick copy of the
newest state.
"""
