"""A Firefox that is already there, driven by its own WebDriver BiDi: enough to open a page and ask it things."""

import asyncio
import json
import re
import subprocess
from contextlib import asynccontextmanager
from itertools import count

from tornado.websocket import websocket_connect


class Firefox:
    """A connection to a headless Firefox; ``opened`` gives one with a tab."""

    def __init__(self, socket):
        self.socket, self.numbers, self.events, self.tab = socket, count(1), [], None

    async def ask(self, method, **parameters):
        number = next(self.numbers)
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self.socket.read_message())
            if answer.get("id") == number:
                if answer["type"] == "error":
                    raise RuntimeError(f"{answer['error']}: {answer['message']}")
                return answer["result"]
            self.events.append(answer)

    async def open(self, address):
        await self.ask("browsingContext.navigate", context=self.tab, url=address, wait="complete")

    async def value(self, expression):
        """What an expression, or the promise it gives, comes to, by way of JSON."""
        wrapped = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        found = await self.ask(
            "script.evaluate", expression=wrapped, target={"context": self.tab}, awaitPromise=True
        )
        if found["type"] == "exception":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    async def until(self, expression, seconds=60):
        for _ in range(10 * seconds):
            if await self.value(expression):
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(expression)


@asynccontextmanager
async def opened(program, profile):
    """A fresh Firefox with an empty profile, and errors of the console as events."""
    command = [
        program,
        "--headless",
        "--no-remote",
        "--profile",
        str(profile),
        "--remote-debugging-port",
        "0",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        for line in process.stderr:
            if found := re.search(r"BiDi listening on (ws://\S+)", line):
                break
        else:
            raise RuntimeError("Firefox ended before it listened")
        firefox = Firefox(await websocket_connect(f"{found[1]}/session", max_message_size=1 << 28))
        await firefox.ask("session.new", capabilities={})
        await firefox.ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        tree = await firefox.ask("browsingContext.getTree")
        firefox.tab = tree["contexts"][0]["context"]
        yield firefox
    finally:
        process.kill()
        process.wait()
