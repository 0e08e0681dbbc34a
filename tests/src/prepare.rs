//! What machines are given before they boot: names, addresses, the password of
//! pcs, the built storhaug, and the configuration that `storhaug setup` reads.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::Cmd;
use crate::fence;
use crate::layout::{Facts, Layout, PREFIX, free_addresses};
use crate::{disk, program};

/// Installing copies a few files.
const INSTALL: Duration = Duration::from_secs(120);
/// How many virtual addresses the configuration on node1 has.
const VIPS: usize = 3;
/// The volume that the configuration on node1 serves.
const SHARE: &str = "share";

/// What the lab adds to the project's smb.conf: everybody may write to the
/// share, because the stories are not about accounts.
const GUESTS: &str = "
[global]
    map to guest = Bad User

[share]
    guest ok = yes
    force user = root
";

/// Accounts are each machine's own; the package with winbind's module for the
/// name service has added it.
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: db files
services: db files
ethers: db files
rpc: db files
";

/// What all machines have in common: a layer under every machine's own.
pub fn common(layout: &Layout, facts: &Facts, source: Option<&Path>) -> Result<()> {
    disk::create(layout, disk::COMMON)?;
    let root = disk::attach(layout, facts, disk::COMMON)?;
    if let Some(source) = source {
        install(source, &root)?;
        put(&root, "etc/samba/smb.conf", 0o644, &smb_conf(source)?)?;
    }
    let password = random(16)?;
    Cmd::new("chroot")
        .arg(root.display().to_string())
        .arg("chpasswd")
        .input(format!("hacluster:{password}\n"))
        .run()?;
    put(
        &root,
        "etc/storhaug/hacluster.password",
        0o600,
        &format!("{password}\n"),
    )?;
    put(&root, "etc/hosts", 0o644, &hosts(facts)?)?;
    put(&root, "etc/nsswitch.conf", 0o644, NSSWITCH)?;
    let agent = program("fence_lab")?;
    let bytes = fs::read(&agent).with_context(|| format!("reading {agent}"))?;
    put_bytes(&root, "usr/sbin/fence_lab", 0o755, &bytes)?;
    disk::detach(layout, disk::COMMON)
}

/// What is a machine's own.
pub fn machine(layout: &Layout, facts: &Facts, name: &str, configured: bool) -> Result<()> {
    disk::create(layout, name)?;
    let root = disk::attach(layout, facts, name)?;
    put(&root, "etc/hostname", 0o644, &format!("{name}\n"))?;
    put(
        &root,
        "etc/machine-id",
        0o444,
        &format!("{}\n", random(16)?),
    )?;
    if configured && name == "node1" {
        put(
            &root,
            "etc/storhaug/storhaug.conf",
            0o644,
            &storhaug_conf(facts)?,
        )?;
    }
    Ok(())
}

/// `make install` of the project, as its user would do it.
fn install(source: &Path, root: &Path) -> Result<()> {
    Cmd::new("make")
        .arg(format!("--directory={}", source.display()))
        .arg("install")
        .arg(format!("DESTDIR={}", root.display()))
        .limit(INSTALL)
        .run()
        .context("installing storhaug; build it first with `make build`")?;
    Ok(())
}

/// Samba merges sections of the same name.
fn smb_conf(source: &Path) -> Result<String> {
    let file = source.join("conf/smb.conf");
    let shipped =
        fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(shipped + GUESTS)
}

/// Names to real addresses: a node whose own name is a loopback address tells
/// that one to its peers.
fn hosts(facts: &Facts) -> Result<String> {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    for name in facts.machine_names() {
        writeln!(text, "{} {name}", facts.address(&name)?)?;
    }
    Ok(text)
}

/// A complete configuration: all nodes, three addresses, SMB, fencing.
fn storhaug_conf(facts: &Facts) -> Result<String> {
    let nodes = facts.node_names();
    let mut text = format!(
        "[cluster]\nname = \"lab\"\nnodes = {nodes:?}\npassword_file = \"/etc/storhaug/hacluster.password\"\n"
    );
    for node in &nodes {
        let address = facts.address(node)?;
        write!(
            text,
            "\n[[node]]\nname = \"{node}\"\naddress = \"{address}\"\n"
        )?;
    }
    text.push_str("\n[storage]\ntype = \"glusterfs\"\nmount_dir = \"/run/storhaug\"\n");
    for vip in free_addresses().take(VIPS) {
        write!(text, "\n[[vip]]\naddress = \"{vip}/{PREFIX}\"\n")?;
    }
    write!(text, "\n[smb]\nvolumes = [\"{SHARE}\"]\n")?;
    write!(
        text,
        "\n[fencing]\nagent = \"fence_lab\"\noptions = {{ socket = \"{}\" }}\n",
        fence::SOCKET
    )?;
    for node in &nodes {
        writeln!(text, "nodes.{node} = {{ plug = \"{node}\" }}")?;
    }
    Ok(text)
}

fn put(root: &Path, file: &str, mode: u32, text: &str) -> Result<()> {
    put_bytes(root, file, mode, text.as_bytes())
}

/// Writes a file below a root, never through a link that leads out of it: the
/// old file goes first.
fn put_bytes(root: &Path, file: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let file = root.join(file);
    let write = || -> std::io::Result<()> {
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir)?;
        }
        if file.symlink_metadata().is_ok() {
            fs::remove_file(&file)?;
        }
        // Readable for nobody else from the first moment.
        fs::write(&file, "")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        fs::write(&file, bytes)
    };
    write().with_context(|| format!("writing {}", file.display()))
}

/// Random bytes, in hexadecimal digits.
fn random(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut buffer))
        .context("reading /dev/urandom")?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn facts() -> Facts {
        Facts {
            nodes: 2,
            spares: 1,
            release: "bookworm".into(),
            image: PathBuf::new(),
        }
    }

    #[test]
    fn the_configuration_names_every_node_once_and_has_fencing() {
        let text = storhaug_conf(&facts()).unwrap();
        assert!(text.contains("nodes = [\"node1\", \"node2\"]"), "{text}");
        assert!(text.contains("address = \"10.77.0.103/24\""), "{text}");
        assert_eq!(text.matches("plug = ").count(), 2, "{text}");
        assert!(!text.contains("node3"), "{text}");
        assert!(text.contains("agent = \"fence_lab\""), "{text}");
    }

    #[test]
    fn no_node_is_known_by_a_loopback_address() {
        let text = hosts(&facts()).unwrap();
        assert!(text.contains("10.77.0.12 node2\n"), "{text}");
        assert!(!text.contains("127.0.1.1"), "{text}");
    }
}
