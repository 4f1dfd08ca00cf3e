"""A program that does not keep to the protocol, in the way its argument says."""

import os
import sys
import time

HELLO = b'{"type": "hello", "protocol": 1, "name": "misbehaving", "tools": []}\n'


def send(data):
    view = memoryview(data)
    while view:
        view = view[os.write(int(os.environ["L02_FD"]), view) :]


how = sys.argv[1]
if how == "exits-at-once":
    print("I am leaving")
    sys.exit(3)
if how == "says-nothing":
    time.sleep(3600)
if how == "garbage-first":
    send(b"\xff\xfe this is not json\n")
    time.sleep(3600)
send(HELLO)
os.read(int(os.environ["L02_FD"]), 65536)
if how == "garbage":
    send(b"\x00\x01{{{{ not json at all\n")
elif how == "long-line":
    for _ in range(100):
        send(b"x" * 1024 * 1024)
elif how == "closes":
    os.close(int(os.environ["L02_FD"]))
elif how == "unknown-type":
    send(b'{"type": "dance"}\n')
elif how == "wrong-number":
    send(b'{"type": "call", "execution_id": "?", "call": 7, "kind": "now"}\n')
time.sleep(3600)
