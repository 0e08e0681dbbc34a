//! `storhaug-noded` on nodes in network namespaces, with a real Corosync and
//! real clients. What it does is seen by the clients, and by who asks it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use net::{Net, end, ip, soon, wait};
use storhaug_agents::daemon::{Moved, Node, Reason, Vip};

mod net;

const V4: &str = "10.99.0.100/24";
const V6: &str = "fd99::100/64";

/// Long enough to see that something does not happen: several lists, and the
/// first two rounds of tickles.
const WHILE: Duration = Duration::from_secs(2);

/// Generous: a machine with two busy cores runs three clusters.
const ROUNDS: Duration = Duration::from_secs(8);

fn vip(address: &str) -> IpAddr {
    ip(address)
}

#[test]
fn clients_waiting_for_a_crashed_node_are_reset_by_the_next() {
    let mut net = Net::cluster(2);
    let (first, second) = (&net.nodes[0], &net.nodes[1]);
    for address in [V4, V6] {
        assert_eq!(first.take_over(address), 0);
    }
    // One listens as IPv4 and IPv6 each, the other as IPv6 alone, with v4-mapped
    // sockets for IPv4, as smbd and Ganesha do.
    let listeners = [
        first.listen("10.99.0.100:445"),
        first.listen("[fd99::100]:445"),
        first.listen("[::]:2049"),
    ];
    let mut clients = net.client.connect("10.99.0.100:445", 20);
    clients.extend(net.client.connect("10.99.0.100:2049", 20));
    second.until_known(vip(V4), 40);
    clients.extend(net.client.connect("[fd99::100]:445", 20));
    clients.extend(net.client.connect("[fd99::100]:2049", 20));
    second.until_known(vip(V6), 40);
    let known = second.known(vip(V6));
    assert_eq!(
        known.holder.map(|holder| holder.name),
        Some("node1".to_owned())
    );

    net.crash(1);
    let second = &net.nodes[1];
    for address in [V4, V6] {
        assert_eq!(second.take_over(address), 40);
    }
    for client in &mut clients {
        assert_eq!(end(client, ROUNDS), Some(ErrorKind::ConnectionReset));
    }
    drop(listeners);
}

#[test]
fn clients_behind_a_firewall_are_reset_as_well() {
    let mut net = Net::cluster(2);
    net.client.guard();
    for address in [V4, V6] {
        net.nodes[0].take_over(address);
    }
    let _listeners = ["10.99.0.100:445", "[fd99::100]:445"].map(|at| net.nodes[0].listen(at));
    let mut clients = net.client.connect("10.99.0.100:445", 40);
    clients.extend(net.client.connect("[fd99::100]:445", 40));
    for address in [V4, V6] {
        net.nodes[1].until_known(vip(address), 40);
    }
    net.crash(1);
    for address in [V4, V6] {
        assert_eq!(net.nodes[1].take_over(address), 40);
    }
    // A single variant would reach one in four.
    for client in &mut clients {
        assert_eq!(end(client, ROUNDS), Some(ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_client_whose_reset_was_lost_is_reset_in_the_next_round() {
    let mut net = Net::cluster(2);
    net.nodes[0].take_over(V4);
    let _listener = net.nodes[0].listen("10.99.0.100:445");
    let mut clients = net.client.connect("10.99.0.100:445", 1);
    net.nodes[1].until_known(vip(V4), 1);
    net.crash(1);
    // The first, of 40 bytes. A socket answers tickles that follow closely once.
    net.client
        .filter("tcp flags & rst == rst quota until 40 bytes counter drop");
    net.nodes[1].take_over(V4);
    assert_eq!(
        end(&mut clients[0], ROUNDS),
        Some(ErrorKind::ConnectionReset)
    );
    let lost = net.client.command("nft list table inet guard");
    assert!(lost.contains("packets 1 "), "{lost}");
}

#[test]
fn without_a_tickle_a_client_waits_for_ever() {
    let mut net = Net::cluster(2);
    net.nodes[0].take_over(V4);
    let _listener = net.nodes[0].listen("10.99.0.100:445");
    let mut client = net.client.connect("10.99.0.100:445", 1);
    net.nodes[1].until_known(vip(V4), 1);
    net.crash(1);
    net.nodes[1].add(V4);
    assert_eq!(end(&mut client[0], WHILE), None);
}

#[test]
fn a_planned_move_leaves_nothing_behind() {
    let net = Net::cluster(2);
    let (first, second) = (&net.nodes[0], &net.nodes[1]);
    first.take_over(V4);
    let _listener = first.listen("[::]:445");
    let mut clients = net.client.connect("10.99.0.100:445", 30);

    // At once: the last connections need no time to be learnt.
    first.remove(V4);
    assert_eq!(first.daemon().release(vip(V4), soon()).unwrap(), 30);
    assert_eq!(first.sockets("src 10.99.0.100"), 0);
    assert_eq!(
        (second.known(vip(V4)).clients, second.known(vip(V4)).holder),
        (30, None)
    );

    assert_eq!(second.take_over(V4), 30);
    for client in &mut clients {
        assert_eq!(end(client, ROUNDS), Some(ErrorKind::ConnectionReset));
    }
}

#[test]
fn an_address_that_is_still_there_keeps_its_sockets() {
    let net = Net::cluster(1);
    let node = &net.nodes[0];
    node.take_over(V4);
    let _listener = node.listen("10.99.0.100:445");
    let mut clients = net.client.connect("10.99.0.100:445", 1);
    let error = node.daemon().release(vip(V4), soon()).unwrap_err();
    assert!(
        format!("{error:#}").contains("still on this node"),
        "{error:#}"
    );
    assert_eq!(end(&mut clients[0], Duration::from_millis(200)), None);
}

/// A cluster's record in which the second node is in standby.
const STANDBY: &str = r#"<cib><configuration><nodes><node id="2" uname="node2">
    <instance_attributes id="a"><nvpair id="b" name="standby" value="on"/></instance_attributes>
    </node></nodes><resources><primitive id="vip"><instance_attributes id="c">
    <nvpair id="d" name="ip" value="10.99.0.100"/></instance_attributes></primitive></resources>
    </configuration></cib>"#;

#[test]
fn every_node_knows_when_why_and_how_long_an_address_was_away() {
    let mut net = Net::cluster(3);
    net.nodes[0].take_over(V4);
    let _listener = net.nodes[0].listen("10.99.0.100:445");
    let _clients = net.client.connect("10.99.0.100:445", 20);
    net.nodes[1].until_known(vip(V4), 20);
    // Both have heard of the first.
    net.nodes[2].until_known(vip(V4), 20);

    let began = Instant::now();
    net.crash(1);
    for node in &net.nodes[1..] {
        node.until_status("node1 to be missed", |status| {
            status.quorate && status.group.len() == 2
        });
        node.fenced(&[1]);
    }
    assert_eq!(net.nodes[1].take_over(V4), 20);
    let away = began.elapsed();
    for node in &net.nodes[1..] {
        let status = node.until_status("the reason and the answers", |status| {
            let vip = &status.vips[0];
            let told = vip.tickled.as_ref().and_then(|tickled| tickled.answered);
            told == Some(20) && moved(vip).is_some_and(|m| m.reason == Reason::Fenced)
        });
        let vip = &status.vips[0];
        let moved = moved(vip).unwrap();
        assert_eq!((moved.from.id, moved.to.id), (1, 2));
        // Heard of for the last time up to a second before the crash, or more
        // on a busy machine, and not after it.
        let told = Duration::from_millis(moved.away_ms.unwrap());
        assert!(told < away + ROUNDS, "{told:?} of {away:?}");
        assert!(told > Duration::from_secs(1), "{told:?}: a token's timeout");
        let tickled = vip.tickled.as_ref().unwrap();
        assert!(tickled.packets < 3 * 4 * 20, "all of them in each round");
    }

    net.nodes[1].record(STANDBY);
    net.nodes[1].remove(V4);
    let began = Instant::now();
    net.nodes[1].daemon().release(vip(V4), soon()).unwrap();
    net.nodes[2].take_over(V4);
    let away = began.elapsed();
    let last = |node: &net::Host| {
        let status = node.until_status("the reason", |status| {
            moved(&status.vips[0]).is_some_and(|moved| moved.reason == Reason::Standby)
        });
        moved(&status.vips[0]).unwrap().clone()
    };
    let told = last(&net.nodes[2]);
    assert_eq!((told.from.id, told.to.id), (2, 3));
    assert!(
        told.away_ms.unwrap() <= away.as_millis() as u64,
        "{told:?}, {away:?}"
    );

    // One who was not there is told.
    net.nodes[1].kill_noded();
    net.nodes[1].start_noded();
    net.until_complete();
    assert_eq!(last(&net.nodes[1]), told);
}

fn moved(vip: &Vip) -> Option<&Moved> {
    vip.moved.as_ref()
}

#[test]
fn two_crashes_one_after_the_other_reset_everybody() {
    let mut net = Net::cluster(3);
    net.nodes[0].take_over(V4);
    let _first = net.nodes[0].listen("10.99.0.100:445");
    let mut early = net.client.connect("10.99.0.100:445", 10);
    net.nodes[1].until_known(vip(V4), 10);
    net.nodes[2].until_known(vip(V4), 10);

    net.crash(1);
    assert_eq!(net.nodes[1].take_over(V4), 10);
    for client in &mut early {
        assert_eq!(end(client, ROUNDS), Some(ErrorKind::ConnectionReset));
    }
    let _second = net.nodes[1].listen("10.99.0.100:445");
    let mut late = net.client.connect("10.99.0.100:445", 10);
    net.nodes[2].until_known(vip(V4), 20);

    net.crash(2);
    assert_eq!(net.nodes[2].take_over(V4), 20, "the earlier ones as well");
    for client in &mut late {
        assert_eq!(end(client, ROUNDS), Some(ErrorKind::ConnectionReset));
    }
}

#[test]
fn connections_come_and_go_and_survive_every_daemon() {
    let mut net = Net::cluster(2);
    net.nodes[0].take_over(V4);
    let listener = net.nodes[0].listen("10.99.0.100:445");
    let mut clients = net.client.connect("10.99.0.100:445", 1000);
    net.nodes[1].until_known(vip(V4), 1000);

    // One end closes, and the other: the connection is gone.
    for stream in clients.drain(..10) {
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
        drop(listener.accept().unwrap());
    }
    net.nodes[1].until_known(vip(V4), 990);

    for number in [1, 0] {
        net.nodes[number].kill_noded();
        net.nodes[number].start_noded();
        net.until_complete();
        for node in &net.nodes {
            node.until_known(vip(V4), 990);
            wait("the address to be held by node1", || {
                node.known(vip(V4)).holder.filter(|holder| holder.id == 1)
            });
        }
    }

    net.nodes[0].kill_corosync();
    net.nodes[0].until_status("Corosync to be missed", |status| status.node.is_none());
    clients.extend(net.client.connect("10.99.0.100:445", 5));
    net.nodes[0].until_known(vip(V4), 995);
    net.nodes[0].start_corosync();
    net.until_complete();
    net.nodes[1].until_known(vip(V4), 995);
}

#[test]
fn sockets_to_a_node_that_was_fenced_are_destroyed_and_no_others() {
    let mut net = Net::cluster(3);
    let _listeners = [
        net.nodes[1].listen("10.99.0.2:49152"),
        net.nodes[2].listen("[::]:49152"),
    ];
    let mut to_third = net.nodes[0].connect("10.99.0.3:49152", 3);
    let mut to_second = net.nodes[0].connect("10.99.0.2:49152", 1);
    // From the node that will be isolated.
    let mut from_third = net.nodes[2].connect("10.99.0.2:49152", 1);

    // Whatever the isolated node believes, it destroys nothing.
    net.nodes[2].fenced(&[1, 2]);
    net.cut(3);
    for node in [0, 1] {
        net.nodes[node].until_status("node3 to be missed", |status| {
            status.quorate && status.group.len() == 2
        });
    }
    net.nodes[2].until_status("quorum to be lost", |status| !status.quorate);
    assert_eq!(
        end(&mut to_third[0], WHILE),
        None,
        "cut off, but not known to be dead"
    );
    assert_eq!(end(&mut from_third[0], Duration::from_millis(100)), None);

    net.nodes[0].fenced(&[3]);
    let fenced = Instant::now();
    for socket in &mut to_third {
        assert_eq!(end(socket, ROUNDS), Some(ErrorKind::ConnectionAborted));
    }
    println!(
        "sockets to a fenced node are gone after {:?}",
        fenced.elapsed()
    );
    assert_eq!(end(&mut to_second[0], Duration::from_millis(200)), None);
    assert_eq!(end(&mut from_third[0], Duration::from_millis(100)), None);
    let resets = net.nodes[0]
        .until_status("the reset", |s| !s.resets.is_empty())
        .resets;
    assert_eq!(
        (resets[0].node.name.as_str(), resets[0].sockets),
        ("node3", 3)
    );

    // The other survivor was told to leave them alone.
    let _listener = net.nodes[1].listen("10.99.0.2:2");
    drop(to_second.drain(..));
    net.crash(3);
}

#[test]
fn sockets_to_a_fenced_nodes_storage_network_are_destroyed_as_well() {
    let mut net = Net::cluster(3);
    for (number, node) in net.nodes.iter().enumerate() {
        node.add(&format!("10.98.0.{}/24", number + 1));
    }
    // Not to be touched: it moves.
    net.nodes[2].take_over(V4);
    let _listener = net.nodes[2].listen("[::]:49152");
    let mut storage = net.nodes[0].connect("10.98.0.3:49152", 2);
    let mut vip = net.nodes[0].connect("10.99.0.100:49152", 1);
    assert_eq!(
        end(&mut storage[0], WHILE),
        None,
        "the time to be told of it"
    );
    net.crash(3);
    net.nodes[0].until_status("node3 to be missed", |status| {
        status.quorate && status.group.len() == 2
    });
    net.nodes[0].fenced(&[3]);
    for socket in &mut storage {
        assert_eq!(end(socket, ROUNDS), Some(ErrorKind::ConnectionAborted));
    }
    assert_eq!(end(&mut vip[0], Duration::from_millis(200)), None);
}

#[test]
fn sockets_to_a_node_that_came_back_are_left_alone() {
    let net = Net::cluster(3);
    let _listener = net.nodes[2].listen("10.99.0.3:49152");
    net.cut(3);
    net.nodes[0].until_status("node3 to be missed", |status| {
        status.quorate && status.group.len() == 2
    });
    net.mend(3);
    net.until_complete();
    let mut sockets = net.nodes[0].connect("10.99.0.3:49152", 1);
    // Pacemaker's record lags behind.
    net.nodes[0].fenced(&[3]);
    assert_eq!(end(&mut sockets[0], WHILE), None);
    let status = net.nodes[0].daemon().status(soon()).unwrap();
    assert_eq!(status.resets, []);
}

#[test]
fn dead_peers_are_left_alone_where_that_is_wanted() {
    let mut net = Net::cluster(3);
    let _listener = net.nodes[2].listen("10.99.0.3:49152");
    let mut sockets = net.nodes[0].connect("10.99.0.3:49152", 1);
    net.nodes[0].daemon().configure(false, soon()).unwrap();
    net.crash(3);
    net.nodes[0].fenced(&[3]);
    net.nodes[0].until_status("node3 to be missed", |status| status.group.len() == 2);
    assert_eq!(end(&mut sockets[0], WHILE), None);
    net.nodes[0].daemon().configure(true, soon()).unwrap();
    assert_eq!(
        end(&mut sockets[0], ROUNDS),
        Some(ErrorKind::ConnectionAborted)
    );
}

#[test]
fn nonsense_at_the_door_is_refused_and_harms_nobody() {
    let mut net = Net::new(1);
    net.nodes[0].start_noded();
    let node = &net.nodes[0];
    let socket = node.directory.join("noded.sock");
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // The daemon may have had enough before the end.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let cases: [(&[u8], &str); 8] = [
        (b"", "closed"),
        (b"\n", "version"),
        (b"{}\n", "version"),
        (b"\xff\xfe\x00\n", "version"),
        (b"{\"version\":2,\"body\":{\"status\":{}}}\n", "version 2"),
        (b"{\"version\":1,\"body\":{\"reboot\":{}}}\n", "reboot"),
        (
            b"{\"version\":1,\"body\":{\"hold\":{\"vip\":\"10.0.0.300\"}}}\n",
            "address",
        ),
        (&[b'x'; 100_000], "bytes"),
    ];
    for (question, reason) in cases {
        let answer = ask(question);
        assert!(
            answer.contains("refused") && answer.contains(reason),
            "{reason}: {answer}"
        );
    }
    // So are those who come and say nothing, however many.
    let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket)).collect();
    wait("an answer beside a hundred silent clients", || {
        node.daemon().status(soon()).ok()
    });
    drop(silent);
    node.daemon().status(soon()).unwrap();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_address_that_is_elsewhere_is_neither_held_nor_announced() {
    let net = Net::cluster(2);
    let (first, second) = (&net.nodes[0], &net.nodes[1]);
    first.take_over(V4);
    first.remove(V4);
    // Without a daemon's help, which would tell the first one's.
    second.add(V4);
    let _listener = second.listen("10.99.0.100:445");
    net.client.command("ip neigh flush dev eth0");
    let mut client = net.client.connect("10.99.0.100:445", 1);

    // Not to be believed either: a monitor that was overtaken by the stop.
    let error = first.daemon().hold(vip(V4), soon()).unwrap_err();
    assert!(
        format!("{error:#}").contains("not on this node"),
        "{error:#}"
    );

    // The time of the first one's other rounds.
    assert_eq!(end(&mut client[0], Duration::from_secs(3)), None);
    let link = second.command("ip -br link show dev eth0");
    let mac = link.split_whitespace().nth(2).unwrap();
    let neighbour = net.client.command("ip neigh show to 10.99.0.100");
    assert!(neighbour.contains(mac), "{mac}: {neighbour}");
}

#[test]
fn a_copy_of_an_address_on_another_node_is_known_everywhere() {
    let net = Net::cluster(2);
    net.nodes[0].take_over(V4);
    let _listener = net.nodes[0].listen("10.99.0.100:445");
    let mut client = net.client.connect("10.99.0.100:445", 1);
    net.nodes[1].add(V4);
    for node in &net.nodes {
        let known = wait("the copy to be known", || {
            Some(node.known(vip(V4))).filter(|known| !known.also_on.is_empty())
        });
        let ids = |nodes: &[Node]| nodes.iter().map(|node| node.id).collect::<Vec<_>>();
        assert_eq!(ids(&known.also_on), [2]);
        assert_eq!(known.holder.map(|holder| holder.id), Some(1));
        let status = node.daemon().status(soon()).unwrap();
        assert_eq!(ids(&status.vips[0].also_on), [2]);
    }
    // Who has asked for it and was answered by the copy is told better.
    let mac = |node: &net::Host| {
        let link = node.command("ip -br link show dev eth0");
        link.split_whitespace().nth(2).unwrap().to_owned()
    };
    let (right, wrong) = (mac(&net.nodes[0]), mac(&net.nodes[1]));
    let neighbour = "ip neigh replace 10.99.0.100 dev eth0 nud stale lladdr";
    net.client.command(&format!("{neighbour} {wrong}"));
    wait("the holder to defend its address", || {
        let known = net.client.command("ip neigh show to 10.99.0.100");
        known.contains(&right).then_some(())
    });
    net.nodes[1].remove(V4);
    for node in &net.nodes {
        wait("the copy to be gone", || {
            node.known(vip(V4)).also_on.is_empty().then_some(())
        });
    }
    assert_eq!(end(&mut client[0], Duration::from_millis(100)), None);
}

#[test]
fn an_address_that_moved_without_a_word_leaves_no_sockets() {
    let net = Net::cluster(2);
    net.nodes[0].take_over(V4);
    let _listener = net.nodes[0].listen("10.99.0.100:445");
    let _clients = net.client.connect("10.99.0.100:445", 5);
    net.nodes[1].until_known(vip(V4), 5);
    net.nodes[0].remove(V4);
    net.nodes[1].take_over(V4);
    wait("the old node's sockets to go", || {
        (net.nodes[0].sockets("src 10.99.0.100") == 0).then_some(())
    });
}
