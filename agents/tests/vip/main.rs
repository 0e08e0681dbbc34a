//! `ocf:storhaug:vip` as Pacemaker sees it, in network namespaces. Many of these
//! are what heartbeat's IPaddr2 does not survive.

#![expect(clippy::unwrap_used, reason = "in a test, an error is a panic")]

mod lan;
mod noded;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lan::{Lan, NODE, Vip, address, addresses, mac, minute, neighbour, run, sysctl};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use storhaug_agents::deadline::until;
use storhaug_agents::exec::{Cmd, Host, Runner};

const FOUR: &str = "10.9.0.100";
const SIX: &str = "fd09::100";

/// The addresses that the node has with these beside its own.
fn with(more: &[&str]) -> BTreeSet<String> {
    NODE.iter()
        .chain(more)
        .map(|&text| text.to_owned())
        .collect()
}

#[test]
fn ipv4_comes_and_goes() {
    let _lan = Lan::new();
    let vip = Vip::new(FOUR);
    vip.probe().not_running();
    vip.start().ok();
    assert_eq!(addresses(), with(&["eth0 10.9.0.100/24"]));
    assert_eq!(address(FOUR)["broadcast"], "10.9.0.255");
    vip.probe().ok();
    vip.monitor().ok();
    vip.deep_monitor().ok();
    vip.start().ok();
    assert_eq!(addresses(), with(&["eth0 10.9.0.100/24"]));
    vip.stop().ok();
    assert_eq!(addresses(), with(&[]));
    vip.monitor().not_running();
    vip.stop().ok();
}

#[test]
fn ipv6_comes_at_once_and_is_nobodys_source() {
    let _lan = Lan::new();
    let vip = Vip::new(SIX);
    vip.probe().not_running();
    vip.start().ok();
    assert_eq!(addresses(), with(&["eth0 fd09::100/64"]));
    let found = address(SIX);
    assert_eq!(found["tentative"], serde_json::Value::Null, "{found}");
    assert_eq!(found["nodad"], true, "{found}");
    assert_eq!(found["preferred_life_time"], 0, "{found}");
    let route = run("ip -j route get fd09::2");
    assert!(route.contains(r#""prefsrc":"fd09::1""#), "{route}");
    vip.monitor().ok();
    vip.deep_monitor().ok();
    vip.start().ok();
    vip.stop().ok();
    vip.stop().ok();
    assert_eq!(addresses(), with(&[]));
}

#[test]
fn a_preferred_ipv6_address_is_one() {
    let _lan = Lan::new();
    let vip = Vip::new(SIX).with("OCF_RESKEY_preferred_lft", "forever");
    vip.start().ok();
    assert_eq!(address(SIX)["preferred_life_time"], u32::MAX);
}

#[test]
fn a_stop_removes_the_address_whatever_its_mask() {
    let _lan = Lan::new();
    for (ip, other) in [(FOUR, "10.9.0.100/32"), (SIX, "fd09::100/80")] {
        run(&format!("ip addr add {other} dev eth0"));
        let prefix = if ip == FOUR { "24" } else { "64" };
        let vip = Vip::new(ip).with("OCF_RESKEY_cidr_netmask", prefix);
        vip.monitor().fails(1, &[ip, "not /"]);
        vip.probe().fails(1, &[ip, "not /"]);
        vip.stop().ok();
        assert_eq!(addresses(), with(&[]));
    }
}

#[test]
fn a_stop_needs_no_route_and_no_link() {
    let _lan = Lan::new();
    let vip = Vip::new(FOUR);
    vip.start().ok();
    run("ip link set eth0 down");
    vip.monitor().fails(1, &["eth0 is down"]);
    vip.probe().fails(1, &["eth0 is down"]);
    run("ip addr del 10.9.0.1/24 dev eth0");
    vip.stop().ok();
    assert_eq!(addresses(), BTreeSet::new());
    vip.start().fails(1, &["set `nic` and `cidr_netmask`"]);
}

#[test]
fn a_stop_finds_the_address_on_any_interface() {
    let _lan = Lan::new();
    run("ip link add other type veth peer name end");
    for nic in ["eth0", "other"] {
        run(&format!("ip addr add 10.9.0.100/24 dev {nic}"));
    }
    let vip = Vip::new(FOUR).with("OCF_RESKEY_nic", "gone0");
    vip.monitor().fails(1, &["more than once", "other", "eth0"]);
    vip.stop().ok();
    assert_eq!(addresses(), with(&[]));
    vip.probe().not_running();
}

#[test]
fn a_renamed_interface_is_seen_and_left() {
    let _lan = Lan::new();
    let vip = Vip::new(FOUR).with("OCF_RESKEY_nic", "eth0");
    vip.start().ok();
    run("ip link set eth0 down");
    run("ip link set eth0 name lan0.7");
    run("ip link set lan0.7 up");
    vip.monitor().fails(1, &["is on lan0.7, not on eth0"]);
    vip.stop().ok();
    assert!(!addresses().contains("lan0.7 10.9.0.100/24"));
}

/// Neither the routes nor the source of the node's own connections change.
#[test]
fn the_nodes_own_traffic_goes_as_before() {
    let _lan = Lan::new();
    let routes = |family: &str| run(&format!("ip {family} route show table main"));
    for (family, ip, peer) in [("-4", FOUR, "10.9.0.2"), ("-6", SIX, "fd09::2")] {
        run(&format!("ip {family} route add default via {peer}"));
        let before = routes(family);
        let source = run(&format!("ip {family} route get {peer}"));
        let vip = Vip::new(ip);
        vip.start().ok();
        assert_eq!(run(&format!("ip {family} route get {peer}")), source);
        vip.stop().ok();
        assert_eq!(routes(family), before);
    }
}

/// Whatever else is wrong, the address is what a stop looks for.
#[test]
fn a_stop_takes_no_offence_at_other_parameters() {
    let _lan = Lan::new();
    run("ip addr add 10.9.0.100/24 dev eth0");
    let vip = Vip::new(FOUR)
        .with("OCF_RESKEY_cidr_netmask", "many")
        .with("OCF_RESKEY_tickle", "perhaps");
    vip.call("validate-all", &[])
        .fails(6, &["cidr_netmask", "1 to 32"]);
    vip.probe().fails(1, &["cidr_netmask"]);
    vip.stop().ok();
    assert_eq!(addresses(), with(&[]));
    vip.probe().not_running();
}

#[test]
fn a_missing_carrier_is_a_failure_and_not_a_clean_stop() {
    let lan = Lan::new();
    let vip = Vip::new(FOUR);
    vip.start().ok();
    lan.at_peer(|| run("ip link set eth0 down"));
    vip.monitor().fails(1, &["eth0 has no carrier"]);
    vip.stop().ok();
    vip.start().fails(1, &["eth0 has no carrier"]);
    assert_eq!(addresses(), with(&[]));
}

#[test]
fn an_interface_goes_by_all_its_names() {
    let _lan = Lan::new();
    let long = "enp0s31f6-behind-the-green-door";
    run(&format!(
        "ip link property add dev eth0 altname front altname {long}"
    ));
    for name in ["eth0", "front", long] {
        let vip = Vip::new(FOUR).with("OCF_RESKEY_nic", name);
        vip.start().ok();
        vip.monitor().ok();
        assert_eq!(addresses(), with(&["eth0 10.9.0.100/24"]));
        run("ip link set eth0 down");
        vip.monitor().fails(1, &["eth0 is down"]);
        run("ip link set eth0 up");
        vip.stop().ok();
        // Going down takes the IPv6 addresses along.
        run("ip addr replace fd09::1/64 dev eth0 nodad");
    }
}

#[test]
fn a_wrong_mask_is_corrected_at_a_start() {
    let _lan = Lan::new();
    for (ip, wrong, right) in [
        (FOUR, "10.9.0.100/32", "eth0 10.9.0.100/24"),
        (SIX, "fd09::100/128", "eth0 fd09::100/64"),
    ] {
        run(&format!("ip addr add {wrong} dev eth0"));
        let vip = Vip::new(ip);
        vip.start().ok();
        assert_eq!(addresses(), with(&[right]));
        vip.stop().ok();
    }
}

#[test]
fn a_mask_may_be_a_number_or_dotted_and_need_not_be_the_networks() {
    let _lan = Lan::new();
    for (mask, expected) in [("255.255.255.128", 25), ("32", 32)] {
        let vip = Vip::new(FOUR).with("OCF_RESKEY_cidr_netmask", mask);
        vip.start().ok();
        assert_eq!(address(FOUR)["prefixlen"], expected);
        vip.monitor().ok();
        vip.stop().ok();
    }
}

/// A prefix of 2 is not one of 24, and the other end of a point-to-point link
/// is not an address of ours.
#[test]
fn only_the_address_itself_counts() {
    let _lan = Lan::new();
    run("ip addr add 10.9.7.1 peer 10.9.0.100/32 dev eth0");
    let vip = Vip::new(FOUR);
    vip.probe().not_running();
    vip.stop().ok();
    assert!(addresses().contains("eth0 10.9.7.1/32"));
    run("ip addr add 10.9.0.200/24 dev eth0");
    Vip::new("10.9.0.20").probe().not_running();
    let narrow = Vip::new("10.9.0.200").with("OCF_RESKEY_cidr_netmask", "2");
    narrow.monitor().fails(1, &["/24, not /2"]);
}

#[test]
fn a_route_says_where_an_address_belongs() {
    let _lan = Lan::new();
    run("ip route add 192.0.2.0/25 dev eth0");
    let vip = Vip::new("192.0.2.9");
    vip.start().ok();
    assert!(addresses().contains("eth0 192.0.2.9/25"));
    vip.stop().ok();
    run("ip route add 198.51.100.0/24 via 10.9.0.2");
    let beyond = Vip::new("198.51.100.9");
    beyond.start().fails(1, &["198.51.100.9", "set `nic`"]);
    beyond.probe().not_running();
}

#[test]
fn the_narrowest_network_wins() {
    let _lan = Lan::new();
    run("ip link add wide type veth peer name end");
    run("ip link set wide up");
    run("ip link set end up");
    run("ip addr add 10.9.200.1/16 dev wide");
    for (ip, expected) in [
        (FOUR, "eth0 10.9.0.100/24"),
        ("10.9.1.100", "wide 10.9.1.100/16"),
    ] {
        Vip::new(ip).start().ok();
        assert!(addresses().contains(expected));
    }
}

/// With `promote_secondaries` off, the kernel removes all addresses of a
/// network with the first of it.
#[test]
fn the_first_address_of_a_network_goes_alone() {
    let _lan = Lan::new();
    sysctl("ipv4", "promote_secondaries", "0");
    for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let vip = Vip::new(ip)
            .with("OCF_RESKEY_nic", "eth0")
            .with("OCF_RESKEY_cidr_netmask", "24");
        vip.start().ok();
    }
    Vip::new("192.0.2.1").stop().ok();
    assert_eq!(
        addresses(),
        with(&["eth0 192.0.2.2/24", "eth0 192.0.2.3/24"])
    );
    Vip::new("192.0.2.3").monitor().ok();
}

/// The same where the switch cannot be thrown, as in some containers.
#[test]
fn the_others_come_back_where_the_kernel_drops_them() {
    let _lan = Lan::new();
    let switch = Path::new("/proc/sys/net/ipv4/conf/eth0/promote_secondaries");
    fs::write(switch, "0").unwrap();
    let nothing = None::<&str>;
    mount(
        Some("/dev/null"),
        switch,
        nothing,
        MsFlags::MS_BIND,
        nothing,
    )
    .unwrap();
    for ip in ["192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"] {
        run(&format!("ip addr add {ip} brd + dev eth0 label eth0:x"));
    }
    let before = address("192.0.2.3");
    Vip::new("192.0.2.1").stop().ok();
    assert_eq!(
        addresses(),
        with(&["eth0 192.0.2.2/24", "eth0 192.0.2.3/24"])
    );
    assert_eq!(address("192.0.2.3"), before);
}

#[test]
fn sixteen_addresses_come_and_go_side_by_side() {
    let _lan = Lan::new();
    let vips: Vec<_> = (0..8)
        .flat_map(|n| [format!("10.9.0.{}", 100 + n), format!("fd09::{}", 100 + n)])
        .map(|ip| Vip::new(&ip))
        .collect();
    let all = |action: &str| {
        std::thread::scope(|scope| {
            let calls: Vec<_> = vips
                .iter()
                .map(|vip| scope.spawn(|| vip.call(action, &[]).ok()))
                .collect();
            for call in calls {
                call.join().unwrap();
            }
        });
    };
    all("start");
    assert_eq!(addresses().len(), 18);
    all("monitor");
    all("stop");
    assert_eq!(addresses(), with(&[]));
}

#[test]
fn the_neighbours_are_told_of_an_ipv4_address() {
    let lan = Lan::new();
    let capture = lan.capture();
    lan.at_peer(|| run("ip neigh add 10.9.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud stale"));
    Vip::new(FOUR).start().ok();

    let ip: &[u8] = &[10, 9, 0, 100];
    let arp: (usize, &[u8]) = (12, &[8, 6]);
    let sent_by_node = |frame: &[u8]| frame[6..12].to_vec();
    let request = capture.find(&[(0, &[0xff; 6]), arp, (20, &[0, 1]), (28, ip), (38, ip)]);
    let reply = capture.find(&[(0, &[0xff; 6]), arp, (20, &[0, 2]), (28, ip), (38, ip)]);
    assert_eq!(sent_by_node(&request), sent_by_node(&reply));
    let node = mac();
    lan.at_peer(|| assert_eq!(neighbour(FOUR), node));
}

#[test]
fn the_neighbours_are_told_of_an_ipv6_address() {
    let lan = Lan::new();
    let capture = lan.capture();
    lan.at_peer(|| run("ip neigh add fd09::100 lladdr 02:00:00:00:00:99 dev eth0 nud stale"));
    Vip::new(SIX).start().ok();

    let ip = SIX.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let advertisement = capture.find(&[(12, &[0x86, 0xdd]), (54, &[136]), (62, &ip)]);
    assert_eq!(advertisement[21], 255, "hop limit");
    assert_eq!(advertisement[58], 0x20, "override, and nothing else");
    let node = mac();
    lan.at_peer(|| {
        until(
            minute(),
            Duration::from_millis(10),
            "the neighbour's belief",
            || Ok((neighbour(SIX) == node).then_some(())),
        )
        .unwrap();
    });
}

#[test]
fn a_duplicate_is_found_before_a_start_and_at_depth_10() {
    let lan = Lan::new();
    let other = lan.at_peer(mac);
    for (ip, length) in [(FOUR, 24), (SIX, 64)] {
        let vip = Vip::new(ip).with("OCF_RESKEY_duplicate_check", "true");
        vip.start().ok();
        vip.deep_monitor().ok();
        lan.at_peer(|| run(&format!("ip addr add {ip}/{length} dev eth0 nodad")));
        vip.monitor().ok();
        vip.deep_monitor().fails(1, &[ip, "another host", &other]);
        vip.stop().ok();
        vip.start().fails(1, &[ip, "another host", &other]);
        assert_eq!(addresses(), with(&[]));
        // Without the check it is the cluster that knows best.
        Vip::new(ip).start().ok();
        vip.stop().ok();
    }
}

/// Linux answers for an address on every interface, not only on its own.
#[test]
fn a_second_interface_in_the_same_network_is_no_other_host() {
    let lan = Lan::new();
    lan.wire("eth1");
    run("ip addr add 10.9.0.3/24 dev eth1");
    lan.at_peer(|| {
        run("ip link add br0 type bridge");
        run("ip link set br0 up");
        run("ip link set eth0 master br0");
        run("ip link set eth1 master br0");
    });
    let vip = Vip::new(FOUR).with("OCF_RESKEY_nic", "eth0");
    vip.start().ok();
    vip.deep_monitor().ok();
}

#[test]
fn the_kernels_own_detection_is_waited_for() {
    let lan = Lan::new();
    let vip = Vip::new(SIX).with("OCF_RESKEY_nodad", "false");
    vip.start().ok();
    assert_eq!(address(SIX)["tentative"], serde_json::Value::Null);
    vip.monitor().ok();
    vip.stop().ok();
    lan.at_peer(|| run("ip addr add fd09::100/64 dev eth0 nodad"));
    vip.start()
        .fails(1, &[SIX, "duplicate address detection failed"]);
    assert_eq!(addresses(), with(&[]));
}

#[test]
fn an_address_that_failed_detection_is_not_well() {
    let lan = Lan::new();
    lan.at_peer(|| run("ip addr add fd09::100/64 dev eth0 nodad"));
    run("ip addr add fd09::100/64 dev eth0");
    until(
        minute(),
        Duration::from_millis(20),
        "the kernel's verdict",
        || Ok((address(SIX)["dadfailed"] == true).then_some(())),
    )
    .unwrap();
    let vip = Vip::new(SIX);
    vip.monitor()
        .fails(1, &["duplicate address detection failed"]);
    lan.at_peer(|| run("ip addr del fd09::100/64 dev eth0"));
    vip.start().ok();
    vip.monitor().ok();
}

#[test]
fn a_node_that_lacks_things_is_one_where_it_does_not_run() {
    let _lan = Lan::new();
    let elsewhere = Vip::new(FOUR).with("OCF_RESKEY_nic", "bond7");
    elsewhere.probe().not_running();
    elsewhere.stop().ok();
    elsewhere.call("validate-all", &[]).ok();
    let deep = [("OCF_CHECK_LEVEL", "10")];
    elsewhere.call("validate-all", &deep).fails(2, &["bond7"]);
    elsewhere.start().fails(2, &["bond7"]);

    for bad in ["", "10.9.0.100/24", "nowhere"] {
        let vip = Vip::new(bad);
        vip.call("validate-all", &[]).fails(6, &["parameter ip"]);
        vip.start().fails(6, &["parameter ip"]);
        assert_eq!(vip.probe().code, 7);
        assert_eq!(vip.stop().code, 0);
    }
    let local = Vip::new("fe80::100");
    local.call("validate-all", &[]).fails(6, &["parameter nic"]);
}

#[test]
fn ipv6_that_is_switched_off_is_said_to_be() {
    let _lan = Lan::new();
    sysctl("ipv6", "disable_ipv6", "1");
    let vip = Vip::new(SIX)
        .with("OCF_RESKEY_nic", "eth0")
        .with("OCF_RESKEY_cidr_netmask", "64");
    vip.start()
        .fails(1, &["adding fd09::100/64 to eth0", "disable_ipv6"]);
    vip.probe().not_running();
}

#[test]
fn a_change_of_the_tickle_needs_no_restart() {
    let _lan = Lan::new();
    let vip = Vip::new(FOUR);
    vip.start().ok();
    let vip = vip.with("OCF_RESKEY_tickle", "false");
    vip.call("reload-agent", &[]).ok();
    vip.monitor().ok();
}

/// The loopback interface has no neighbours.
#[test]
fn an_address_may_be_on_the_loopback_interface() {
    let _lan = Lan::new();
    let vip = Vip::new("192.0.2.80")
        .with("OCF_RESKEY_nic", "lo")
        .with("OCF_RESKEY_cidr_netmask", "32");
    vip.start().ok();
    vip.monitor().ok();
    vip.deep_monitor().ok();
    vip.stop().ok();
    vip.probe().not_running();
}

#[test]
fn ocf_tester_is_content() {
    let _lan = Lan::new();
    for ip in [FOUR, SIX] {
        let agent = env!("CARGO_BIN_EXE_vip");
        let said = run(&format!("ocf-tester -n vip1 -o ip={ip} {agent}"));
        assert!(said.ends_with("passed all tests\n"), "{said}");
        assert_eq!(addresses(), with(&[]));
    }
}

/// A system call that does not return: here because the kernel's switch is a
/// pipe that nobody reads. What is left of the timeout is enough for a reason.
#[test]
fn a_stuck_action_leaves_a_reason_before_its_timeout() {
    let _lan = Lan::new();
    let pipe = Path::new("/run/pipe");
    mkfifo(pipe, Mode::S_IRWXU).unwrap();
    let switch = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries";
    let nothing = None::<&str>;
    mount(Some(pipe), switch, nothing, MsFlags::MS_BIND, nothing).unwrap();
    for ip in ["192.0.2.1/24", "192.0.2.2/24"] {
        run(&format!("ip addr add {ip} dev eth0"));
    }
    let began = Instant::now();
    let timeout = ("OCF_RESKEY_CRM_meta_timeout", "3000");
    let stop = Vip::new("192.0.2.1").call("stop", &[timeout]);
    stop.fails(1, &["stop is stuck", "3s"]);
    // Without the watchdog it is the test that gives up, after a minute.
    assert!(began.elapsed() < Duration::from_secs(30), "{stop:?}");
}

/// It is done for every address every ten seconds.
#[test]
fn a_monitor_is_one_process() {
    let _lan = Lan::new();
    let vip = Vip::new(FOUR);
    vip.start().ok();
    let trace = Path::new("/run/trace");
    let cmd = Cmd::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=execve,fork,vfork,clone,clone3",
            "-o",
        ])
        .arg(trace)
        .args([env!("CARGO_BIN_EXE_vip"), "monitor"])
        .env("OCF_RESKEY_ip", FOUR)
        .env("OCF_RESKEY_CRM_meta_interval", "10000");
    Host.run(&cmd, minute()).unwrap().checked().unwrap();
    let trace = fs::read_to_string(trace).unwrap();
    let calls = |name: &str| trace.lines().filter(|line| line.contains(name)).count();
    assert_eq!(calls("execve("), 1, "{trace}");
    assert_eq!(calls("fork("), 0, "{trace}");
    // The watchdog's thread.
    assert_eq!(calls("clone"), calls("CLONE_THREAD"), "{trace}");
}
