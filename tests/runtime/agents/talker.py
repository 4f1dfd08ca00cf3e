"""A program that says to its node what its input tells it to, whatever that is; at `$WAIT` it hears a message first."""

import json
import os
import re
import sys

node = os.fdopen(int(os.environ["L02_FD"]), "r+b", buffering=0)
HELLO = {"type": "hello", "protocol": 1, "name": "talker", "tools": []}


def say(line, execution_id=""):
    line = line.replace("$ID", execution_id).replace("$BIG", "x" * (5 << 20))
    line = re.sub(r"\$\((.*?)\*(\d+)\)", lambda many: ",".join([many[1]] * int(many[2])), line)
    line = re.sub(r"\$KEYS\((\d+)\)", lambda many: ",".join(f'"{n}":1' for n in range(int(many[1]))), line)
    line = re.sub(
        r"\$LINES\((.*)\*(\d+)\)",
        lambda many: "\n".join(many[1].replace("#", str(n)) for n in range(int(many[2]))),
        line,
    )
    data = line.encode(errors="surrogatepass") + b"\n"
    while data:
        data = data[node.write(data) :]


def hear():
    global heard
    while b"\n" not in heard:
        received = node.read(1 << 20)
        if not received:
            sys.exit()
        heard += received
    line, _, heard = heard.partition(b"\n")
    message = json.loads(line)
    if message["type"] == "shutdown":
        sys.exit()
    return message


heard = b""
say(sys.argv[1] if len(sys.argv) > 1 else json.dumps(HELLO))
while True:
    message = hear()
    if message["type"] == "execute":
        for said in message["input"]:
            if said == "$WAIT":
                hear()
            else:
                say(said, message["execution_id"])
