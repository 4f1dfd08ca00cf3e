"""Tells the latest history of a git repository, and remembers what it told before.

    l02 exec historian '{"repository": "/path/to/repository", "commits": 5}' --stream

The commits come from an MCP server (`mcp-server-git`, see historian.yaml) that the node runs; the words are counted
in here. What is yielded is streamed, and is the output.
"""

import re
from collections import Counter

from l02.agent import Agent

agent = Agent("historian")

ENTRY = re.compile(r"^Commit: (\w{40,64})\nAuthor: (.*)\nDate: (.*)\nMessage: (.*)$", re.MULTILINE)


@agent.tool(idempotent=True)
def count_words(text: str) -> int:
    """Counts the words of a text."""
    return len(text.split())


@agent.on_message
async def handle(ctx, message):
    log = await ctx.tool("git_log", repo_path=message["repository"], max_count=message.get("commits", 5))
    commits = ENTRY.findall(log)
    authors = Counter(author for _, author, _, _ in commits)
    yield f"{len(commits)} commits by {len(authors)} authors\n"

    told = ctx.state.setdefault("told", [])
    for sha, author, date, subject in commits:
        words = await ctx.tool("count_words", text=subject)
        new = "" if sha in told else " (new to me)"
        yield f"- {sha[:10]} {date[:10]} {author}: {subject} [{words} words]{new}\n"
        if new:
            told.append(sha)  # changes in place are kept as well
