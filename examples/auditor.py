"""Audits a git repository: who wrote how many of the last commits, and how many files there are.

    l02 exec auditor '{"repository": "/path/to/repository", "commits": 8}'

Many calls in a row and side by side, with a rest between: kill it anywhere, and it goes on where it was. Plain git
knows the right answers:

    git log -n 8 --format=%an | sort | uniq -c
    git ls-tree -r --name-only HEAD | wc -l
"""

import asyncio
import re

from l02.agent import Agent

agent = Agent("auditor")

ENTRY = re.compile(r"^Commit: (\w{40,64})\nAuthor: (.*)$", re.MULTILINE)


@agent.tool(idempotent=True)
def tally(names: list[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}


@agent.on_message
async def handle(ctx, message):
    repository, limit = message["repository"], message.get("commits", 8)
    began = await ctx.now()

    # The authors, from one long log.
    commits = ENTRY.findall(await ctx.tool("git_log", repo_path=repository, max_count=limit))
    authors = await ctx.tool("tally", names=[author for _, author in commits])
    ctx.emit(f"{len(commits)} commits\n")

    # The same again from logs of 1, 2, 3 ... commits, each read to its last: a log that was cut short, or that
    # changed meanwhile, does not agree with them.
    logs = await asyncio.gather(
        *(ctx.tool("git_log", repo_path=repository, max_count=n) for n in range(1, len(commits) + 1))
    )
    last = [ENTRY.findall(log)[-1] for log in logs]
    recount = await ctx.tool("tally", names=[author for _, author in last])
    await ctx.sleep(1)

    # The files of the newest commit, one directory after the other.
    head = commits[0][0]
    files, directories = 0, [""]
    for directory in directories:  # grows while it is walked
        listing = await ctx.tool("git_show", repo_path=repository, revision=f"{head}:{directory.rstrip('/')}")
        for name in listing.splitlines():
            if name.endswith("/"):
                directories.append(f"{directory}{name}")
            else:
                files += 1
        ctx.emit(f"{directory or '.'}: {files} files so far\n")

    took = (await ctx.now() - began).total_seconds()
    ctx.state["audits"] = ctx.state.get("audits", 0) + 1
    return {
        "head": head,
        "commits": len(commits),
        "authors": authors,
        "agree": last == commits and recount == authors,
        "files": files,
        "directories": len(directories),
        "seconds": round(took, 3),
    }
