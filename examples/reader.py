"""Answers questions about a Markdown document that its specification lets it read.

    l02 exec reader '{"document": "/path/to/README.md", "heading": "Install"}'

Reading a file is an effect too: it is done in tools, so that their results are recorded and an execution that is run
again after a crash sees the document as it was.
"""

from dataclasses import dataclass
from pathlib import Path

from l02.agent import Agent, ToolError

agent = Agent("reader")


@dataclass
class Section:
    heading: str
    level: int
    words: int
    """Words below the heading and before the next one, of whatever level."""


def sections(document: str) -> list[Section]:
    found: list[Section] = []
    fenced = False
    for line in Path(document).read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        mark, _, heading = line.partition(" ")
        if heading and not fenced and set(mark) == {"#"} and len(mark) <= 6:
            found.append(Section(heading.strip(), len(mark), 0))
        elif found:
            found[-1].words += len(line.split())
    return found


@agent.tool(idempotent=True)
def outline(document: str) -> list[Section]:
    """The headings of a Markdown document, with their levels and the words directly below each."""
    return sections(document)


@agent.tool(idempotent=True)
def longest_section(document: str) -> Section:
    """The section with the most words directly below its heading."""
    return max(sections(document), key=lambda section: section.words)


@agent.tool(idempotent=True)
def count_words(document: str, heading: str) -> int:
    """The words under a heading, those of its subsections included (without their headings)."""
    found = sections(document)
    for first, section in enumerate(found):
        if section.heading.lower() == heading.lower():
            total = section.words
            for below in found[first + 1 :]:
                if below.level <= section.level:
                    break
                total += below.words
            return total
    raise LookupError(f"no heading {heading!r}; there are: {', '.join(section.heading for section in found)}")


@agent.on_message
async def handle(ctx, message):
    document, heading = message["document"], message["heading"]
    headings = await ctx.tool("outline", document=document)
    longest = await ctx.tool("longest_section", document=document)
    answer = {"headings": len(headings), "longest": longest["heading"]}
    try:
        words = await ctx.tool("count_words", document=document, heading=heading)
    except ToolError as error:
        return {**answer, "answer": error.message}
    return {**answer, "words": words, "answer": f"{words} words under {heading!r}"}
