//! Where a node listens, what it advertises, and whom it dials.

#[cfg(target_os = "linux")]
use std::{fs, process::Command};
use std::{
    net::{TcpListener, UdpSocket},
    process::Stdio,
};

use preconfirmation_p2p::Keypair;

#[cfg(target_os = "linux")]
use crate::rig::expect_without_rights;
use crate::rig::{CHAIN, LOOPBACK, NODE, Node, expect};

/// A record (ENR) of a node that listens everywhere is of use where its operator says where it is.
#[test]
fn an_advertised_address_is_in_the_record_and_a_missing_one_is_asked_for() {
    let everywhere = [&CHAIN[..], &["--p2p.listen.tcp", "0", "--p2p.listen.udp", "0"]].concat();
    let node = Node::spawn(NODE, &everywhere, Stdio::null());
    node.logs(&["WARN", "--p2p.listen.ip 0.0.0.0", "--p2p.advertise.ip"]);
    node.stop();

    let advertise = ["--p2p.advertise.ip", "127.0.0.1", "--p2p.advertise.tcp", "30303"];
    let advertise = [&everywhere[..], &advertise, &["--p2p.advertise.udp", "30304"]].concat();
    let mut node = Node::spawn(NODE, &advertise, Stdio::null());
    let said = node.log_until("running");
    assert!(!said.contains("--p2p.advertise.ip"), "{said}");
    let enr: discv5::Enr = node.started()["enr"].as_str().unwrap().parse().unwrap();
    let told = (enr.ip4().unwrap().to_string(), enr.tcp4(), enr.udp4());
    assert_eq!(told, ("127.0.0.1".into(), Some(30303), Some(30304)));
    node.stop();

    let free = [&CHAIN[..], &LOOPBACK, &["--p2p.advertise.ip"]].concat();
    expect(
        1,
        &[&free[..], &["192.0.2.1"]].concat(),
        &["--p2p.advertise.ip 192.0.2.1", "--p2p.advertise.tcp"],
    );
    expect(1, &[&free[..], &["0.0.0.0"]].concat(), &["--p2p.advertise.ip 0.0.0.0", "nobody can dial"]);
    let port = [&CHAIN[..], &LOOPBACK, &["--p2p.advertise.tcp", "1"]].concat();
    expect(2, &port, &["--p2p.advertise.ip <IP>"]);
}

#[test]
fn a_node_listens_on_several_addresses() {
    let options = [&CHAIN[..], &["--p2p.listen.tcp", "0", "--p2p.listen.ip"]].concat();
    let mut node = Node::spawn(NODE, &[&options[..], &["127.0.0.1, 127.0.0.2,"]].concat(), Stdio::null());
    let started = node.started();
    let listen: Vec<_> =
        started["listen"].as_array().unwrap().iter().map(|at| at.as_str().unwrap()).collect();
    assert_eq!(listen.len(), 2, "{listen:?}");
    for ip in ["/ip4/127.0.0.1/", "/ip4/127.0.0.2/"] {
        assert!(listen.iter().any(|address| address.starts_with(ip)), "{listen:?}");
    }
    node.stop();
}

/// A name that is written into /etc/hosts while the node runs, and a resolver that never answers. Needs a mount namespace
/// of its own; where the system allows none, there is nothing to see.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_gets_an_address_later_is_dialled_there() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    if !Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success()) {
        return;
    }
    let mut peer = Node::run(&[]);
    let address =
        peer.started()["listen"][0].as_str().unwrap().replace("/ip4/127.0.0.1/", "/dns4/peer.test/");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (hosts, resolver) =
        (file("hosts", "127.0.0.1 localhost\n"), file("resolv.conf", "nameserver 127.0.0.1\n"));
    let script = format!(
        "mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec {NODE} \"$@\""
    );
    let shell = [&namespace[..], &["sh", "-c", &script, "sh"]].concat();
    let options = [&shell[..], &CHAIN, &LOOPBACK, &["--p2p.static", &address]].concat();
    let mut node = Node::spawn("unshare", &options, Stdio::null());
    node.logs(&["WARN", "peer.test"]);
    // In place: the name is bound, not the directory.
    fs::write(&hosts, "127.0.0.1 localhost peer.test\n").unwrap();
    let met = node.event("peer_connected");
    assert!(address.ends_with(met["peer"].as_str().unwrap()));
    peer.stop();
    node.stop();
}

/// A resolver that is written into /etc/resolv.conf while the node runs. The port of a resolver is fixed, so the test runs
/// itself once more in a network namespace of its own; where the system allows none, there is nothing to see.
#[cfg(target_os = "linux")]
#[test]
fn a_resolver_that_is_configured_later_is_asked() {
    const RESOLV_CONF: &str = "P2P_NODE_TEST_RESOLV_CONF";
    if let Ok(resolver) = std::env::var(RESOLV_CONF) {
        return ask_a_resolver_that_is_configured_later(&resolver);
    }
    let namespace = ["--user", "--map-root-user", "--mount", "--net"];
    let up = ["ip", "link", "set", "lo", "up"];
    if !Command::new("unshare").args(namespace).args(up).status().is_ok_and(|status| status.success()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let resolver = folder.path().join("resolv.conf").to_str().unwrap().to_owned();
    fs::write(&resolver, "nameserver 127.0.0.2\noptions timeout:1 attempts:1\n").unwrap();
    let script = format!("mount --bind {resolver} /etc/resolv.conf && ip link set lo up && exec \"$@\"");
    let inside = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "addresses::a_resolver_that_is_configured_later_is_asked", "--nocapture"])
        .env(RESOLV_CONF, &resolver)
        .status();
    assert!(inside.unwrap().success());
}

#[cfg(target_os = "linux")]
fn ask_a_resolver_that_is_configured_later(resolver: &str) {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || answer_names(&socket));
    let mut peer = Node::run(&[]);
    let address =
        peer.started()["listen"][0].as_str().unwrap().replace("/ip4/127.0.0.1/", "/dns4/peer.test/");
    let mut node = Node::run(&["--p2p.static", &address]);
    node.logs(&["WARN", "peer.test"]);
    fs::write(resolver, "nameserver 127.0.0.1\n").unwrap();
    let met = node.event("peer_connected");
    assert!(address.ends_with(met["peer"].as_str().unwrap()));
    peer.stop();
    node.stop();
}

/// Answers each question for a name (RFC 1035) with 127.0.0.1.
#[cfg(target_os = "linux")]
fn answer_names(socket: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((len, asker)) = socket.recv_from(&mut question) {
        // The header, the name as far as its last label, which is empty, type and class.
        let name = question[12..len].iter().position(|byte| *byte == 0).unwrap();
        let mut answer = question[..12 + name + 5].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
        socket.send_to(&answer, asker).unwrap();
    }
}

#[test]
fn lists_of_peers_take_commas_and_nothing() {
    let mut first = Node::run(&[]);
    let address = first.started()["listen"][0].as_str().unwrap().to_owned();
    let lists = ["--p2p.static", &format!(" ,{address},, "), "--p2p.static", "", "--p2p.bootnodes", " ,"];
    let mut second = Node::run(&lists);
    let met = second.event("peer_connected");
    assert!(address.ends_with(met["peer"].as_str().unwrap()));
    first.stop();
    second.stop();

    let chain = [&CHAIN[..], &LOOPBACK].concat();
    let peers = format!("{address},10.0.0.7:9222");
    let bad = [&chain[..], &["--p2p.static", &peers]].concat();
    expect(2, &bad, &["--p2p.static <MULTIADDR>", "`10.0.0.7:9222`", "/ip4/10.0.0.7/tcp/9222"]);
    expect(2, &[&chain[..], &["--p2p.bootnodes", "x,"]].concat(), &["--p2p.bootnodes <NODE>", "`x`"]);
    let rate = [&chain[..], &["--p2p.rate-limit", "12D3=1"]].concat();
    expect(2, &rate, &["--p2p.rate-limit <PEER=N/S>", "`12D3=1`", "N requests in S seconds"]);
}

/// One list of static peers for all nodes of an operator, of which one has a new key.
#[test]
fn a_static_peer_that_is_the_node_itself_or_has_another_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let key = ["--p2p.priv.path", path.to_str().unwrap()];
    let mut node = Node::run(&key);
    let own = node.started()["peer"].as_str().unwrap().to_owned();
    node.stop();

    let mut peer = Node::run(&[]);
    let address = peer.started()["listen"][0].as_str().unwrap().to_owned();
    let (at, found) = address.split_once("/p2p/").unwrap();
    let before = Keypair::generate_ed25519().public().to_peer_id().to_string();
    let list = format!("/ip4/127.0.0.1/tcp/1/p2p/{own},{at}/p2p/{before}");
    let node = Node::run(&[&key[..], &["--p2p.static", &list]].concat());
    node.logs(&["WARN", "this node itself", &own]);
    node.logs(&["WARN", "another key", &before, found]);
    node.stop();
    peer.stop();
}

#[test]
fn an_address_that_cannot_be_bound_names_option_value_reason_and_remedy() {
    let chain = [&CHAIN[..], &["--p2p.listen.ip", "127.0.0.1"]].concat();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let in_use = ["Address already in use (os error 98)", "stop it, or choose another port"];
    let option = format!("--p2p.listen.tcp {port}");
    expect(
        1,
        &[&chain[..], &["--p2p.listen.tcp", &port]].concat(),
        &[&[option.as_str()], &in_use[..]].concat(),
    );

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port().to_string();
    for listen in ["--p2p.listen.udp", "--p2p.listen.quic"] {
        let option = format!("{listen} {port}");
        let options = ["--p2p.listen.tcp", "0", listen, &port];
        expect(1, &[&chain[..], &options].concat(), &[&[option.as_str()], &in_use[..]].concat());
    }

    #[cfg(target_os = "linux")]
    expect_without_rights(
        1,
        &[&chain[..], &["--p2p.listen.tcp", "80"]].concat(),
        &["--p2p.listen.tcp 80", "Permission denied (os error 13)", "a port from 1024 on"],
    );

    let elsewhere = [&CHAIN[..], &["--p2p.listen.ip", "192.0.2.1", "--p2p.listen.tcp", "0"]].concat();
    expect(
        1,
        &elsewhere,
        &["--p2p.listen.ip", "192.0.2.1", "Cannot assign requested address", "of this host"],
    );

    for option in ["--status.addr", "--metrics.addr"] {
        let port = tcp.local_addr().unwrap().to_string();
        let options = [&chain[..], &["--p2p.listen.tcp", "0", option, &port]].concat();
        expect(1, &options, &[&[option, &port], &in_use[..]].concat());
    }
}
