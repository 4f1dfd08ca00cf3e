"""How it travels: subjects, streams, the event store, commands, timers, objects and the embedded servers."""
