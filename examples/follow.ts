// Follows the chain of a node over JSON-RPC, each block once and in order, whatever happens to the connection.
//
//     node follow.ts ws://127.0.0.1:8550 1374487      # from this height on; one line of JSON for each block
//
// Node.js runs it as it is from 22.18 on.
type Update = { kind: string; hash?: string; from?: string; through?: string };
type Message = { error?: { code: number }; params?: { error?: string; result?: Update } };

const [url, first] = process.argv.slice(2);
let height = Number(first);
const hashes = new Map<number, string>(); // of the newest blocks: a subscription goes on from the last one

function follow() {
  const socket = new WebSocket(url);
  socket.onopen = () => {
    const params = [{ from: height, parentHash: hashes.get(height - 1) ?? null }];
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "preconf_subscribe", params }));
  };
  socket.onmessage = ({ data }) => {
    const { error, params }: Message = JSON.parse(data);
    if (error?.code === -32026) height -= 1; // another block is canonical: back by one
    if (error || params?.error) return socket.close();
    const update = params?.result;
    if (update?.kind === "block") {
      console.log(JSON.stringify(update));
      hashes.set(height++, update.hash!);
      hashes.delete(height - 1000);
    } else if (update?.kind === "reorg") height = Number(update.from); // what stands there now follows
    else if (update?.kind === "settled") height = Number(update.through) + 1;
  };
  socket.onclose = () => setTimeout(follow, 1000);
}
follow();
