//! The status page, as a browser shows it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    rig::{LOOPBACK, NODE, Node, ZERO, expect, get, get_json, now, within},
};

/// How long a page may show a node that has died.
const NOTICED: Duration = Duration::from_secs(5);

const STATE: &str = "document.documentElement?.dataset.state";

fn state_is(state: &str) -> String {
    format!("{STATE} === '{state}'")
}

/// Where pictures are kept: `target/tmp/status-page`.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn take_pictures(browser: &mut Browser, name: &str) {
    for width in [1280, 390] {
        for scheme in ["light", "dark"] {
            browser.screenshot(&pictures().join(format!("{name}-{scheme}-{width}.png")), width, scheme);
        }
    }
}

/// A devnet in a process of its own, and the options that join it.
struct Devnet {
    child: Child,
    join: Vec<String>,
}

impl Devnet {
    fn start(blocks: &str, schedule: &Path) -> Self {
        let options =
            ["devnet", "--nodes", "3", "--blocks", blocks, "--hold", "600", "--listen", "127.0.0.1:0"];
        let mut child =
            Command::new(NODE).args(options).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut after = |name: &str| {
            let found = lines.find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()));
            found.unwrap_or_else(|| panic!("no line begins with {name}"))
        };
        let (domain, slasher, base) = (after("domain"), after("slasher"), after("base"));
        fs::write(schedule, after("schedule")).unwrap();
        let lookahead = format!("rotating:{}", schedule.display());
        let options = [
            ["--domain", &domain],
            ["--slasher", &slasher],
            ["--base", &base],
            ["--lookahead", &lookahead],
            ["--p2p.static", &after("multiaddr")],
            ["--status.addr", "127.0.0.1:0"],
        ];
        let join = [&["run"][..], &LOOPBACK, options.as_flattened()].concat();
        let join = join.into_iter().map(str::to_owned).collect();
        thread::spawn(move || lines.for_each(drop));
        Self { child, join }
    }

    fn node(&self) -> Node {
        let options: Vec<&str> = self.join.iter().map(String::as_str).collect();
        Node::spawn(NODE, &options, Stdio::null())
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server that sends the page of a node, with its headers, and a status of the test's.
struct Double {
    address: String,
    status: Arc<Mutex<(u16, String)>>,
}

impl Double {
    fn of(node: &Value) -> Self {
        let mut page = TcpStream::connect(node.as_str().unwrap()).unwrap();
        page.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        page.read_to_end(&mut answer).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let status = Arc::new(Mutex::new((503, json!({ "ready": false, "reasons": [] }).to_string())));
        let shown = status.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                if request.starts_with("GET /status ") {
                    let (code, body) = shown.lock().unwrap().clone();
                    let length = body.len();
                    let head = "Content-Type: application/json\r\nConnection: close\r\nContent-Length:";
                    write!(stream, "HTTP/1.1 {code} -\r\n{head} {length}\r\n\r\n{body}").ok();
                } else {
                    stream.write_all(&answer).ok();
                }
            }
        });
        Self { address, status }
    }

    fn shows(&self, status: &Value) {
        *self.status.lock().unwrap() = (200, status.to_string());
    }
}

/// A peer of a status, named by its number.
fn peer(number: u64, agent: &str) -> Value {
    let none = Value::Null;
    let lasts = json!({ "secs": 60 * number + 5, "nanos": 0 });
    json!({
        "peer": format!("16Uiu2HAm{number:02}A4njcndd3QwpJY5pkfoZdLNkGsfh9RR6YWENRM{number:02}"), "agent": agent, "inbound": number.is_multiple_of(2),
        "score": 4.3 - number as f64, "application_score": 0.25, "protected": number == 0, "ready": number != 3,
        "round_trip": { "secs": 0, "nanos": 3_342_203 * (number + 1) }, "connected_for": lasts,
        "banned_for": if number == 3 { json!({ "secs": 3500, "nanos": 0 }) } else { none },
        "delivered": { "commitments": 40 / (number + 1), "txlists": 38 / (number + 1) },
    })
}

/// A node that is behind and has seen much.
fn busy(status: &Value, agent: &str) -> Value {
    let mut status = status.clone();
    let time = now();
    let signer = "0xedd2ff18289db175e9e4b55f00e61c1f7ee151eb";
    let sync = json!({ "state": "syncing", "applied": 1_000_040, "seen": 1_000_100, "target": 1_000_120,
        "commitments_per_second": 12, "txlists_missing": 3, "peers": 3 });
    let reason = json!({ "reason": "not_live", "sync": sync });
    status["readiness"] = json!({ "ready": false, "reasons": [reason, { "reason": "l1_stale", "seconds": 190, "error": "timed out" }] });
    status["sync"] = sync;
    status["applied"] = json!(1_000_040);
    status["peers_at"] = json!(time);
    status["peers"] = (0..4).map(|number| peer(number, agent)).collect();
    let history = (0..120_u64)
        .map(|at| json!([time - 600 + 5 * at, 999_700 + 3 * at - at % 7, 999_705 + 3 * at + at * at / 160]));
    status["history"] = history.collect();
    let block = |at: u64| {
        json!({ "block": 1_000_020 + at, "hash": format!("0x{at:064x}"), "signer": signer, "handover": at == 12, "replaced": at == 7,
            "origin": if at < 3 { "sync" } else { "gossip" }, "peer": peer(at % 3, "")["peer"], "at_ms": time * 1000,
            "delay_ms": if at < 3 { Value::Null } else { json!(120 + 37 * (at % 5)) },
            "list_ms": if at == 19 { Value::Null } else { json!(at % 4) }, "list_bytes": 4096 + 100 * at })
    };
    status["blocks"] = (0..20).map(block).collect();
    status["evidence"] = json!({ "found": 3, "latest": [
        { "kind": "equivocation", "signer": signer, "block": 1_000_031, "at": time - 200 },
        { "kind": "block_after_eop", "signer": signer, "block": 1_000_033, "at": time - 100 } ] });
    status["schedule"] = json!({ "now": { "signer": signer, "start": time - 100, "end": time + 283 },
        "next": { "signer": ZERO, "start": time + 284, "end": time + 667 } });
    status["policies"] = json!({ "lookahead": "l1", "storage": "/var/lib/preconf",
        "leniencies": ["the first block above the base may name any parent"] });
    status["drops"]["rejected"] = json!(12_401);
    status
}

/// Replaces each text of a status that a peer or an endpoint may choose, and all others that are no enumeration.
fn poison(value: &mut Value, text: &str) {
    match value {
        Value::String(own) if own != "not_live" && own != "syncing" => *own = text.to_owned(),
        Value::Array(values) => values.iter_mut().for_each(|value| poison(value, text)),
        Value::Object(fields) => fields.values_mut().for_each(|value| poison(value, text)),
        _ => {}
    }
}

#[test]
fn the_page_shows_a_devnet_and_notices_the_nodes_death() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::start("600", &folder.path().join("schedule.json"));
    let mut node = devnet.node();
    let status = node.started()["status"].clone();
    browser.open(&format!("http://{}/", status.as_str().unwrap()));
    browser.until(&state_is("live"));
    browser.until("document.querySelectorAll('#blocks tr').length > 4");
    let before = get_json(&status, "/status").1["applied"].as_u64().unwrap();
    let grown = format!("Number(document.querySelector('#head').textContent.replaceAll(',', '')) > {before}");
    browser.until(&grown);
    let shown = browser.evaluate("document.body.innerText");
    let shown = shown.as_str().unwrap();
    for words in ["preconfirmation-p2p/", "✓ complete", "Next: 0x", "● ready", " ms"] {
        assert!(shown.contains(words), "{words:?} is not in: {shown}");
    }
    assert!(browser.evaluate("document.querySelector('#head-chart .line').points.length").as_u64() > Some(1));
    take_pictures(&mut browser, "live");

    node.child.kill().unwrap();
    let noticed = browser.until(&state_is("disconnected"));
    assert!(noticed < NOTICED, "{noticed:?}");
    println!("a killed node is noticed after {noticed:?}");
    take_pictures(&mut browser, "disconnected");
}

/// It has not died, but answers nothing any more.
#[test]
fn the_page_notices_a_node_that_hangs_and_one_that_goes_on() {
    let Some(mut browser) = Browser::start() else { return };
    let mut node = Node::run(&["--status.addr", "127.0.0.1:0"]);
    let status = node.started()["status"].clone();
    browser.open(&format!("http://{}/", status.as_str().unwrap()));
    browser.until(&format!("!!{STATE}"));
    let signal = |name: &str| {
        let id = node.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    };
    signal("-STOP");
    let noticed = browser.until(&state_is("disconnected"));
    assert!(noticed < NOTICED, "{noticed:?}");
    println!("a node that hangs is noticed after {noticed:?}");
    signal("-CONT");
    browser.until(&format!("['behind', 'unready'].includes({STATE})"));
    node.stop();
}

/// A node, its status, and a double that answers in its place.
fn behind_a_double() -> (Node, Value, Double) {
    let mut node = Node::run(&["--status.addr", "127.0.0.1:0"]);
    let address = node.started()["status"].clone();
    let status =
        within("a status", || Some(get_json(&address, "/status")).filter(|(code, _)| *code == 200)).1;
    let double = Double::of(&address);
    (node, status, double)
}

#[test]
fn the_page_says_that_a_node_is_behind_and_why() {
    let Some(mut browser) = Browser::start() else { return };
    let (node, status, double) = behind_a_double();
    browser.open(&format!("http://{}/", double.address));
    browser.until(&state_is("starting"));
    double.shows(&busy(&status, "preconfirmation-p2p/0.1.0"));
    browser.until(&state_is("behind"));
    let reason = browser.evaluate("document.querySelector('#reason').textContent");
    assert_eq!(
        reason,
        "it catches up: 1,000,040 of 1,000,120; the newest block of L1 is 3 min old: timed out"
    );
    assert_eq!(browser.evaluate("document.querySelector('#lag').textContent"), "80 blocks");
    assert_eq!(browser.evaluate("document.querySelector('#sync-bar').value > 0"), true);
    take_pictures(&mut browser, "behind");
    node.stop();
}

#[test]
fn a_hostile_peer_writes_nothing_into_the_page_but_text() {
    let Some(mut browser) = Browser::start() else { return };
    let (node, status, double) = behind_a_double();
    let hostile =
        "</td><img src=x onerror='window.pwned=1'><script>window.pwned=1</script>\u{202e}\u{1b}[31m";
    let mut poisoned = busy(&status, hostile);
    double.shows(&poisoned);
    browser.open(&format!("http://{}/", double.address));
    browser.until(&state_is("behind"));
    let agent = browser.evaluate("document.querySelector('#peers td[data-label=Agent]').textContent");
    assert_eq!(agent, hostile.replace(['\u{202e}', '\u{1b}'], "\u{fffd}"));

    // The same from everywhere else, however long.
    poison(&mut poisoned, &hostile.repeat(100));
    double.shows(&poisoned);
    browser.until("document.querySelector('#node').textContent.includes('<img')");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('img, script:not(body > script), td *').length"),
        0
    );
    assert_eq!(browser.evaluate("typeof window.pwned"), "undefined");
    let longest =
        "Math.max(...Array.from(document.querySelectorAll('td, dd, li'), (cell) => cell.textContent.length))";
    assert!(browser.evaluate(longest).as_u64().is_some_and(|longest| longest < 500));
    // Nor does a script that was smuggled in run.
    let smuggle = "{ const script = document.createElement('script'); try { script.text = 'window.pwned = 1'; \
                   document.body.append(script); } catch { } typeof window.pwned }";
    assert_eq!(browser.evaluate(smuggle), "undefined");
    browser.screenshot(&pictures().join("hostile-light-390.png"), 390, "light");
    node.stop();
}

#[test]
fn the_page_is_served_with_a_strict_policy() {
    let mut node = Node::run(&["--status.addr", "127.0.0.1:0"]);
    let address = node.started()["status"].clone();
    let (code, page) = get(&address, "/").unwrap();
    assert_eq!(code, 200);
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    let mut stream = TcpStream::connect(address.as_str().unwrap()).unwrap();
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    for header in ["default-src 'none'", "frame-ancestors 'none'", "nosniff", "no-store"] {
        assert!(head.contains(header), "{header} is not in: {head}");
    }
    node.stop();
}

#[test]
fn a_watcher_without_a_terminal_says_what_to_do_instead() {
    let words = ["not a terminal", "curl http://node.example:8080/status"];
    expect(1, &["watch", "node.example:8080"], &words);
    expect(2, &["watch", "ftp://node.example"], &["neither http nor https"]);
}
