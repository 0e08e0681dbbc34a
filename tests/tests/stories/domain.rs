//! The cluster as a member of a domain, of which a controller runs on the client
//! host.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use storhaug_lab::{Machine, wait};

use crate::cluster::Cluster;

/// Where the controller has all that is its own.
const CONTROLLER: &str = "/var/lib/controller";
/// It takes ten seconds on a machine that has nothing else to do.
const PROVISIONED: Duration = Duration::from_secs(300);
/// A controller, or a domain's members, that have just been started.
const READY: Duration = Duration::from_secs(60);
const ADMINISTRATOR: &str = "Passw0rd.lab";
const ALICE: &str = "Passw0rd.alice";
/// What makes the nodes members, and a share for one of the domain's users.
const MEMBER: &str = "
[global]
    server role = member server
    security = ads
    realm = LAB.EXAMPLE
    workgroup = LAB
    idmap config * : backend = autorid
    idmap config * : range = 100000-1999999

[staff]
    path = /run/storhaug/share/staff
    read only = no
    valid users = LAB\\alice
    vfs objects = fileid
    fileid:algorithm = fsname
";

/// The cluster joins a domain as one machine. A user of the domain writes through
/// every address, is the same user to every node, and writes on when a node is
/// lost.
pub fn member(c: &Cluster) -> Result<()> {
    let client = c.lab.client();
    let controller = IpAddr::V4(c.lab.facts().address(client.name())?);
    provision(&client, controller)?;
    let (first, directory) = (c.first(), "/run/storhaug/share/staff");
    c.run(first, &format!("mkdir -p -m 0777 {directory}"))?;
    let role = "--meta -p target-role -v Stopped";
    for clone in ["smbd-clone", "winbindd-clone"] {
        c.run(first, &format!("crm_resource -r {clone} {role}"))?;
    }
    c.until(60, "Samba's daemons are down", || {
        let view = c.lab.view()?;
        Ok(view.running("smbd").is_empty() && view.running("winbindd").is_empty())
    })?;
    let conf = c.run(first, "cat /etc/samba/smb.conf")? + MEMBER;
    for node in &c.nodes {
        let node = c.lab.node(node);
        let resolve = format!("nameserver {controller}\nsearch lab.example\n");
        node.write("/etc/resolv.conf", resolve.as_bytes(), 0o644)?;
        node.write("/etc/samba/smb.conf", conf.as_bytes(), 0o644)?;
        let switch = node.run(["cat", "/etc/nsswitch.conf"])?;
        let switch = switch.replace("passwd: files", "passwd: files winbind");
        let switch = switch.replace("group: files", "group: files winbind");
        node.write("/etc/nsswitch.conf", switch.as_bytes(), 0o644)?;
    }
    let administrator = credentials("Administrator", ADMINISTRATOR);
    let node = c.lab.node(first);
    node.write("/root/administrator", administrator.as_bytes(), 0o600)?;
    wait::until_true("the domain takes the cluster", READY, || {
        let join = "net ads join -A /root/administrator --no-dns-updates";
        c.run(first, join).map(|_| true)
    })?;
    for clone in ["winbindd-clone", "smbd-clone"] {
        c.run(
            first,
            &format!("crm_resource -r {clone} --meta -d target-role"),
        )?;
    }
    c.settled()?;
    for node in &c.nodes {
        wait::until_true("the domain trusts the node", READY, || {
            c.succeeds(node, "wbinfo --check-secret")
        })?;
    }

    client.write("/root/alice", credentials("alice", ALICE).as_bytes(), 0o600)?;
    for vip in &c.vips {
        write(&client, *vip, &vip.to_string())?;
    }
    let mut owners = Vec::new();
    for node in &c.nodes {
        let files = format!("find {directory} -type f -printf %u:%U:%f\\n");
        owners.push(c.run(node, &files)?);
    }
    let lines = owners[0].lines().filter(|line| line.contains("alice"));
    ensure!(lines.count() == c.vips.len(), "written: {}", owners[0]);
    ensure!(
        owners.iter().all(|seen| sorted(seen) == sorted(&owners[0])),
        "{owners:?}"
    );

    let vip = c.vips[0];
    let holder = c.holder(vip)?;
    c.lab.crash(&holder)?;
    c.until(60, "the address is on a survivor", || c.left(vip, &holder))?;
    wait::until_true("alice writes again", READY, || {
        write(&client, vip, "after").map(|()| true)
    })?;
    c.settled()?;
    client.run(["pkill", "-x", "samba"])?;
    Ok(())
}

/// Makes a domain on the client host, and a user of it.
fn provision(client: &Machine, controller: IpAddr) -> Result<()> {
    client.run(["rm", "-rf", CONTROLLER])?;
    client.run(["mkdir", "-p", CONTROLLER])?;
    let address = format!("--host-ip={controller}");
    let target = format!("--targetdir={CONTROLLER}");
    let password = format!("--adminpass={ADMINISTRATOR}");
    let provision = [
        "samba-tool",
        "domain",
        "provision",
        "--realm=LAB.EXAMPLE",
        "--domain=LAB",
        "--server-role=dc",
        "--dns-backend=SAMBA_INTERNAL",
        "--host-name=controller",
        "--configfile=/dev/null",
        &password,
        &address,
        &target,
    ];
    client.command(provision)?.limit(PROVISIONED).run()?;
    let conf = format!("{CONTROLLER}/etc/smb.conf");
    let local = format!("--configfile={conf}");
    client.run(["samba-tool", "user", "create", "alice", ALICE, &local])?;
    client.run(["samba", "--daemon", &local]).map(drop)
}

/// Alice writes a file through an address.
fn write(client: &Machine, vip: IpAddr, file: &str) -> Result<()> {
    let (vip, put) = (vip.to_string(), format!("put /etc/hostname {file}"));
    let argv = [
        "smbclient",
        "-A",
        "/root/alice",
        "-m",
        "SMB3",
        "-I",
        &vip,
        "//storhaug/staff",
        "-c",
        &put,
    ];
    let limit = Duration::from_secs(20);
    let said = client.command(argv)?.limit(limit).run();
    said.map(drop).with_context(|| format!("through {vip}"))
}

/// A file of credentials as Samba's programs read it.
fn credentials(user: &str, password: &str) -> String {
    format!("username = {user}\npassword = {password}\ndomain = LAB\n")
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    lines
}
