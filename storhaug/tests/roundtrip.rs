//! Whatever cluster there may be: written down and read again it is the same,
//! in either form, and so it is by way of an import; comments are kept; and no
//! text is too odd to be read.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::Index;
use storhaug::cluster::{
    Cluster, Failover, Fencing, Nfs, Node, Placement, Service, Smb, Storage, Vip,
};
use storhaug::config::edit::Sources;
use storhaug::config::import::{Origin, import};
use storhaug::config::{self, Places, To, canonical, convert, from_toml};
use tempfile::TempDir;

type Options = BTreeMap<String, String>;

/// What a fence agent may be told; nothing that names a password.
fn options() -> impl Strategy<Value = Options> {
    btree_map("[a-z]_[a-z0-9-]{0,6}", "[ -~é€]{0,12}", 0..4)
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[a-z0-9_-]{1,6}(/[a-z0-9_.-]{0,4}[a-z])?".prop_map(PathBuf::from)
}

fn vip_address() -> impl Strategy<Value = (IpAddr, Option<u8>)> {
    let v4 = (0..4_u8, 1..255_u8).prop_map(|(net, host)| Ipv4Addr::new(10, 0, net, host));
    let v6 = (0..4_u16, 1..0xffff_u16)
        .prop_map(|(net, host)| Ipv6Addr::new(0xfd00, 0, 0, net, 0, 0, 0, host));
    prop_oneof![
        (v4, of(Just(24_u8))).prop_map(|(address, prefix)| (IpAddr::V4(address), prefix)),
        (v6, of(1..=128_u8)).prop_map(|(address, prefix)| (IpAddr::V6(address), prefix)),
    ]
}

fn storage() -> impl Strategy<Value = Storage> {
    prop_oneof![
        ("[a-z][a-z0-9.-]{0,8}", path(), of("[!-~]{1,12}")).prop_map(
            |(server, mount_dir, options)| Storage::GlusterFs {
                server,
                mount_dir,
                options
            }
        ),
        path().prop_map(|mount_dir| Storage::Mounted { mount_dir }),
    ]
}

/// Names of nodes, whether each has storage, and the number of its address.
fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let one = (any::<bool>(), any::<bool>());
    btree_map("[a-z][a-z0-9]{0,6}([.-][a-z0-9]{1,4})?", one, 1..7)
        .prop_map(|nodes| nodes.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(|nodes| {
            let nodes = nodes.into_iter().enumerate();
            let mut nodes: Vec<Node> = nodes
                .map(|(index, (name, (storage, addressed)))| Node {
                    name,
                    address: addressed.then(|| format!("10.9.0.{}", index + 1)),
                    storage,
                })
                .collect();
            nodes[0].storage = true;
            nodes
        })
}

prop_compose! {
    /// Any cluster at all.
    fn clusters()(
        name in "[a-z0-9][a-zA-Z0-9._-]{0,12}",
        nodes in nodes(),
        cluster_lock in of("!?/[ -~é]{0,12}"),
        (smb, winbind, netbios) in (of(btree_set("v[a-z0-9_.-]{0,6}", 0..4)), any::<bool>(), any::<bool>()),
        nfs in of(("s[a-z0-9_.-]{0,6}", path())),
        addresses in btree_map(vip_address().prop_map(|(address, _)| address), vip_address(), 1..9),
        vips in vec((of(0..9_u8), of(0..9_u8), vec(any::<Index>(), 0..4), of(any::<bool>())), 9),
        storage in storage(),
        (fast, deterministic) in (any::<bool>(), any::<bool>()),
        password_file in path(),
        (fenced, common, by_node) in (any::<bool>(), options(), of(vec(options(), 7))),
    ) -> Cluster {
        let smb = smb.map(|volumes| Smb { volumes: volumes.into_iter().collect(), winbind, netbios, cluster_lock });
        let nfs = nfs.map(|(state_volume, config)| Nfs { state_volume, config });
        let mut services = BTreeSet::new();
        services.extend(smb.iter().map(|_| Service::Smb));
        services.extend(nfs.iter().map(|_| Service::Nfs));
        let homes: Vec<&str> =
            nodes.iter().filter(|node| node.storage).map(|node| node.name.as_str()).collect();
        let vips = addresses
            .into_iter()
            .zip(vips)
            .enumerate()
            .map(|(index, ((address, (other, prefix)), (named, nic, prefer, service)))| {
                let mut preferred: Vec<String> = Vec::new();
                for home in prefer {
                    let home = home.get(&homes);
                    if !preferred.iter().any(|other| other == home) {
                        preferred.push((*home).to_owned());
                    }
                }
                let one = service.and_then(|first| match first {
                    true => services.first(),
                    false => services.last(),
                });
                Vip {
                    name: match named {
                        Some(number) => format!("n{index}.{number}"),
                        None => Vip::default_name(address),
                    },
                    // A prefix of the address's own family.
                    prefix: prefix.filter(|_| address.is_ipv4() == other.is_ipv4()),
                    address,
                    nic: nic.map(|number| format!("eth{number}")),
                    prefer: preferred,
                    services: one.map_or(services.clone(), |one| [*one].into()),
                }
            })
            .collect();
        let fencing = match fenced {
            false => Fencing::Refused,
            true => Fencing::Device {
                agent: "fence_xvm".into(),
                options: common,
                nodes: by_node.map_or(BTreeMap::new(), |options| {
                    nodes.iter().map(|node| node.name.clone()).zip(options).collect()
                }),
            },
        };
        Cluster {
            name,
            vips,
            storage,
            smb,
            nfs,
            fencing,
            failover: if fast { Failover::Fast } else { Failover::Default },
            placement: if deterministic { Placement::Deterministic } else { Placement::Balanced },
            password_file,
            nodes,
        }
    }
}

/// The same without what `KEY="value"` has no key for.
fn plain(mut cluster: Cluster) -> Cluster {
    for (index, node) in cluster.nodes.iter_mut().enumerate() {
        node.address = None;
        node.name = format!("n{index}-{}", node.name);
    }
    let services = cluster.services();
    let homes: Vec<String> = cluster
        .storage_nodes()
        .map(|node| node.name.clone())
        .collect();
    for (index, vip) in cluster.vips.iter_mut().enumerate() {
        vip.name = Vip::default_name(vip.address);
        vip.nic = None;
        vip.services = services.clone();
        vip.prefer = homes.get(index).cloned().into_iter().collect();
    }
    cluster.failover = Failover::Default;
    if let Storage::Mounted { mount_dir } = &cluster.storage {
        cluster.storage = Storage::GlusterFs {
            server: "localhost".into(),
            mount_dir: mount_dir.clone(),
            options: None,
        };
    }
    if let Storage::GlusterFs { options, .. } = &mut cluster.storage {
        *options = None;
    }
    if let Some(smb) = &mut cluster.smb {
        (smb.winbind, smb.netbios, smb.cluster_lock) = (true, false, None);
    }
    if let Fencing::Device { options, nodes, .. } = &mut cluster.fencing {
        let word = |text: &mut String| text.retain(|c| c.is_alphanumeric());
        options.values_mut().for_each(word);
        let named = cluster.nodes.iter().map(|node| node.name.clone());
        *nodes = named.zip(std::mem::take(nodes).into_values()).collect();
        nodes
            .values_mut()
            .flat_map(BTreeMap::values_mut)
            .for_each(word);
    }
    cluster
}

/// Files of a directory of their own.
struct Files(TempDir);

impl Files {
    fn of(files: &[(&str, &str)]) -> Files {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Files(directory)
    }

    fn places(&self) -> Places {
        Places::File(self.0.path().join("storhaug.conf"))
    }
}

fn read(text: &str) -> Result<Cluster, String> {
    let files = Files::of(&[("storhaug.conf", text)]);
    let loaded = config::load(&files.places()).map_err(|errors| format!("{errors}\nin\n{text}"))?;
    Ok(loaded.cluster)
}

fn converted(text: &str, to: To) -> anyhow::Result<String> {
    let files = Files::of(&[("storhaug.conf", text)]);
    convert(&Sources::find(&files.places())?, to)
}

fn imported(files: &[(&str, &str)]) -> Result<String, String> {
    let files = Files::of(files);
    let origin = Origin::Directory(files.0.path().to_owned());
    import(&origin).map_err(|errors| errors.to_string())
}

/// `text` with a comment above every line and behind some, and how many.
fn remarked(text: &str) -> (String, usize) {
    let mut out = String::new();
    let mut count = 0;
    for line in text.lines() {
        if line.is_empty() {
            out.push('\n');
            continue;
        }
        out += &format!("# remark {count};\n{line}");
        count += 1;
        if count % 3 == 0 {
            out += &format!(" # remark {count};");
            count += 1;
        }
        out.push('\n');
    }
    (out, count)
}

fn has_remarks(text: &str, count: usize) -> Result<(), TestCaseError> {
    for number in 0..count {
        let remark = format!("# remark {number};");
        prop_assert_eq!(text.matches(&remark).count(), 1, "{} in\n{}", remark, text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_is_read_again(cluster in clusters()) {
        let text = canonical(&cluster);
        prop_assert_eq!(&from_toml(Path::new("cib"), &text).unwrap(), &cluster, "{}", text);
    }

    #[test]
    fn the_other_form_means_the_same_or_cannot_say_it(cluster in clusters()) {
        if let Ok(slides) = converted(&canonical(&cluster), To::Slides) {
            prop_assert_eq!(read(&slides), Ok(cluster), "{}", slides);
        }
    }

    #[test]
    fn what_both_forms_can_say_goes_there_and_back(cluster in clusters().prop_map(plain)) {
        let (toml, count) = remarked(&canonical(&cluster));
        let slides = converted(&toml, To::Slides).unwrap();
        prop_assert_eq!(read(&slides), Ok(cluster.clone()), "{}", slides);
        has_remarks(&slides, count)?;
        let toml = converted(&slides, To::Toml).unwrap();
        prop_assert_eq!(read(&toml), Ok(cluster.clone()), "{}", toml);
        has_remarks(&toml, count)?;

        let text = imported(&[("storhaug.conf", &slides)]).unwrap();
        prop_assert_eq!(read(&text), Ok(cluster), "{}", text);
        has_remarks(&text, count)?;
    }

    #[test]
    fn ctdb_s_addresses_are_the_same_afterwards(cluster in clusters().prop_map(plain)) {
        let mut files = [String::new(), String::new(), String::new()];
        for (index, node) in cluster.nodes.iter().enumerate() {
            files[0] += &format!("10.9.0.{}\n", index + 1);
            files[1] += &format!("10.9.0.{} {} other\n", index + 1, node.name);
        }
        for (index, vip) in cluster.vips.iter().enumerate() {
            let prefix = vip.prefix.unwrap_or(if vip.address.is_ipv4() { 24 } else { 64 });
            files[2] += &format!("{}/{prefix} eth{}\n", vip.address, index % 2);
        }
        let [nodes, hosts, public] = &files;
        let open = imported(&[("nodes", nodes), ("public_addresses", public)]).unwrap();
        let named =
            imported(&[("nodes", nodes), ("public_addresses", public), ("hosts", hosts)]).unwrap();
        let mut filled = open;
        for (index, node) in cluster.nodes.iter().enumerate() {
            filled = filled.replace(&format!("<name-of-10.9.0.{}>", index + 1), &node.name);
        }
        for text in [filled, named] {
            let text = text.replace("<volume-of-the-shares>", "vol");
            let text = format!("{text}\n[fencing]\nagent = \"none-i-accept-data-loss\"\n");
            let read = read(&text).unwrap();
            let names = |cluster: &Cluster| -> Vec<String> {
                cluster.nodes.iter().map(|node| node.name.clone()).collect()
            };
            let addresses = |cluster: &Cluster| -> Vec<IpAddr> {
                cluster.vips.iter().map(|vip| vip.address).collect()
            };
            prop_assert_eq!(names(&read), names(&cluster));
            prop_assert_eq!(addresses(&read), addresses(&cluster));
            for (index, vip) in read.vips.iter().enumerate() {
                prop_assert_eq!(vip.nic.as_deref(), Some(["eth0", "eth1"][index % 2]));
            }
            for (index, node) in read.nodes.iter().enumerate() {
                prop_assert_eq!(&node.address, &Some(format!("10.9.0.{}", index + 1)));
            }
        }
    }

    #[test]
    fn whatever_is_imported_is_toml(
        lines in vec(prop_oneof![
            "\\PC{0,40}",
            "[A-Z_]{1,12}=[\"']?[ -~\t]{0,30}[\"']?",
            "(HA_CLUSTER_NODES|STORAGE_NODES|HA_VIP_NODES|HA_NODES)=\"[a-z0-9.,: -]{0,30}\"",
            "(HA_VIPS|VIP_[a-z0-9.-]{1,8})=\"[a-f0-9.:/ ]{0,30}\"",
            "(HA_FENCE_OPTIONS(_[a-z0-9_]{1,4})?|HA_NAME|HA_SERVICES|HA_PASSWORD|HA_VOL_NAME)=\"[ -~]{0,20}\"",
            "CTDB_(MANAGES_(SAMBA|NFS|X)|NODES|PUBLIC_INTERFACE|SET_X|X)=\"?[a-z/0-9 ]{0,12}\"?",
            "[0-9]{1,3}\\.0\\.0\\.[0-9]{1,3}(/[0-9]{0,2})?( [a-z0-9,]{0,8})?",
            "[#;\\[] ?[ -~\u{1}-\u{1f}]{0,20}",
        ], 0..12),
        name in "storhaug\\.conf|nodes|public_addresses|ctdb|ctdb\\.conf|hosts|ganesha-ha\\.conf",
    ) {
        let text = lines.join("\n");
        let more = [(name.as_str(), text.as_str()), ("ctdbd.conf", "CTDB_NODES=/etc/ctdb/nodes\n")];
        if let Ok(text) = imported(&more) {
            let parsed = text.parse::<toml_edit::DocumentMut>();
            prop_assert!(parsed.is_ok(), "{:?}\n{}", parsed.err(), text);
            let _ = read(&text);
        }
    }
}
