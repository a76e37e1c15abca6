//! What the document says of each suite, with the place of its table, and what the suite aims at.

pub(super) const VALIDATION: &str = "\
Our way against the naive one of `benches/src/baseline.rs` (ssz_rs, sha3, a new secp256k1 context a
call, encoding again before each hash), on the same bytes in the same run. Both take turns of a
millisecond, or of one run where that takes longer, for three seconds; a time is that of the least
disturbed turn, *ratio* is the quotient of the two, and *median* is the middle of the quotients of
neighbouring turns, which shows how busy the machine was.

{table}
`single` is a commitment from its bytes to accepted; `page_256` a page from its bytes to authenticated, on
all cores (the naive way on one), both of a signer whose table is not at hand. `…_known` are the same of a signer whose table
is, `page_256_cold` a page by three signers who are not known yet, their tables included. `flood_unknown` are 253 forgeries in
the name of a known signer, and its ratio is to the same with tables off. `table_build` is what a new signer costs once,
beside one naive recovery. `reject_…` is what is refused; `txlist_hash_…` is the hash alone,
`txlist_check_…` a list from the bytes of its message to verified. Decoding a list shares its bytes, so its
ratio grows with the list. `reject_duplicate` and `txlist_hash_…` show one keccak against the other; `keccak_8x…` are eight
lists hashed beside each other, and *naive* is there the same hash, one list after the other. `single_beside_pages_p99` is how long
a commitment of a known signer, one each millisecond, waits for its verdict at most but for one in a hundred, while four pages of
256 at a time, as many as catch-up has, are authenticated on all cores without a pause; *naive* is there the same without pages.
A page needs all cores at once: on a busy machine its ratio says more about the neighbours.
";

/// What catching up aims at.
pub(super) const CATCHUP_TARGETS: [(&str, &str); 12] = [
    ("commitments_vs_bound", "≥ 0.8"),
    ("txlists_vs_serial_25ms", "≥ 5"),
    ("txlists_vs_raw", "≥ 0.75, or see below"),
    ("txlists_2mib_vs_floor", "≥ 0.75, or see below"),
    ("txlists_vs_checked", "≥ 0.92"),
    ("txlists_2mib_vs_checked", "≥ 0.92"),
    ("txlists_vs_same", "≥ 0.92"),
    ("txlists_2mib_vs_same", "≥ 0.92"),
    ("paced_1_peer", "≥ 0.95"),
    ("paced_4_peers", "≥ 0.95"),
    ("refusals", "0"),
    ("peak_extra_mib", "≤ 64"),
];

pub(super) const CATCHUP: &str = "\
Over real sockets on loopback, from four peers in one other process that shares the cores: clients with stores in
memory, pacing and serving limits lifted where speed is measured. Ours and the ceilings take turns; the best of three
rounds counts on both sides.

{table}
`commitments_vs_bound`: 10,000 commitments with one list, against one core that authenticates them from their bytes
and does nothing else. `txlists_vs_raw`: 10,000 commitments and their lists of 10 KiB, against libp2p's
request/response alone with a codec that moves the same bytes, eight requests on their way to each peer.
`txlists_vs_serial_25ms`: the same through a relay that holds every byte back for 25 ms each way, against one peer
asked for one list after another. `txlists_2mib_vs_floor`: lists of 2 MiB, against the slower of libp2p alone and of
keccak on all cores. `paced_…`: the share of 0.8 lists a second and peer in a minute with servers that answer eight
requests in ten seconds and refuse the ninth, after the first ten seconds; `refusals` are theirs. `peak_extra_mib`: resident memory beyond what
there was before and what is stored, at its highest in any of these runs.

`…_checked` is libp2p alone again, which hashes each answer and authenticates one commitment for it, and neither links nor
stores anything. Client and servers share the cores, so whoever checks cannot reach `…_raw`; `…_vs_checked` is what we reach of
it. It has one protocol on a connection, where a node has six, each of which libp2p polls whenever a list moves. `…_same` has
all six, by libp2p's own behaviours, and keeps what it has checked, as a store does: that is what a node can reach, but for the
commitments and their order.

Where the difference goes, sampled on 2026-11-30 (two cores, AMD EPYC, quiet, `perf` at 4 kHz, one round): a list of 10 KiB takes
267 µs of processor time, 163 of the client and 104 of the servers; checked it is 224 µs, 127 and 97; raw 112 µs. Either side
writes to its sockets four times a list in all three. About half of the client's time is libp2p polling its connections, in both; what
is left of the difference are pages of commitments, planning and the store.
";

pub(super) const GOSSIP: &str = "\
Twenty whole clients (validation, memory storage, event) against twenty bare gossipsub nodes, and between the two twenty
of libp2p's own behaviours for all of the protocol (gossipsub without scores, identify, ping, three for requests) and
twenty of our network without a client, which accepts everything: the same parameters, 382-byte messages and mesh of all
links, over TCP on loopback, all in one process, in turns of twenty messages. A delivery lasts from the call that
publishes to the moment when another node's application has the message; processor time is that of the whole process over
a turn, for each delivery.

{table}
*ratio* is ours to raw; of the processor time it is ours less raw, the middle of the turns. `p50_vs_same` is our *network*
to *all*, which speak the same protocols: {p50_vs_same} (target 1.15); `cpu_vs_same` is the same of the processor time, the
middle quotient of the turns: {cpu_vs_same} (target 1.08). What *all* takes beyond raw is what libp2p takes for protocols
that are silent: it polls each handler whenever gossip moves. Our *network* adds verdicts, peer scores and the watch over
slow readers, and its topic has a longer name. *Ours* adds a signature by the one signer, the rules, the store, the event. A fifth mesh is of
clients that keep no tables of signers and recover every signature: they take {cpu_extra_recovering_us} beyond raw, and tables save
{cpu_saved_us} of each delivery (target 20 µs). *Ours*
judges a message when other tasks have had a turn: the peers whose copies have come by then are not sent one, and of
all that a copy costs a node on two shared cores, that saves about what the rest takes.
";

/// What the store on disk aims at.
pub(super) const STORAGE_TARGETS: [(&str, &str); 9] = [
    ("insert_1", "≥ 0.8"),
    ("insert_16", "≥ 0.8"),
    ("insert_64", "≥ 0.8"),
    ("insert_256", "≥ 0.8"),
    ("txlist_2mib", "≥ 0.8"),
    ("range_256_ms", "≤ 2"),
    ("memory_mib", "≤ 64"),
    ("disk_ratio", "≤ 2"),
    ("insert_beside_pruning_p99_ms", "≤ 5"),
];

pub(super) const STORAGE: &str = "\
Everything durable when it returns, in files on one file system. Ours and the raw way take turns with the same
commitments or lists; the middle of the quotients of neighbouring turns counts.

{table}
`insert_…`: commitments inserted by so many at once into a store without a history, against the database alone, which
writes the same commitments under their heights and their heights under their hashes in one transaction: the least
that answers for both. `…_one_table` in place of that: under their heights only, which finds nothing by hash. What ours
does beyond is to look for the parent and for rivals, a checksum, and the signer; what it saves are pages, because it packs
commitments and keeps the beginning of a hash only. `txlist_2mib`: lists of 2 MiB put one after the other, against append
and fdatasync of the same bytes to one file. `txlist_10kib_…` and `txlists_10kib_64_…`: lists of 10 KiB put one by one,
and 64 with one call.

The rest is a store of one million commitments. `range_256_ms`: 256 commitments from a random height, read and hashed
anew. `memory_mib`: resident memory of a process that opens it and reads all of it. `disk_ratio`: the database file to
the bytes of the commitments on the wire. `reopen_killed_ms`: opening the file as a killed process leaves it.
`insert_alone_…` and `insert_beside_pruning_…`: what one insert takes by itself, and while another thread prunes 200,000
commitments without a pause; the middle one and the slowest in a hundred. `fdatasync_…`: the same of one page written and
synced in a file of its own in between, which an insert waits for at least.
";

pub(super) const BASE: &str = "\
Two clients with the same 100,000 unsettled blocks, the measured one over a store on disk with every change durable. Its
application declares one block more as settled every second (`update_head`).

{table}
A call is timed from the application's side: the command, the change to the thread that owns the chain, the store with its
sync, and the answer. `sync_ms` is a plain write with a sync in the same folder, after each call; `owner_ms` what the middle
call takes beyond that: the owner's own time, and what the database syncs and writes beyond a page. `live_flaps` counts statuses other than *live* meanwhile.
";

/// What publishing over JSON-RPC aims at.
pub(super) const RPC_TARGETS: [(&str, &str); 3] =
    [("publish_vs_client", "≥ 0.8"), ("hostile_p99_vs_quiet", "≤ 2"), ("steady_per_s", "500")];

pub(super) const RPC: &str = "\
One node with a store on disk, every change durable, and one peer that hears it, with its callers in one process that shares
the cores. Lists of 10 KiB. A block names the one before it, so each is sent when its parent is answered, over RPC on eight
connections that take turns.

{table}
`publish_vs_client`: blocks a second by `preconf_publishBlock` to those by `publish_block` of the client's API, in turns of a
hundred; the middle of the quotients of neighbouring turns counts. The rest is at a steady rate of 500 calls a second, with a
subscriber to blocks over a WebSocket. A call that is late because the one before it was is timed from when it was due.
`subscribe_lag_…`: from the client's own event of a block to the message, with its list, at the subscriber. `steady_cores`: what
the whole process keeps busy then, the peer, the callers and the subscriber included. That rate is close to the most that one
block after the other allows on this machine (`rpc_per_s`), so `p50_ms` and `p99_ms` are mostly of waiting for the block before.
`hostile_…`: deliveries to the peer, a hundred a second, by turns alone and beside nine kinds of calls that have to be refused,
each twenty times a second, a subscriber that never reads, and a thousand WebSockets that say nothing.
";

pub(super) const GUARD: &str = "\
Three nodes in one process, each with a peer of its own, publish the same blocks with lists of 10 KiB by turns of a hundred, one after
the other, from the call of `publish_block` to its answer.

{table}
`none_us`: the store, and the signing guard in it, is in memory. `disk_us`: it is on disk, every change durable. `postgres_us`: the
same, and a PostgreSQL on the same machine and disk is asked before, over a Unix socket. One over a network adds its round trip.
";
