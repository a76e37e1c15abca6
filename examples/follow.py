"""Follows the chain of a node over JSON-RPC, each block once and in order, whatever happens to the connection.

    pip install websockets
    python3 follow.py ws://127.0.0.1:8550 1374487      # from this height on; one line of JSON for each block
"""
import asyncio, json, sys, websockets

async def follow(url, height):
    hashes = {}  # of the newest blocks, by height: a subscription goes on from the last one
    while True:
        try:
            async with websockets.connect(url, max_size=2**23) as socket:
                params = [{"from": height, "parentHash": hashes.get(height - 1)}]
                call = {"jsonrpc": "2.0", "id": 1, "method": "preconf_subscribe", "params": params}
                await socket.send(json.dumps(call))
                async for text in socket:
                    message = json.loads(text)
                    if message.get("error", {}).get("code") == -32026:  # another block is canonical: back by one
                        height -= 1
                    if "error" in message or "error" in message.get("params", {}):
                        break
                    update = message.get("params", {}).get("result", {})
                    if update.get("kind") == "block":
                        print(json.dumps(update), flush=True)
                        hashes[height], height = update["hash"], height + 1
                        hashes.pop(height - 1000, None)
                    elif update.get("kind") == "reorg":  # what stands there now follows
                        height = int(update["from"], 16)
                    elif update.get("kind") == "settled":
                        height = int(update["through"], 16) + 1
        except (OSError, websockets.WebSocketException) as error:
            print(error, file=sys.stderr)
        await asyncio.sleep(1)

asyncio.run(follow(sys.argv[1], int(sys.argv[2])))
