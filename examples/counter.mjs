// An agent in another language: it counts its executions, and how often each word has come up in all of them.
//
//     l02 exec counter '"to be or not to be"'
//
// It speaks docs/agent-protocol.md over the socket it inherits: one JSON object on each line.
import net from "node:net";
import readline from "node:readline";

const node = new net.Socket({ fd: Number(process.env.L02_FD) });
const send = (message) => node.write(JSON.stringify(message) + "\n");

let execution; // one at a time

const call = (kind, fields = {}) =>
  new Promise((resolve, reject) => {
    execution.open.set(++execution.calls, { resolve, reject });
    send({ type: "call", execution_id: execution.id, call: execution.calls, kind, ...fields });
  });

// The time is a step: no question to the node, only word of it, before anything that rests on it. An older node has no
// `own` and is asked. Nothing was ever answered before a step here, so `after` is 0.
const now = () => {
  if (!execution.own) return call("now");
  const number = ++execution.calls;
  const recorded = execution.recorded.find((step) => step.call === number);
  if (recorded) return recorded.result;
  const result = Date.now() / 1000;
  send({ type: "steps", execution_id: execution.id, steps: [{ call: number, kind: "now", after: 0, result }] });
  return result;
};

async function handle({ execution_id, input, state }) {
  try {
    if (typeof input !== "string") throw new TypeError("the input must be a text");
    const at = new Date((await now()) * 1000).toISOString();
    const words = state.words ?? {};
    for (const word of input.split(/\s+/).filter(Boolean)) words[word] = (words[word] ?? 0) + 1;
    const count = (state.count ?? 0) + 1;
    send({ type: "emit", execution_id, n: 0, delta: `execution ${count}\n` });
    send({ type: "complete", execution_id, output: { count, words, at }, state: { set: { count, words }, delete: [] } });
  } catch (error) {
    send({ type: "fail", execution_id, message: String(error), ...(error.code && { code: error.code }) });
  }
}

readline.createInterface({ input: node, crlfDelay: Infinity }).on("line", (line) => {
  const message = JSON.parse(line);
  if (message.type === "execute") {
    execution = { id: message.execution_id, calls: 0, open: new Map(), own: message.own, recorded: [], message };
    if (!message.own?.recorded) handle(message);
  }
  if (message.type === "recorded") {
    execution.recorded.push(...message.steps);
    if (execution.recorded.length === execution.own.recorded) handle(execution.message);
  }
  if (message.type === "shutdown") process.exit(0);
  if (message.type === "answer" && message.execution_id === execution?.id) {
    const { resolve, reject } = execution.open.get(message.call);
    if (message.ok) resolve(message.result);
    else reject(Object.assign(new Error(message.error.message), { code: message.error.code }));
  }
});
node.on("close", () => process.exit(0));
send({ type: "hello", protocol: 1, name: "counter", tools: [], records_steps: true });
