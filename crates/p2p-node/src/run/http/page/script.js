"use strict";

// Between an answer and the next question, and how long an answer may take, in milliseconds.
const PERIOD = 1000;
const TIMEOUT = 2000;
// Rows of a table; /status has the others.
const ROWS = 30;

const $ = (id) => document.getElementById(id);
let last = null; // the newest status, and when it came
let failures = 0;

// ---- text ----

// Text from elsewhere: without characters that control, reorder or pile up, and not too long.
function clean(text, most = 96) {
  const plain = String(text).slice(0, 4 * most).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\u{fffd}").replace(/\p{M}{3,}/gu, "\u{fffd}");
  const letters = Array.from(plain);
  return letters.length > most ? letters.slice(0, most).join("") + "…" : plain;
}

// The ends of a hash, an address or a peer id.
function short(text) {
  const plain = clean(text);
  return plain.length > 16 ? plain.slice(0, 6) + "…" + plain.slice(-6) : plain;
}

const number = (value) => (Number.isFinite(value) ? value.toLocaleString("en") : "–");
const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const seconds = (duration) => duration.secs + duration.nanos / 1e9;

function milliseconds(ms) {
  return Math.abs(ms) < 10000 ? `${number(Math.round(ms))} ms` : span(ms / 1000);
}

function span(value) {
  const s = Math.max(0, Math.round(value));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

function bytes(value) {
  return value < 1024 ? `${value} B` : value < 1048576 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / 1048576).toFixed(1)} MiB`;
}

// ---- elements ----

// Changes an element only where it differs, so that a selection lasts and a screen reader is not told twice.
function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function attribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// So many children of this kind.
function children(parent, tag, many) {
  while (parent.children.length > many) parent.lastElementChild.remove();
  while (parent.children.length < many) parent.append(document.createElement(tag));
  return Array.from(parent.children);
}

// Rows of [label, text, full text] each.
function table(body, rows) {
  children(body, "tr", rows.length).forEach((tr, row) => {
    attribute(tr, "role", "row");
    children(tr, "td", rows[row].length).forEach((td, column) => {
      const [label, text, full, long] = rows[row][column];
      attribute(td, "role", "cell");
      attribute(td, "data-label", label);
      if (long) attribute(td, "data-long", "");
      if (full) attribute(td, "title", clean(full, 200)); else td.removeAttribute("title");
      show(td, text);
    });
  });
}

function list(dl, entries) {
  if (dl.children.length !== 2 * entries.length) {
    dl.replaceChildren(...entries.flatMap(() => [document.createElement("dt"), document.createElement("dd")]));
  }
  entries.forEach(([name, value], at) => {
    show(dl.children[2 * at], name);
    show(dl.children[2 * at + 1], value);
  });
}

// ---- what the status means ----

function stall(why) {
  if (why === "no_peers") return "no peer is connected";
  if (why === "nothing_delivered") return "no peer delivers what is missing";
  if (why && why.waiting_for_data) {
    const { lowest, txlists } = why.waiting_for_data;
    return `no peer has ${count(txlists, "transaction list", "transaction lists")} from block ${number(lowest)} on`;
  }
  if (why && why.clock) return `what preconfers sign arrives ${number(why.clock.offset)} s after its timestamp: a clock is wrong`;
  return clean(JSON.stringify(why));
}

function syncText(sync) {
  switch (sync.state) {
    case "idle": return "catch-up has not begun";
    case "waiting_for_l2": return "it waits to be told its base (--l2.rpc or --base)";
    case "live": return "live";
    case "syncing": return `it catches up: ${number(sync.applied)} of ${number(sync.target)}`;
    case "stalled": return `stalled since ${clock(sync.since * 1000)} at ${number(sync.applied)} of ${number(sync.target)}: ${stall(sync.why)}`;
    default: return clean(sync.state);
  }
}

function reasonText(reason) {
  switch (reason.reason) {
    case "starting": return "it opens its store or joins the network";
    case "not_live": return syncText(reason.sync);
    case "no_peers": return "no peer can be asked";
    case "schedule_unknown": return "the schedule does not say whose turn it is";
    case "schedule_failed": return `the schedule fails: ${clean(reason.error)}`;
    case "l1_stale": {
      const age = reason.seconds === null ? "L1 has not answered yet" : `the newest block of L1 is ${span(reason.seconds)} old`;
      return reason.error ? `${age}: ${clean(reason.error)}` : age;
    }
    case "l2_stale": {
      const age = reason.seconds === null ? "L2 has not answered yet" : `L2 has not answered for ${span(reason.seconds)}`;
      return reason.error ? `${age}: ${clean(reason.error)}` : age;
    }
    default: return clean(reason.reason);
  }
}

const STATES = {
  live: ["●", "Live"],
  behind: ["▲", "Behind"],
  unready: ["▲", "Not ready"],
  starting: ["…", "Starting"],
  disconnected: ["✕", "Disconnected"],
};

// Said aloud once a change: the figures in a reason move every second.
function state(name, reason) {
  const [mark, word] = STATES[name];
  if (document.documentElement.getAttribute("data-state") !== name) show($("spoken"), `${word}: ${reason}`);
  attribute(document.documentElement, "data-state", name);
  show($("mark"), mark);
  show($("word"), word);
  show($("reason"), reason);
  const head = last && last.status.applied !== null ? ` ${number(last.status.applied)}` : "";
  document.title = `${mark} ${word}${head} – p2p-node`;
}

function warnings(status) {
  const found = status.policies.leniencies.map((text) => `Loosened: ${clean(text, 200)}`);
  if (status.suspects_itself) found.push("Several peers sign what this node does not expect: its schedule, slasher, domain or clock may be wrong");
  if (status.duplicate_identity) found.push(`Another node uses the key of this one (${clean(status.duplicate_identity.sign)}, ${span(status.duplicate_identity.seconds_ago)} ago)`);
  if (status.clock.off || status.clock.unusable) found.push(`What preconfers sign arrives ${number(status.clock.offset)} s after its timestamp: check this host's clock`);
  for (const endpoint of status.l1 ? status.l1.endpoints : []) {
    if (endpoint.failure) found.push(`L1 endpoint ${clean(endpoint.name)} fails: ${clean(endpoint.failure, 200)}`);
  }
  return found;
}

// ---- what is shown ----

function points(values, low, high, height) {
  const step = 600 / Math.max(1, values.length - 1);
  const scale = (height - 8) / Math.max(1, high - low);
  return values.map((value, at) => `${(at * step).toFixed(1)},${(height - 4 - (value - low) * scale).toFixed(1)}`).join(" ");
}

function charts(history, status) {
  const now = Math.floor(status.time_ms / 1000);
  const all = [...history, [now, status.applied, target(status)]].filter((point) => point[1] !== null && point[2] !== null);
  const [applied, targets] = [all.map((point) => point[1]), all.map((point) => point[2])];
  if (all.length === 0) {
    show($("head-caption"), "Head: no block above the base yet");
    show($("lag-caption"), "Behind by: not known yet");
    return;
  }
  const [low, high] = [Math.min(...applied), Math.max(...targets, ...applied)];
  const lags = all.map((point) => Math.max(0, point[2] - point[1]));
  const worst = Math.max(...lags);
  const past = span(now - all[0][0]);
  const [dashed, solid] = $("head-chart").children;
  attribute(dashed, "points", points(targets, low, high, 120));
  attribute(solid, "points", points(applied, low, high, 120));
  show($("head-caption"), `Head (line) and height to reach (dashed), ${number(low)} to ${number(high)} in ${past}`);
  const [area, line] = $("lag-chart").children;
  const curve = points(lags, 0, worst, 60);
  attribute(line, "points", curve);
  attribute(area, "points", `0,56 ${curve} 600,56`);
  show($("lag-caption"), `Behind by, in blocks: ${number(lags[lags.length - 1])} now, ${number(worst)} at most`);
  show($("axis-from"), `${past} ago`);
}

function target(status) {
  return status.sync.target === undefined ? status.applied : status.sync.target;
}

function progress(status) {
  const sync = status.sync;
  const catches = sync.target !== undefined;
  $("sync").hidden = !catches;
  if (!catches) return;
  const start = Math.min(sync.applied, ...status.history.map((point) => point[1]).filter((height) => height !== null));
  const left = Math.max(0, sync.target - sync.applied);
  const parts = [`Catching up: ${count(left, "block", "blocks")} to go`];
  const rate = sync.commitments_per_second;
  if (rate) parts.push(`${number(rate)} a second`, `about ${span(left / rate)} left`);
  if (sync.txlists_missing) parts.push(`${count(sync.txlists_missing, "transaction list", "transaction lists")} missing`);
  show($("sync-text"), parts.join(", "));
  $("sync-bar").max = Math.max(1, sync.target - start);
  $("sync-bar").value = sync.applied - start;
}

function turn(status, now) {
  const { now: current, next } = status.schedule;
  const open = status.policies.lookahead === "open";
  const bar = $("turn-bar");
  bar.hidden = open || !current;
  if (open) {
    show($("turn"), "Anybody may sign (--lookahead open)");
    show($("turn-left"), "");
    show($("turn-next"), "");
    return;
  }
  if (current) {
    const [start, end] = [current.start * 1000, (current.end + 1) * 1000];
    show($("turn"), clean(current.signer));
    bar.max = end - start;
    bar.value = Math.min(Math.max(0, now - start), end - start);
    show($("turn-left"), now < end ? `${span((end - now) / 1000)} of ${span((end - start) / 1000)} left` : "this window is over");
  } else {
    show($("turn"), "Nobody, as far as this node knows");
    show($("turn-left"), "");
  }
  show($("turn-next"), next ? `Next: ${short(next.signer)}, from ${clock(next.start * 1000)}` : "Next: not known");
}

function blockRow(block) {
  const state = block.replaced ? "✕ replaced"
    : block.handover ? "⇢ handover"
    : block.list_ms === null ? "… waits for its list" : "✓ complete";
  const delivered = block.delay_ms === null ? "by catching up" : milliseconds(block.delay_ms);
  const size = block.list_bytes === null ? "" : `, ${bytes(block.list_bytes)}`;
  const list = block.handover ? "none" : block.list_ms === null ? "–" : `+${milliseconds(block.list_ms)}${size}`;
  const from = block.peer === null ? "this node" : short(block.peer);
  return [["Height", number(block.block), block.hash], ["State", state], ["Delivered", delivered], ["List", list],
    ["Signer", short(block.signer), block.signer], ["From", from, block.peer]];
}

function peerRow(peer) {
  const state = peer.banned_for ? `✕ banned, ${span(seconds(peer.banned_for))} left` : peer.ready ? "● ready" : "… connecting";
  const traits = [peer.inbound ? "in" : "out", ...(peer.protected ? ["protected"] : [])].join(", ");
  return [["Peer", short(peer.peer), peer.peer], ["State", peer.banned_for ? state : `${state} (${traits})`],
    ["Score", `${peer.score.toFixed(1)} (application ${peer.application_score.toFixed(1)})`],
    ["Delivered", `${count(peer.delivered.commitments, "block", "blocks")}, ${count(peer.delivered.txlists, "list", "lists")}`],
    ["Round trip", peer.round_trip ? milliseconds(seconds(peer.round_trip) * 1000) : "–"],
    ["Connected", peer.banned_for ? "–" : span(seconds(peer.connected_for))],
    ["Agent", peer.agent === null ? "–" : clean(peer.agent), null, true]];
}

function peersOf(status) {
  const useful = (peer) => peer.delivered.commitments + peer.delivered.txlists;
  const rank = (peer) => (peer.banned_for ? 2 : peer.ready ? 0 : 1);
  return [...status.peers].sort((a, b) => rank(a) - rank(b) || useful(b) - useful(a) || a.peer.localeCompare(b.peer));
}

function more(rows, all) {
  return rows < all ? `${number(all - rows)} more in /status` : "";
}

function render(status) {
  show($("who"), `p2p-node ${clean(status.version)} on chain ${status.chain_id}, peer ${clean(status.peer)}, up ${span(status.time_ms / 1000 - status.started)}`);
  const found = warnings(status);
  children($("warnings"), "li", found.length).forEach((item, at) => show(item, found[at]));
  show($("head"), number(status.applied));
  show($("lag"), status.applied === null ? "–" : count(Math.max(0, target(status) - status.applied), "block", "blocks"));
  const connected = status.peers.filter((peer) => peer.ready).length;
  const age = status.time_ms / 1000 - status.peers_at;
  const when = age > 10 ? ` (${span(age)} ago)` : "";
  // Nobody has asked yet in the first moments.
  show($("ready-peers"), status.peers_at === 0 ? "–" : number(connected) + when);
  const delays = status.blocks.filter((block) => block.origin === "gossip").map((block) => block.delay_ms).sort((a, b) => a - b);
  show($("median"), delays.length ? milliseconds(delays[Math.floor(delays.length / 2)]) : "–");
  progress(status);
  charts(status.history, status);
  table($("blocks"), [...status.blocks].reverse().map(blockRow));
  show($("blocks-note"), status.blocks.length ? "" : "None since this node started.");
  const peers = peersOf(status);
  table($("peers"), peers.slice(0, ROWS).map(peerRow));
  show($("peers-note"), peers.length ? more(ROWS, peers.length) : "Nobody is connected.");
  const proofs = status.evidence.latest;
  table($("evidence"), [...proofs].reverse().map((proof) => [["When", clock(proof.at * 1000)], ["What", clean(proof.kind).replaceAll("_", " ")],
    ["Signer", short(proof.signer), proof.signer], ["Height", number(proof.block)]]));
  show($("evidence-note"), status.evidence.found ? `${number(status.evidence.found)} in all since this node started.` : "None since this node started.");
  const drops = status.drops;
  list($("drops"), [["Broke a rule", number(drops.rejected)], ["Of no use", number(drops.ignored)],
    ["Queue full, or too old", number(drops.dropped)], ["Events not shown here", number(drops.events_missed)],
    ["HTTP, too many", number(drops.http_displaced)], ["HTTP, too slow", number(drops.http_slow)]]);
  const { offset } = status.clock;
  const l1 = !status.l1 ? "not followed" : !status.l1.head ? "no block yet" : `${number(status.l1.head.number)}, ${count(status.l1.reorgs, "reorg", "reorgs")}`;
  list($("node"), [["Schedule from", clean(status.policies.lookahead, 200)], ["Storage", clean(status.policies.storage, 200)],
    ["Listens on", status.listen.map((address) => clean(address, 200)).join(" ")],
    ["Chain ids", `L2 ${status.chain_id}, network ${status.p2p_chain_id}`], ["L1", l1],
    ["Clock", offset === null ? "not compared yet" : `elected preconfers' messages arrive ${number(offset)} s after their timestamp`]]);
}

// ---- asking ----

function judge(status) {
  const reasons = status.readiness.reasons;
  const text = reasons.map(reasonText).join("; ");
  if (status.readiness.ready) return state("live", "it follows the chain");
  state(reasons.some((reason) => reason.reason === "not_live") ? "behind" : "unready", text);
}

async function ask() {
  try {
    const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    if (!answer.ok && answer.status !== 503) throw new Error(`HTTP ${answer.status}`);
    const body = await answer.json();
    failures = 0;
    if (answer.ok) update(body);
    else state("starting", body.reasons.map(reasonText).join("; "));
  } catch (error) {
    failures += 1;
    // A single question may be lost; one that took all its time was not.
    if (failures > 1 || error.name === "TimeoutError") {
      const since = last ? `; what is below is ${span((performance.now() - last.at) / 1000)} old` : "";
      state("disconnected", `the node does not answer${since}`);
    }
  }
  setTimeout(ask, failures === 1 ? PERIOD / 2 : PERIOD);
}

function update(status) {
  last = { status, at: performance.now() };
  try {
    render(status);
    judge(status);
  } catch (error) {
    state("unready", `this page cannot show the status: ${clean(error.message)}`);
  }
}

// The slot clock goes on between two answers.
setInterval(() => {
  if (last && failures === 0) turn(last.status, last.status.time_ms + performance.now() - last.at);
}, 250);

ask();
