"""An agent that is written with OpenAI's own client, as it is: what that sends is `ctx.model`.

    l02 exec poet "the sea"

`model` is an alias of the specification's `models`: which endpoint answers, with which key, the node knows
(`docs/models.md`). There is no network in the sandbox and no key; each answer is on record, and after a crash it is not
asked for again. Needs `pip install openai` where the node is installed.
"""

from openai import AsyncOpenAI

from l02.agent import Agent
from l02.agent.openai import http_client

agent = Agent("poet")


@agent.on_message
async def handle(ctx, message):
    client = AsyncOpenAI(http_client=http_client(ctx), api_key="none")
    draft = await client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": f"Write a haiku about {message}."}]
    )
    poem = draft.choices[0].message.content
    stream = await client.responses.create(model="small", input=f"Criticise in one line:\n{poem}", stream=True)
    yield f"{poem}\n"
    async for event in stream:
        if event.type == "response.output_text.delta":
            yield event.delta
