"""Every failure that leaves the runtime carries one of these codes, so that programs can tell failures apart.

Codes are stable: new ones are added, never renumbered. `docs/errors.md` is generated from here.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from msgspec import Struct


class ErrorCode(Enum):
    """An error code; its value is what stands on the wire, its member name is the wire's `name`."""

    TOOL_INVOCATION_FAILED = "E2001"
    TOOL_TIMEOUT = "E2002"
    CONTEXT_OVERFLOW = "E2003"
    STREAMING_ERROR = "E2004"
    EXECUTION_FAILED = "E2005"
    EXECUTION_TIMEOUT = "E2006"
    SPAWN_FAILED = "E2020"
    SPAWN_TIMEOUT = "E2021"
    TERMINATE_FAILED = "E2022"
    SUSPEND_FAILED = "E2023"
    RESUME_FAILED = "E2024"
    RESTART_LIMIT_EXCEEDED = "E2025"
    CHECKPOINT_FAILED = "E2030"
    CHECKPOINT_TOO_LARGE = "E2031"
    RESTORE_FAILED = "E2032"
    CHECKPOINT_CORRUPTED = "E2033"
    RUNTIME_CLASS_UNAVAILABLE = "E2040"
    SANDBOX_CREATION_FAILED = "E2041"
    SECURITY_POLICY_VIOLATION = "E2042"
    SESSION_START_FAILED = "E2050"
    HEARTBEAT_FAILED = "E2051"
    SNAPSHOT_SAVE_FAILED = "E2052"
    RECOVERY_CHECK_FAILED = "E2053"
    SESSION_NOT_FOUND = "E2054"
    CPU_LIMIT_EXCEEDED = "E2070"
    MEMORY_LIMIT_EXCEEDED = "E2071"
    TOKEN_BUDGET_EXCEEDED = "E2072"  # noqa: S105 (no password)
    QUOTA_UPDATE_FAILED = "E2073"
    DISK_LIMIT_EXCEEDED = "E2074"
    LIVENESS_CHECK_FAILED = "E2080"
    INFERENCE_FAILED = "E2100"
    MODEL_UNAVAILABLE = "E2101"
    INFERENCE_TIMEOUT = "E2102"
    RATE_LIMITED = "E2103"
    COMMAND_INVALID = "E2110"
    AGGREGATE_NOT_FOUND = "E2111"
    INVALID_STATE = "E2112"
    CONFLICT = "E2113"
    NOT_AUTHORIZED = "E2114"
    PAYLOAD_TOO_LARGE = "E2115"
    NONDETERMINISTIC_AGENT = "E2116"
    HANDLER_FAILED = "E2117"


_CODES = {code.value: code for code in ErrorCode}


def error_code(text: str) -> ErrorCode | None:
    """The code that `text` is; None if it is not in the catalogue, as what an agent or a stored event says may be."""
    return _CODES.get(text)


class OwnError(Struct, frozen=True, kw_only=True):
    """An agent's own code for its failure, and the name it gives it; it may be any text."""

    code: str
    name: str


class Failure(Exception):
    """A failure with its code, and a message that says what to do next.

    `path` names the offending field of a command or specification (`$.resource_limits.cpu`), if there is one. `detail`
    is what the agent itself calls its failure, if it does.
    """

    def __init__(self, code: ErrorCode, message: str, path: str | None = None, detail: OwnError | None = None) -> None:
        super().__init__(f"{code.value} {code.name}: {message}")
        self.code = code
        self.message = message
        self.path = path
        self.detail = detail


class PermanentFailure(Failure):
    """A failure that trying again cannot help: something has to be changed first."""


class Explanation(NamedTuple):
    """What a code means, and what to do about it."""

    meaning: str
    advice: str


EXPLANATIONS: dict[ErrorCode, Explanation] = {
    ErrorCode.TOOL_INVOCATION_FAILED: Explanation(
        "A tool the agent called failed, after all retries; or may have been under way when its process or node died.",
        "Look at the tool's own error; or say whether it took effect (`l02 resume ID --assume done` or `not-done`). "
        "Declare a tool that may be called twice as idempotent.",
    ),
    ErrorCode.TOOL_TIMEOUT: Explanation(
        "A tool gave no answer within `executor.tool_timeout_seconds` (300 by default).",
        "See what the tool waits for, or allow it more time in the specification.",
    ),
    ErrorCode.CONTEXT_OVERFLOW: Explanation(
        "An execution put more tokens through the agent than `executor.context_window_tokens`.",
        "Give the agent smaller pieces of work, or raise the limit if the model takes more.",
    ),
    ErrorCode.STREAMING_ERROR: Explanation(
        "Streamed output could not be read to its end; pieces are kept for ten minutes only.",
        "The whole output comes with the execution's outcome and stands in its event: `l02 events ID`.",
    ),
    ErrorCode.EXECUTION_FAILED: Explanation(
        "The agent's own program failed on this piece of work; the message is its own.",
        "Correct the program or the input. The agent goes on with its next piece of work.",
    ),
    ErrorCode.EXECUTION_TIMEOUT: Explanation(
        "Work had not ended `resource_limits.execution_seconds` after it was accepted, waits and suspensions included.",
        "See in `l02 events ID` where it stood. Give it more time in the specification, or less to do.",
    ),
    ErrorCode.SPAWN_FAILED: Explanation(
        "The agent's process did not come up: its file is missing, it cannot be imported, or it ended at once.",
        "The message has the process's last words. Correct the program or the specification and spawn again.",
    ),
    ErrorCode.SPAWN_TIMEOUT: Explanation(
        "The agent's process was not ready within `lifecycle.spawn_timeout_seconds` (60 by default).",
        "See what it does before it serves, or allow it more time.",
    ),
    ErrorCode.TERMINATE_FAILED: Explanation(
        "Reserved: an agent's process could not be ended. The kernel ends one that is killed, so nothing raises it.",
        "Look at the node's log; ending the node ends every process of its agents.",
    ),
    ErrorCode.SUSPEND_FAILED: Explanation(
        "Reserved: an agent could not be suspended. Its checkpoint may fail (E2030), the suspension does not.",
        "Look at the node's log, then try again.",
    ),
    ErrorCode.RESUME_FAILED: Explanation(
        "Reserved: a suspended agent got no process again. Today that is E2020 or E2021, as with any other start.",
        "Look at the node's log, then try again.",
    ),
    ErrorCode.RESTART_LIMIT_EXCEEDED: Explanation(
        "The agent's process ended by itself more often in a row than `lifecycle.max_restart_count` (5 by default).",
        "`l02 events ID --type agent.restarted` has the causes. Correct the agent and spawn it under another id.",
    ),
    ErrorCode.CHECKPOINT_FAILED: Explanation(
        "A checkpoint could not be stored; the agent goes on, and its earlier checkpoints are as they were.",
        "See that the store of checkpoints (`L02_CHECKPOINT_STORAGE`) answers and its disk has room, then try again.",
    ),
    ErrorCode.CHECKPOINT_TOO_LARGE: Explanation(
        "The agent's state is larger than `state_manager.max_checkpoint_size_mb` (100 before compression).",
        "Let the agent keep large data in files, or raise `L02_MAX_CHECKPOINT_SIZE_MB`.",
    ),
    ErrorCode.RESTORE_FAILED: Explanation(
        "A checkpoint is not in its store (any more), or the store does not answer.",
        "See that the store answers; `l02 checkpoints ID` lists what there is.",
    ),
    ErrorCode.CHECKPOINT_CORRUPTED: Explanation(
        "A checkpoint or another stored value has changed in its store, or a piece of it is gone.",
        "Restore from an older checkpoint, or the store from a backup; the events themselves are not harmed.",
    ),
    ErrorCode.RUNTIME_CLASS_UNAVAILABLE: Explanation(
        "This node cannot give the sandbox that the trust level asks for; it never takes a weaker one.",
        "Install that sandbox on the node, or choose another `trust_level` deliberately.",
    ),
    ErrorCode.SANDBOX_CREATION_FAILED: Explanation(
        "The sandbox could not be set up, often because a path of the specification does not exist on the node.",
        "The message names what was refused. Correct the specification.",
    ),
    ErrorCode.SECURITY_POLICY_VIOLATION: Explanation(
        "Reserved: an agent was ended for what its sandbox forbids. Today the call fails, and the agent goes on.",
        "If it is right to do that, say so in the specification (`files`, `trust_level`); if not, look at the agent.",
    ),
    ErrorCode.SESSION_START_FAILED: Explanation(
        "The context-orchestrator could not be told that the agent has begun; the agent works, and it is tried again.",
        "The message says what the server did. See `L02_SESSION_SERVER` and the server's log in the data directory.",
    ),
    ErrorCode.HEARTBEAT_FAILED: Explanation(
        "A warning: the context-orchestrator did not answer a session's heartbeat in time; the agent works on.",
        "It is asked again by itself. If it stays away, look at the server's log in the data directory.",
    ),
    ErrorCode.SNAPSHOT_SAVE_FAILED: Explanation(
        "The context-orchestrator did not take what belongs to a checkpoint; the checkpoint itself is safe.",
        "It is sent when the server is back, unless the event says that the server refused it.",
    ),
    ErrorCode.RECOVERY_CHECK_FAILED: Explanation(
        "The context-orchestrator did not say which sessions were interrupted; the agents are recovered all the same.",
        "It is asked again by itself. Turn the question off with `L02_SESSION_RECOVERY_CHECK=0`.",
    ),
    ErrorCode.SESSION_NOT_FOUND: Explanation(
        "The context-orchestrator does not know the task of the agent's session, or the session is another agent's.",
        "Make the task known there, or name one it knows in the specification: `session: {task_id: …}`.",
    ),
    ErrorCode.CPU_LIMIT_EXCEEDED: Explanation(
        "An agent's processes ran on for a second of processor time while they were stopped for `resource_limits.cpu`.",
        "One that is merely busy is slowed, never ended: see which of its processes lets others go on (SIGCONT).",
    ),
    ErrorCode.MEMORY_LIMIT_EXCEEDED: Explanation(
        "The agent needed more memory than `resource_limits.memory`, and was ended; the message has limit and peak.",
        "Raise the limit or give it smaller input.",
    ),
    ErrorCode.TOKEN_BUDGET_EXCEEDED: Explanation(
        "A call could need more than is left of a limit: the agent's own, or that of a budget it draws on.",
        "The message names the limit. Wait for its reset, raise it (`l02 set-quota`, `l02 budget raise`), or ask for "
        "less.",
    ),
    ErrorCode.QUOTA_UPDATE_FAILED: Explanation(
        "An agent's limits cannot be changed so: it has ended, or the limits do not fit each other.",
        "The message says which; `l02 show ID` has the limits there are.",
    ),
    ErrorCode.DISK_LIMIT_EXCEEDED: Explanation(
        "The agent's workspace took more than `resource_limits.disk` (1Gi if it is left out), or the agent wrote while "
        "the disk of its node was nearly full: its work failed.",
        "Let it delete what it has done with, or raise the limit; its next process may begin over it, not add to it.",
    ),
    ErrorCode.LIVENESS_CHECK_FAILED: Explanation(
        "The agent's process said nothing for `lifecycle.hung_after_seconds` (60 by default), and was killed.",
        "Let long computations await now and then, or put them into a tool; or raise the limit (`null`: none).",
    ),
    ErrorCode.INFERENCE_FAILED: Explanation(
        "A model's endpoint refused the request, answered what is no answer, or broke off in the middle of one.",
        "The message has the endpoint's own words. A request that was refused will be refused again.",
    ),
    ErrorCode.MODEL_UNAVAILABLE: Explanation(
        "The node has no model of that name, its endpoint does not know it, or none of its endpoints is up.",
        "`l02 config show` lists the models of a node; the message says how each endpoint failed.",
    ),
    ErrorCode.INFERENCE_TIMEOUT: Explanation(
        "A model gave no answer, or not the next piece of it, within its time.",
        "Ask for less at once, or give the endpoint more time (`timeouts` in the settings file).",
    ),
    ErrorCode.RATE_LIMITED: Explanation(
        "A model's endpoint takes no more requests for now, or too many calls or queries wait at the node for a turn.",
        "Ask again. Set `max_concurrent`, `requests_per_minute`, `tokens_per_minute` to what it grants, or add others.",
    ),
    ErrorCode.COMMAND_INVALID: Explanation(
        "A command or a specification cannot be read: an unknown verb or field, a wrong type, a value out of range.",
        "The message names the field. The same command will be refused again until it is corrected.",
    ),
    ErrorCode.AGGREGATE_NOT_FOUND: Explanation(
        "There is nothing with that id.", "`l02 ps` lists the agents, `l02 budget list` the budgets."
    ),
    ErrorCode.INVALID_STATE: Explanation(
        "The command makes no sense for the agent as it is now, such as work for one that has ended.",
        "`l02 show ID` says how it is; the message says what would help.",
    ),
    ErrorCode.CONFLICT: Explanation(
        "The agent has changed since `expected_version`, others keep changing it, or its events could not be stored.",
        "Look at it again and decide anew; the same command under the same id may be sent again.",
    ),
    ErrorCode.NOT_AUTHORIZED: Explanation(
        "An agent asked for a model or a tool that its specification does not allow.",
        "Name it in the specification (`models: [alias]`, `tools.<server>.allow`), or have the agent do without.",
    ),
    ErrorCode.PAYLOAD_TOO_LARGE: Explanation(
        "A command has more than 1 MiB, a specification more than 256 KiB, or an agent's output or state is too large.",
        "Put large input in a file that the agent may read, and send its path; the message says what is too large.",
    ),
    ErrorCode.NONDETERMINISTIC_AGENT: Explanation(
        "An execution that ran again after a crash asked for something else than what is recorded at that place.",
        "Let the agent take time, random numbers and all input from `ctx`, then give it the work again.",
    ),
    ErrorCode.HANDLER_FAILED: Explanation(
        "The runtime itself failed: on a message, several times, and then keeps it; or on a query, which it does not.",
        "`l02 dead list` has what is kept, and the node's log the cause. After a repair: `l02 dead retry NUMBER`.",
    ),
}
