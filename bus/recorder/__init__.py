"""A persistence module for the `eventsourcing` library: its applications and projections run on JetStream.

    PERSISTENCE_MODULE=bus.recorder                 # any application, process or projection of the library
    L02_PERSISTENCE_MODULE=l02.eventsourcing        # an application called "L02" reads the runtime's own events

How it is laid out, and why
- An application has one stream. An event is one message on `<prefix>.<application>.events.<originator>`: the state as
  the payload, topic and version as headers. Its notification id is its stream sequence: the server gives it out under
  one lock, so ids rise in the order in which readers see events, and a reader that has seen n never finds something
  new below n. Ids are contiguous from 1 as long as nothing but events is recorded.
- Tracking records are messages in the same stream, on `…tracking.<upstream application>`, since only messages of one
  stream are stored together or not at all. So they take up sequences: the ids of an application that also tracks have
  gaps (as PostgreSQL's have after a rollback), which the library's readers allow for. Nothing is ever taken out.
- Snapshots (and any other purpose) are in a stream of their own, `<stream>_<purpose>`.
- A version is recorded once: the first message of each originator in an insert states the sequence after which it
  must come (`Nats-Expected-Last-Subject-Sequence`). The recorder knows that sequence from what it wrote or read, and
  guesses "none" for a first version, so an insert usually costs one round trip; if it was wrong, it reads the truth
  and tries again, or raises IntegrityError. One subject per originator, not per version, because a subject costs the
  server about 1 KB of memory.
- Several events, or events with tracking, are one atomic batch.
- Versions need not come in order (two threads may take snapshots the other way round): a message that comes late says
  so, with the highest version so far. That value never falls along the stream, so a version is found by bisection.
- If an answer is lost with the connection, the recorder looks whether its insert was stored (it carries a mark)
  before it tries again: an insert that returns was stored once. OperationalError means: not known.

Reads of history are direct gets, which any replica may answer; a read that lags behind what this recorder knows is
repeated. Positions are read from the stream's leader.
"""

from l02.bus.recorder.factory import Factory, JetStreamFactory
from l02.bus.recorder.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)
from l02.bus.recorder.subscription import JetStreamSubscription

__all__ = [
    "Factory",
    "JetStreamAggregateRecorder",
    "JetStreamApplicationRecorder",
    "JetStreamFactory",
    "JetStreamProcessRecorder",
    "JetStreamSubscription",
    "JetStreamTrackingRecorder",
]
