"""An agent that asks with OpenAI's client, unmodified, whatever its message wants."""

import os
import signal
from pathlib import Path

import openai
from pydantic import BaseModel

from l02.agent import Agent
from l02.agent.openai import http_client

agent = Agent("clients")


class Count(BaseModel):
    n: int


TOOL = {"name": "count", "description": "Counts.", "parameters": {"type": "object", "properties": {}}}
ASKED = [{"role": "user", "content": "how many?"}]


async def do(ctx, client, what):
    chat, responses = client.chat.completions, client.responses
    match what:
        case "chat":
            answer = await chat.create(model="small", messages=ASKED, temperature=0.5, max_tokens=9, seed=7)
            return [answer.choices[0].message.content, answer.usage.total_tokens, answer.choices[0].finish_reason]
        case "chat stream":
            options = {"include_usage": True}
            stream = await chat.create(model="small", messages=ASKED, stream=True, stream_options=options)
            chunks = [chunk async for chunk in stream]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            return [text, chunks[-1].usage.total_tokens]
        case "chat tools":
            answer = await chat.create(model="small", messages=ASKED, tools=[{"type": "function", "function": TOOL}])
            [call] = answer.choices[0].message.tool_calls
            return [call.id, call.function.name, call.function.arguments, answer.choices[0].finish_reason]
        case "chat parse":
            answer = await chat.parse(model="small", messages=ASKED, response_format=Count)
            return answer.choices[0].message.parsed.n
        case "responses":
            answer = await responses.create(model="small", instructions="Be short.", input="how many?")
            return [answer.output_text, answer.usage.total_tokens, answer.status]
        case "responses stream":
            async with responses.stream(model="small", input="how many?") as stream:
                text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
                return [text, (await stream.get_final_response()).output_text]
        case "responses tools":
            first = await responses.create(model="small", input=ASKED, tools=[{"type": "function", **TOOL}])
            [call] = [item for item in first.output if item.type == "function_call"]
            told = {"type": "function_call_output", "call_id": call.call_id, "output": "4"}
            again = await responses.create(model="small", input=[*ASKED, *first.output, told])
            return [call.name, again.output_text]
        case "responses parse":
            return (await responses.parse(model="small", input="how many?", text_format=Count)).output_parsed.n
        case "langchain":
            from langchain_openai import ChatOpenAI

            model = ChatOpenAI(model="small", http_async_client=http_client(ctx), api_key="none")
            streamed = "".join([chunk.content async for chunk in model.astream("how many?")])
            structured = await model.with_structured_output(Count).ainvoke("how many?")
            return [streamed, structured.n]
        case "refused":
            try:
                await chat.create(model="absent", messages=ASKED)
            except openai.APIStatusError as error:
                return [error.status_code, error.code]
        case "elsewhere":
            try:
                await client.embeddings.create(model="small", input="text")
            except openai.NotFoundError as error:
                return error.status_code
        case "say":
            speaking = openai.AsyncOpenAI(http_client=http_client(ctx, say=True), api_key="none")
            stream = await speaking.chat.completions.create(model="small", messages=ASKED, stream=True)
            return len([chunk async for chunk in stream])
        case "die once":
            if not Path("died").exists():
                Path("died").touch()
                os.kill(os.getpid(), signal.SIGKILL)


@agent.on_message
async def handle(ctx, message):
    client = openai.AsyncOpenAI(http_client=http_client(ctx), api_key="none")
    return [await do(ctx, client, what) for what in message]
