//! On which interface of this node an address belongs, and with which prefix.

use std::cmp::Reverse;
use std::net::IpAddr;

use anyhow::anyhow;

use crate::addresses::{Address, Link, Network, width};
use crate::ocf::{Code, Failure};

/// Where an address belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The interface.
    pub link: Link,
    /// The length of the network's prefix, in bits.
    pub prefix: u8,
}

/// Finds the place of `ip`.
///
/// Where the administrator left the interface or the prefix out, both come from
/// the network that this node is in already: from its addresses first, because
/// they stay when a link goes down and takes its routes along, then from a
/// route that needs no router.
///
/// # Errors
/// The interface does not exist, with [`Code::ErrArgs`], or nothing tells where
/// the address belongs.
pub fn find(
    network: &mut Network,
    ip: IpAddr,
    nic: Option<&str>,
    prefix: Option<u8>,
) -> Result<Place, Failure> {
    let links = network.links()?;
    let named = match nic {
        Some(nic) => {
            let link = links.iter().find(|link| link.called(nic));
            Some(link.ok_or_else(|| {
                let error = anyhow!("no interface of this node is called {nic}: correct `nic`");
                Failure::new(Code::ErrArgs, error)
            })?)
        }
        None => None,
    };
    if let (Some(link), Some(prefix)) = (named, prefix) {
        let link = link.clone();
        return Ok(Place { link, prefix });
    }
    let addresses = network.addresses()?;
    let found = match connected(&addresses, &links, ip, named) {
        Some(found) => Some(found),
        None => network
            .route(ip)?
            .filter(|route| !route.gateway && named.is_none_or(|link| link.index == route.index))
            .and_then(|route| {
                let link = links.iter().find(|link| link.index == route.index)?;
                Some((link, route.prefix))
            }),
    };
    let Some((link, derived)) = found else {
        let error = match named {
            Some(link) => anyhow!(
                "{} has no address in the network of {ip}: set `cidr_netmask`",
                link.name
            ),
            None => anyhow!(
                "no interface of this node has an address in the network of {ip}: \
                 set `nic` and `cidr_netmask`"
            ),
        };
        return Err(Failure::new(Code::ErrGeneric, error));
    };
    let link = link.clone();
    let prefix = prefix.unwrap_or(derived);
    Ok(Place { link, prefix })
}

/// The interface with another address in the network of `ip`. The narrowest
/// network wins, as it does in routing; then the interface that works.
fn connected<'a>(
    addresses: &[Address],
    links: &'a [Link],
    ip: IpAddr,
    named: Option<&Link>,
) -> Option<(&'a Link, u8)> {
    addresses
        .iter()
        .filter(|address| address.ip != ip && address.prefix < width(ip))
        .filter(|address| address.network_contains(ip))
        .filter(|address| named.is_none_or(|link| link.index == address.index))
        .filter_map(|address| {
            let link = links.iter().find(|link| link.index == address.index)?;
            Some((link, address.prefix))
        })
        .max_by_key(|(link, prefix)| (*prefix, link.up() && link.carrier(), Reverse(link.index)))
}
