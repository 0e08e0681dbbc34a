//! `ocf:storhaug:vip`: a virtual address, which a client keeps while the node
//! behind it changes.
//!
//! The address is looked at and changed over rtnetlink, so that a monitor is
//! one process and no more. What is sent to the neighbours is in
//! [`crate::announce`]; what makes the clients reconnect is the work of
//! `storhaug-noded` ([`crate::daemon`]), which is told of every start and stop
//! and never waited for longer than it helps.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::errno::Errno;

use crate::addresses::{Address, Link, Network, NewAddress, width};
use crate::announce::announce_on;
use crate::daemon::{self, Daemon};
use crate::deadline::until;
use crate::ocf::{
    Agent, Code, Ctx, Failure, Kind, Level, Metadata, Op, Param, Params, Reload, State,
};

pub mod duplicate;
mod place;

/// The address.
pub const IP: Param = Param {
    name: "ip",
    kind: Kind::String,
    required: true,
    unique_group: Some("address"),
    reload: Reload::Restart,
    default: None,
    shortdesc: "IPv4 or IPv6 address",
    longdesc: "The virtual address, for example 192.0.2.10 or 2001:db8::10, without a prefix.",
};

/// The length of its network's prefix.
pub const CIDR_NETMASK: Param = Param {
    name: "cidr_netmask",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Prefix length",
    longdesc: "The length of the network's prefix in bits, for example 24, or for IPv4 also the \
               mask, for example 255.255.255.0. Left out, it is that of the network which the \
               interface is in already.",
};

/// The interface.
pub const NIC: Param = Param {
    name: "nic",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Network interface",
    longdesc: "The interface that carries the address, by its name or one of its alternative \
               names: an Ethernet interface, a VLAN, a bond. Left out, it is on each node the one \
               with an address or a route in the network of the virtual address.",
};

/// For how long new connections may come from the address.
pub const PREFERRED_LFT: Param = Param {
    name: "preferred_lft",
    kind: Kind::String,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: None,
    shortdesc: "Preferred lifetime in seconds, or forever",
    longdesc: "For how many seconds the node may choose the address as the source of connections \
               that it makes itself, or forever. With 0 it never does, and still answers at the \
               address. Left out, it is forever for IPv4, where the node's first address is \
               preferred anyway, and 0 for IPv6, where nothing else would keep the node's own \
               connections from moving away with the address.",
};

/// Whether IPv6 skips duplicate address detection.
pub const NODAD: Param = Param {
    name: "nodad",
    kind: Kind::Boolean,
    required: false,
    unique_group: None,
    reload: Reload::Restart,
    default: Some("true"),
    shortdesc: "IPv6: usable at once",
    longdesc: "Whether an IPv6 address is usable at once. With false the start waits until the \
               kernel's duplicate address detection is through, about a second.",
};

/// Whether the network is asked before a start.
pub const DUPLICATE_CHECK: Param = Param {
    name: "duplicate_check",
    kind: Kind::Boolean,
    required: false,
    unique_group: None,
    reload: Reload::Agent,
    default: Some("false"),
    shortdesc: "Ask for another holder before a start",
    longdesc: "Whether a start first asks the network, for 0.3 seconds, if another host has the \
               address, and fails if one answers. A monitor of depth 10 asks in any case.",
};

/// Whether clients are made to reconnect.
pub const TICKLE: Param = Param {
    name: "tickle",
    kind: Kind::Boolean,
    required: false,
    unique_group: None,
    reload: Reload::Agent,
    default: Some("true"),
    shortdesc: "Make clients reconnect",
    longdesc: "Whether, after a start, storhaug-noded makes the clients that were connected to \
               the address on another node notice at once that they have to connect again.",
};

/// How long a monitor waits for the daemon.
const HOLD: Duration = Duration::from_millis(50);

/// How long a start or a stop waits for the daemon. It answers within
/// milliseconds, and with tens of thousands of clients within two seconds.
const ROUND: Duration = Duration::from_secs(5);

/// How often it is looked whether the kernel has come to an end.
const LOOK: Duration = Duration::from_millis(20);

/// A virtual address.
#[derive(Debug)]
pub struct Vip {
    ip: IpAddr,
    /// Whatever else was configured. A stop needs none of it, so that nothing
    /// wrong with it can keep an address from being removed.
    settings: Result<Settings, Failure>,
}

#[derive(Debug)]
struct Settings {
    prefix: Option<u8>,
    nic: Option<String>,
    preferred: Option<u32>,
    nodad: bool,
    duplicate_check: bool,
    tickle: bool,
}

impl Agent for Vip {
    const METADATA: Metadata = Metadata {
        name: "vip",
        shortdesc: "Virtual IPv4 or IPv6 address",
        longdesc: "Brings up an address, tells the neighbours, and has the clients of the address \
                   reconnect to this node at once. Notices when the address, its interface or \
                   the carrier is gone, and, at depth 10, when a host outside of the cluster \
                   answers for the address. A stop removes the address wherever on the node it is, and no other: for \
                   this it sets promote_secondaries on an interface where the address is the first \
                   of several in its network.",
        parameters: &[
            IP,
            CIDR_NETMASK,
            NIC,
            PREFERRED_LFT,
            NODAD,
            DUPLICATE_CHECK,
            TICKLE,
        ],
        actions: &[
            Op::once("start", 20),
            Op::once("stop", 20),
            Op::monitor(0, 10, 20),
            Op::monitor(10, 60, 20),
            Op::once("reload-agent", 20),
        ],
    };

    fn from_env(params: &Params) -> Result<Self, Failure> {
        let text = params.required(&IP)?;
        let ip = address(text).map_err(|reason| {
            Failure::configured(format_args!("parameter ip: {text:?}: {reason}"))
        })?;
        let settings = Settings::read(params, ip);
        Ok(Self { ip, settings })
    }

    fn validate(&self, ctx: &Ctx) -> Result<(), Failure> {
        let settings = self.settings()?;
        if ctx.depth >= 10 {
            self.place(&mut Network::open()?, settings)?;
        }
        Ok(())
    }

    fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        let settings = self.settings()?;
        let mut network = Network::open()?;
        let place = self.place(&mut network, settings)?;
        works(&place.link)?;

        let held = network.holding(self.ip)?;
        let (right, wrong): (Vec<_>, Vec<_>) = held.iter().partition(|address| {
            address.index == place.link.index
                && address.prefix == place.prefix
                && !address.dad_failed()
        });
        for address in wrong {
            let what = self.described(&mut network, address);
            ctx.log(
                Level::Warning,
                &format!("removing {what}, where it does not belong"),
            );
            remove(&mut network, ctx, address)?;
        }
        let added = right.is_empty();
        if added {
            if settings.duplicate_check {
                self.alone(&mut network, &place.link, ctx)?;
            }
            network
                .add(&NewAddress {
                    ip: self.ip,
                    prefix: place.prefix,
                    index: place.link.index,
                    nodad: settings.nodad,
                    preferred: settings.preferred,
                })
                .map_err(|error| self.refused(&place, error))?;
        }
        if self.ip.is_ipv6() {
            self.detected(&mut network, &place.link, ctx)?;
        }
        self.announce(&place.link, ctx);

        let daemon = daemon(ctx);
        let nic = &place.link.name;
        let told = daemon
            .hold(self.ip, ctx.deadline.earlier(ROUND))
            .and_then(|()| {
                if added && settings.tickle {
                    let clients = daemon.tickle(self.ip, nic, ctx.deadline.earlier(ROUND))?;
                    let news = format!("{} is up on {nic}, {clients} clients told", self.ip);
                    ctx.log(Level::Info, &news);
                }
                Ok(())
            });
        if let Err(error) = told {
            let warning = format!("the clients of {} were not told: {error:#}", self.ip);
            ctx.log(Level::Warning, &warning);
        }
        Ok(())
    }

    fn stop(&self, ctx: &Ctx) -> Result<(), Failure> {
        let mut network = Network::open()?;
        let what = format!("the removal of {}", self.ip);
        until(ctx.deadline, LOOK, &what, || {
            for address in network.holding(self.ip)? {
                remove(&mut network, ctx, &address)?;
            }
            Ok(network.holding(self.ip)?.is_empty().then_some(()))
        })?;
        // Also when there was nothing to remove: an earlier stop may have been
        // killed between the one and the other.
        if let Err(error) = daemon(ctx).release(self.ip, ctx.deadline.earlier(ROUND)) {
            let warning = format!(
                "the connections to {} were not released: {error:#}",
                self.ip
            );
            ctx.log(Level::Warning, &warning);
        }
        Ok(())
    }

    fn monitor(&self, ctx: &Ctx) -> Result<State, Failure> {
        let mut network = Network::open()?;
        let link = match &network.holding(self.ip)?[..] {
            [] => return Ok(State::NotRunning),
            [address] => self.well(&mut network, address)?,
            several => {
                let places: Vec<_> = several
                    .iter()
                    .map(|address| self.described(&mut network, address))
                    .collect();
                return Err(
                    anyhow!("the address is there more than once: {}", places.join(", ")).into(),
                );
            }
        };
        if ctx.probe {
            return Ok(State::Running);
        }
        if ctx.depth >= 10
            && let Err(failure) = self.alone(&mut network, &link, ctx)
        {
            // A copy on another node of the cluster is that node's failure: this
            // one must not leave for it. A probe there reports it.
            let known = daemon(ctx).known(self.ip, ctx.deadline.earlier(ROUND));
            let nodes = known.map(|known| known.also_on).unwrap_or_default();
            let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            if names.is_empty() {
                return Err(failure);
            }
            let warning = format!("{} is on {} as well", self.ip, names.join(", "));
            ctx.log(Level::Warning, &warning);
        }
        if daemon(ctx)
            .hold(self.ip, ctx.deadline.earlier(HOLD))
            .is_err()
        {
            // Nobody else repeats the announcement, and the first may have been
            // lost. What is wrong with the daemon its own monitor says.
            self.announce(&link, ctx);
        }
        Ok(State::Running)
    }

    /// The parameters that can change while the address is up matter at the
    /// next start only.
    fn reload_agent(&self, _: &Ctx) -> Result<(), Failure> {
        self.settings().map(drop)
    }
}

impl Vip {
    fn settings(&self) -> Result<&Settings, Failure> {
        self.settings
            .as_ref()
            .map_err(|failure| Failure::new(failure.code, anyhow!("{:#}", failure.error)))
    }

    fn place(&self, network: &mut Network, settings: &Settings) -> Result<place::Place, Failure> {
        place::find(network, self.ip, settings.nic.as_deref(), settings.prefix)
    }

    /// The address is where it belongs, usable, on an interface that works.
    fn well(&self, network: &mut Network, address: &Address) -> Result<Link, Failure> {
        let link = network
            .link(address.index)?
            .ok_or_else(|| anyhow!("the interface of {} is gone", self.ip))?;
        // Whatever is wrong with the settings, the address is there.
        let settings = self.settings().map_err(|failure| failure.error)?;
        if let Some(nic) = &settings.nic
            && !link.called(nic)
        {
            return Err(anyhow!("{} is on {}, not on {nic}", self.ip, link.name).into());
        }
        if let Some(prefix) = settings.prefix
            && prefix != address.prefix
        {
            let error = anyhow!(
                "{} has the prefix /{}, not /{prefix}",
                self.ip,
                address.prefix
            );
            return Err(error.into());
        }
        if address.dad_failed() {
            return Err(self.unusable(&link).into());
        }
        works(&link)?;
        Ok(link)
    }

    /// Nobody else answers for the address.
    fn alone(&self, network: &mut Network, link: &Link, ctx: &Ctx) -> Result<(), Failure> {
        let own = network.links()?;
        match duplicate::holder(link, &own, self.ip, ctx.deadline)? {
            None => Ok(()),
            Some(mac) => Err(anyhow!(
                "another host on {} has {} as well: {}",
                link.name,
                self.ip,
                duplicate::written(mac)
            )
            .into()),
        }
    }

    /// Waits until the kernel has found the new address to be no duplicate,
    /// which it has at once unless it was asked to look.
    fn detected(&self, network: &mut Network, link: &Link, ctx: &Ctx) -> Result<(), Failure> {
        let what = format!("the duplicate address detection of {}", self.ip);
        until(ctx.deadline, LOOK, &what, || {
            let held = network.holding(self.ip)?;
            if let Some(address) = held.iter().find(|address| address.dad_failed()) {
                remove(network, ctx, address)?;
                return Err(self.unusable(link));
            }
            if held.is_empty() {
                return Err(anyhow!("{} was removed by somebody else", self.ip));
            }
            Ok((!held.iter().any(Address::tentative)).then_some(()))
        })?;
        Ok(())
    }

    fn unusable(&self, link: &Link) -> anyhow::Error {
        anyhow!(
            "another host on {} has {} as well: duplicate address detection failed",
            link.name,
            self.ip
        )
    }

    fn announce(&self, link: &Link, ctx: &Ctx) {
        if let Err(error) = announce_on(link, self.ip) {
            let warning = format!("announcing {} on {}: {error:#}", self.ip, link.name);
            ctx.log(Level::Warning, &warning);
        }
    }

    fn refused(&self, place: &place::Place, error: Errno) -> Failure {
        let code = if error == Errno::EPERM {
            Code::ErrPerm
        } else {
            Code::ErrGeneric
        };
        let advice = if error == Errno::EACCES {
            ", is IPv6 switched off there (disable_ipv6)?"
        } else {
            ""
        };
        let place::Place { link, prefix } = place;
        let error = anyhow!(error).context(format!(
            "adding {}/{prefix} to {}{advice}",
            self.ip, link.name
        ));
        Failure::new(code, error)
    }

    fn described(&self, network: &mut Network, address: &Address) -> String {
        let link = network.link(address.index).ok().flatten();
        let nic = link.map_or_else(|| format!("interface {}", address.index), |link| link.name);
        format!("{}/{} on {nic}", self.ip, address.prefix)
    }
}

impl Settings {
    fn read(params: &Params, ip: IpAddr) -> Result<Self, Failure> {
        let nic = params.get(&NIC).map(str::to_owned);
        if let IpAddr::V6(ip) = ip
            && ip.is_unicast_link_local()
            && nic.is_none()
        {
            return Err(Failure::configured(format_args!(
                "parameter nic: {ip} is a link-local address, which every interface could have"
            )));
        }
        Ok(Self {
            prefix: params
                .get(&CIDR_NETMASK)
                .map(|text| prefix(text, ip).ok_or_else(|| unlike(&CIDR_NETMASK, text, ip)))
                .transpose()?,
            nic,
            preferred: match params.get(&PREFERRED_LFT) {
                None if ip.is_ipv6() => Some(0),
                None | Some("forever") => None,
                Some(text) => Some(text.parse().map_err(|_| unlike(&PREFERRED_LFT, text, ip))?),
            },
            nodad: params.boolean(&NODAD)?,
            duplicate_check: params.boolean(&DUPLICATE_CHECK)?,
            tickle: params.boolean(&TICKLE)?,
        })
    }
}

fn unlike(param: &Param, text: &str, ip: IpAddr) -> Failure {
    let name = param.name;
    let reason = match name {
        "cidr_netmask" => format!("write a number from 1 to {}", width(ip)),
        _ => "write a number of seconds, or forever".to_owned(),
    };
    Failure::configured(format_args!("parameter {name}: {text:?}: {reason}"))
}

/// Reads an address that a single host can have.
fn address(text: &str) -> Result<IpAddr, &'static str> {
    let ip: IpAddr = text
        .parse()
        .map_err(|_| "write an address such as 192.0.2.10 or 2001:db8::10, without a prefix")?;
    let mapped = match ip {
        IpAddr::V4(ip) if ip.is_broadcast() => return Err("this is the broadcast address"),
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
    };
    match ip {
        _ if mapped.is_some() => Err("write the IPv4 address as such"),
        ip if ip.is_unspecified() => Err("this address is no host's"),
        ip if ip.is_multicast() => Err("this is a multicast address"),
        ip => Ok(ip),
    }
}

/// Reads the length of a prefix, or an IPv4 mask.
fn prefix(text: &str, ip: IpAddr) -> Option<u8> {
    let length = match (text.parse::<u8>(), ip) {
        (Ok(length), _) => length,
        (Err(_), IpAddr::V4(_)) => {
            let mask = text.parse::<Ipv4Addr>().ok()?.to_bits();
            let length = mask.leading_ones();
            (mask.count_ones() == length).then_some(u8::try_from(length).ok()?)?
        }
        (Err(_), IpAddr::V6(_)) => return None,
    };
    (1..=width(ip)).contains(&length).then_some(length)
}

/// Packets can go through the interface.
fn works(link: &Link) -> anyhow::Result<()> {
    match (link.up(), link.carrier()) {
        (false, _) => Err(anyhow!("{} is down: bring it up", link.name)),
        (true, false) => Err(anyhow!("{} has no carrier: look at its cable", link.name)),
        (true, true) => Ok(()),
    }
}

fn daemon(ctx: &Ctx) -> Daemon {
    Daemon::new(ctx.path(daemon::SOCKET))
}

/// Removes an address, and leaves every other one where it is.
///
/// The first IPv4 address of a network takes the others of this network on the
/// interface along, unless the interface says that one of them shall take its
/// place. It is made to say so; where that cannot be, the others are added again.
fn remove(network: &mut Network, ctx: &Ctx, address: &Address) -> anyhow::Result<()> {
    let mut others = Vec::new();
    if address.ip.is_ipv4() && !address.secondary() {
        others = network.addresses()?;
        others.retain(|other| {
            other.secondary()
                && (other.index, other.prefix) == (address.index, address.prefix)
                && other.network_contains(address.ip)
        });
    }
    if !others.is_empty()
        && let Some(link) = network.link(address.index)?
        && let Err(error) = promote_secondaries(&link, ctx)
    {
        ctx.log(Level::Warning, &format!("{error:#}"));
    }
    network
        .remove(address)
        .with_context(|| format!("removing {}/{}", address.ip, address.prefix))?;
    if others.is_empty() {
        return Ok(());
    }
    let left = network.addresses()?;
    let lost = |other: &&Address| {
        !left
            .iter()
            .any(|address| (address.index, address.ip) == (other.index, other.ip))
    };
    for other in others.iter().filter(lost) {
        if let Err(error) = network.restore(other) {
            let loss = format!("{} was lost with {}: {error}", other.ip, address.ip);
            ctx.log(Level::Error, &loss);
        }
    }
    Ok(())
}

/// Lets a secondary address take the place of the primary one that goes
/// (Documentation/networking/ip-sysctl.rst, `promote_secondaries`).
fn promote_secondaries(link: &Link, ctx: &Ctx) -> anyhow::Result<()> {
    let path = ctx.path(format!(
        "/proc/sys/net/ipv4/conf/{}/promote_secondaries",
        link.name
    ));
    fs::write(&path, "1").with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let four = IpAddr::from([10, 0, 0, 1]);
        let six = "fd00::1".parse().unwrap();
        for (text, ip, expected) in [
            ("24", four, Some(24)),
            ("1", four, Some(1)),
            ("32", four, Some(32)),
            ("33", four, None),
            ("0", four, None),
            ("-1", four, None),
            ("", four, None),
            ("255.255.255.0", four, Some(24)),
            ("255.255.255.255", four, Some(32)),
            ("255.0.255.0", four, None),
            ("0.0.0.0", four, None),
            ("64", six, Some(64)),
            ("128", six, Some(128)),
            ("129", six, None),
            ("255.255.255.0", six, None),
        ] {
            assert_eq!(prefix(text, ip), expected, "{text} for {ip}");
        }
    }

    #[test]
    fn addresses_of_a_single_host() {
        for good in ["10.0.0.1", "2001:db8::1", "fe80::1", "127.0.0.2"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.1/24",
            "10.0.0",
            "010.0.0.1",
            "host",
            "fe80::1%eth0",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:10.0.0.1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
