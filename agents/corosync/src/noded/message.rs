//! What the daemons tell each other, and its form in bytes.
//!
//! A message is about one virtual address: version, kind, address, body. One
//! other kind, [`Said::Presence`], is about the node that sends it. All numbers are
//! big endian. It is written by root on another node of the cluster,
//! which may run another version, so everything is checked: lengths are
//! bounded, families agree, nothing may follow the end.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail, ensure};
use storhaug_agents::daemon::{Reason, Tickled};

use super::connection::Connection;
use super::table::Move;

/// The version of the form.
const VERSION: u8 = 1;

/// The most connections in one message: 20 kB of IPv6, far below what CPG
/// sends in one piece.
pub const CONNECTIONS_LIMIT: usize = 1000;

const HOLD: u8 = 1;
const RELEASE: u8 = 2;
const UPDATE: u8 = 3;
const ORPHAN: u8 = 4;
const MOVED: u8 = 5;
const CAUSE: u8 = 6;
const TICKLED: u8 = 7;
const PRESENCE: u8 = 8;

/// In a place for a time that is not known.
const NEVER: u64 = u64::MAX;

/// The reasons by the numbers that stand for them.
const REASONS: [Reason; 9] = [
    Reason::Unknown,
    Reason::Fenced,
    Reason::Lost,
    Reason::Stopping,
    Reason::Standby,
    Reason::Failed,
    Reason::Service,
    Reason::Asked,
    Reason::Placed,
];

/// The most addresses of a node that are told.
pub const ADDRESSES_LIMIT: usize = 1000;

/// Anything that is said in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// About one virtual address.
    Message(Message),
    /// The sender is there, and its kernel has these addresses. Said every
    /// second.
    Presence(BTreeSet<IpAddr>),
}

impl Said {
    /// In bytes. Of more addresses than [`ADDRESSES_LIMIT`] the last are left
    /// out.
    pub fn encode(&self) -> Vec<u8> {
        let addresses = match self {
            Self::Message(message) => return message.encode(),
            Self::Presence(addresses) => addresses,
        };
        let mut bytes = vec![VERSION, PRESENCE];
        let count = addresses.len().min(ADDRESSES_LIMIT);
        #[expect(clippy::cast_possible_truncation, reason = "the limit is a thousand")]
        bytes.extend((count as u16).to_be_bytes());
        for address in addresses.iter().take(count) {
            bytes.push(if address.is_ipv4() { 4 } else { 6 });
            put_address(&mut bytes, *address);
        }
        bytes
    }

    /// From bytes. A kind that is not known is said by a daemon that knows
    /// more, and is no error.
    ///
    /// # Errors
    /// They are not what a daemon of this version says.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Heard> {
        let rest = match bytes {
            [VERSION, PRESENCE, rest @ ..] => rest,
            [VERSION, kind, ..] if !(HOLD..=PRESENCE).contains(kind) => {
                return Ok(Heard::Unknown(*kind));
            }
            _ => return Ok(Heard::Said(Self::Message(Message::decode(bytes)?))),
        };
        let mut rest = Bytes(rest);
        let count = usize::from(rest.u16()?);
        ensure!(count <= ADDRESSES_LIMIT, "{count} addresses of a node");
        let mut addresses = BTreeSet::new();
        for _ in 0..count {
            let v4 = rest.family()?;
            addresses.insert(rest.address(v4)?);
        }
        ensure!(rest.0.is_empty(), "{} bytes after the end", rest.0.len());
        Ok(Heard::Said(Self::Presence(addresses)))
    }
}

/// What was read of something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// All of it.
    Said(Said),
    /// Only its kind, by its number, which means nothing to this version.
    Unknown(u8),
}

/// A message about one virtual address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The address.
    pub vip: IpAddr,
    /// What is said of it.
    pub body: Body,
}

/// What is said of a virtual address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The sender holds it, since so many milliseconds after 1970, and another
    /// node did before.
    Hold { since: u64, previous: Option<u32> },
    /// The sender held it, and has sent the last of its connections.
    Release,
    /// Connections at the sender, who holds it.
    Update {
        part: Part,
        added: Vec<Connection>,
        removed: Vec<Connection>,
    },
    /// Nobody holds it; these are the connections that its last holder had.
    Orphan {
        holder: Option<u32>,
        connections: Vec<Connection>,
    },
    /// The last move of it that the sender knows of.
    Moved(Move),
    /// Why it has left the sender.
    Cause(Reason),
    /// What the sender, who holds it, has done about its clients.
    Tickled(Tickled),
}

/// Which part of the sender's connections an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A change to what was said before.
    Change,
    /// All of them follow, starting with these.
    First,
    /// More of all of them.
    Next,
    /// The last of all of them.
    Last,
    /// These are all of them.
    Only,
    /// Connections of an earlier holder, which the sender does not have.
    Inherited,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Change,
        Self::First,
        Self::Next,
        Self::Last,
        Self::Only,
        Self::Inherited,
    ];

    /// Whether what is known so far is to be replaced, beginning here.
    pub fn begins(self) -> bool {
        matches!(self, Self::First | Self::Only)
    }

    /// Whether the replacement is complete with this.
    pub fn ends(self) -> bool {
        matches!(self, Self::Last | Self::Only)
    }
}

impl Message {
    /// In bytes. Lists longer than [`CONNECTIONS_LIMIT`] are the caller's to
    /// split.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.push(match &self.body {
            Body::Hold { .. } => HOLD,
            Body::Release => RELEASE,
            Body::Update { .. } => UPDATE,
            Body::Orphan { .. } => ORPHAN,
            Body::Moved(_) => MOVED,
            Body::Cause(_) => CAUSE,
            Body::Tickled(_) => TICKLED,
        });
        bytes.push(if self.vip.is_ipv4() { 4 } else { 6 });
        put_address(&mut bytes, self.vip);
        match &self.body {
            Body::Hold { since, previous } => {
                bytes.extend(since.to_be_bytes());
                bytes.extend(previous.unwrap_or(0).to_be_bytes());
            }
            Body::Release => {}
            Body::Update {
                part,
                added,
                removed,
            } => {
                bytes.push(*part as u8);
                put_connections(&mut bytes, added);
                put_connections(&mut bytes, removed);
            }
            Body::Orphan {
                holder,
                connections,
            } => {
                bytes.extend(holder.unwrap_or(0).to_be_bytes());
                put_connections(&mut bytes, connections);
            }
            Body::Moved(moved) => {
                bytes.extend(moved.from.to_be_bytes());
                bytes.extend(moved.to.to_be_bytes());
                bytes.extend(moved.at.to_be_bytes());
                bytes.extend(moved.away_ms.unwrap_or(NEVER).to_be_bytes());
                bytes.push(number(moved.reason));
            }
            Body::Cause(reason) => bytes.push(number(*reason)),
            Body::Tickled(tickled) => {
                let answered = tickled.answered.map_or(NEVER, |count| count as u64);
                for value in [
                    tickled.at,
                    tickled.clients as u64,
                    answered,
                    tickled.packets as u64,
                    tickled.first_round_us,
                ] {
                    bytes.extend(value.to_be_bytes());
                }
            }
        }
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut rest = Bytes(bytes);
        let version = rest.u8()?;
        ensure!(version == VERSION, "version {version} instead of {VERSION}");
        let kind = rest.u8()?;
        let v4 = rest.family()?;
        let vip = rest.address(v4)?;
        let body = match kind {
            HOLD => Body::Hold {
                since: rest.u64()?,
                previous: Some(rest.u32()?).filter(|node| *node != 0),
            },
            RELEASE => Body::Release,
            UPDATE => {
                let part = usize::from(rest.u8()?);
                Body::Update {
                    part: *Part::ALL
                        .get(part)
                        .with_context(|| format!("part {part}"))?,
                    added: rest.connections(v4)?,
                    removed: rest.connections(v4)?,
                }
            }
            ORPHAN => Body::Orphan {
                holder: Some(rest.u32()?).filter(|node| *node != 0),
                connections: rest.connections(v4)?,
            },
            MOVED => Body::Moved(Move {
                from: rest.u32()?,
                to: rest.u32()?,
                at: rest.u64()?,
                away_ms: Some(rest.u64()?).filter(|away| *away != NEVER),
                reason: rest.reason()?,
            }),
            CAUSE => Body::Cause(rest.reason()?),
            TICKLED => Body::Tickled(Tickled {
                at: rest.u64()?,
                clients: usize::try_from(rest.u64()?)?,
                answered: match rest.u64()? {
                    NEVER => None,
                    count => Some(usize::try_from(count)?),
                },
                packets: usize::try_from(rest.u64()?)?,
                first_round_us: rest.u64()?,
            }),
            kind => bail!("a message of kind {kind}"),
        };
        ensure!(rest.0.is_empty(), "{} bytes after the end", rest.0.len());
        Ok(Self { vip, body })
    }
}

/// Says in as many messages as needed that `connections` are all that there are.
pub fn all(vip: IpAddr, connections: &[Connection]) -> Vec<Message> {
    let count = connections.len().div_ceil(CONNECTIONS_LIMIT).max(1);
    let mut messages = Vec::with_capacity(count);
    for number in 0..count {
        let from = number * CONNECTIONS_LIMIT;
        let to = connections.len().min(from + CONNECTIONS_LIMIT);
        let part = match (number == 0, number + 1 == count) {
            (true, true) => Part::Only,
            (true, false) => Part::First,
            (false, false) => Part::Next,
            (false, true) => Part::Last,
        };
        let added = connections[from..to].to_vec();
        messages.push(Message {
            vip,
            body: Body::Update {
                part,
                added,
                removed: Vec::new(),
            },
        });
    }
    messages
}

/// Says in as many messages as needed what came and what went.
pub fn changes(vip: IpAddr, added: &[Connection], removed: &[Connection]) -> Vec<Message> {
    let change = |added: &[Connection], removed: &[Connection]| Message {
        vip,
        body: Body::Update {
            part: Part::Change,
            added: added.to_vec(),
            removed: removed.to_vec(),
        },
    };
    if added.len() <= CONNECTIONS_LIMIT && removed.len() <= CONNECTIONS_LIMIT {
        return if added.is_empty() && removed.is_empty() {
            Vec::new()
        } else {
            vec![change(added, removed)]
        };
    }
    let removed = removed
        .chunks(CONNECTIONS_LIMIT)
        .map(|chunk| change(&[], chunk));
    removed
        .chain(
            added
                .chunks(CONNECTIONS_LIMIT)
                .map(|chunk| change(chunk, &[])),
        )
        .collect()
}

fn number(reason: Reason) -> u8 {
    let number = REASONS.iter().position(|known| *known == reason);
    #[expect(clippy::cast_possible_truncation, reason = "there are nine")]
    let number = number.unwrap_or_default() as u8;
    number
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend(address.octets()),
        IpAddr::V6(address) => bytes.extend(address.octets()),
    }
}

fn put_connections(bytes: &mut Vec<u8>, connections: &[Connection]) {
    debug_assert!(connections.len() <= CONNECTIONS_LIMIT);
    #[expect(clippy::cast_possible_truncation, reason = "the limit is a thousand")]
    bytes.extend((connections.len() as u16).to_be_bytes());
    for connection in connections {
        put_address(bytes, connection.client);
        bytes.extend(connection.client_port.to_be_bytes());
        bytes.extend(connection.server_port.to_be_bytes());
    }
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().context("cut short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> anyhow::Result<u8> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn reason(&mut self) -> anyhow::Result<Reason> {
        let number = self.u8()?;
        let reason = REASONS.get(usize::from(number));
        reason.copied().with_context(|| format!("reason {number}"))
    }

    /// Whether an address of IPv4 follows, otherwise one of IPv6.
    fn family(&mut self) -> anyhow::Result<bool> {
        match self.u8()? {
            4 => Ok(true),
            6 => Ok(false),
            family => bail!("an address of family {family}"),
        }
    }

    fn address(&mut self, v4: bool) -> anyhow::Result<IpAddr> {
        Ok(if v4 {
            Ipv4Addr::from(self.take::<4>()?).into()
        } else {
            Ipv6Addr::from(self.take::<16>()?).into()
        })
    }

    fn connections(&mut self, v4: bool) -> anyhow::Result<Vec<Connection>> {
        let count = usize::from(self.u16()?);
        ensure!(
            count <= CONNECTIONS_LIMIT,
            "{count} connections in one message"
        );
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Connection {
                client: self.address(v4)?,
                client_port: self.u16()?,
                server_port: self.u16()?,
            });
        }
        Ok(connections)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(v4: bool) -> BoxedStrategy<IpAddr> {
        if v4 {
            any::<u32>()
                .prop_map(|bits| Ipv4Addr::from_bits(bits).into())
                .boxed()
        } else {
            any::<u128>()
                .prop_map(|bits| Ipv6Addr::from_bits(bits).into())
                .boxed()
        }
    }

    fn connections(v4: bool) -> impl Strategy<Value = Vec<Connection>> {
        let connection = (address(v4), any::<u16>(), any::<u16>()).prop_map(
            |(client, client_port, server_port)| Connection {
                client,
                client_port,
                server_port,
            },
        );
        prop::collection::vec(connection, 0..20)
    }

    fn message() -> impl Strategy<Value = Message> {
        any::<bool>().prop_flat_map(|v4| {
            let update = (0..Part::ALL.len(), connections(v4), connections(v4)).prop_map(
                |(part, added, removed)| Body::Update {
                    part: Part::ALL[part],
                    added,
                    removed,
                },
            );
            let orphan =
                (any::<u32>(), connections(v4)).prop_map(|(holder, connections)| Body::Orphan {
                    holder: Some(holder).filter(|node| *node != 0),
                    connections,
                });
            let hold = (any::<u64>(), any::<u32>()).prop_map(|(since, previous)| Body::Hold {
                since,
                previous: Some(previous).filter(|node| *node != 0),
            });
            let reason = || (0..REASONS.len()).prop_map(|number| REASONS[number]);
            let moved = (any::<(u32, u32, u64)>(), any::<Option<u32>>(), reason()).prop_map(
                |((from, to, at), away, reason)| {
                    Body::Moved(Move {
                        from,
                        to,
                        at,
                        away_ms: away.map(u64::from),
                        reason,
                    })
                },
            );
            let tickled = any::<(u64, u32, Option<u32>, u32, u64)>().prop_map(
                |(at, clients, answered, packets, first_round_us)| {
                    Body::Tickled(Tickled {
                        at,
                        clients: clients as usize,
                        answered: answered.map(|count| count as usize),
                        packets: packets as usize,
                        first_round_us,
                    })
                },
            );
            let body = prop_oneof![
                hold,
                Just(Body::Release),
                update,
                orphan,
                moved,
                reason().prop_map(Body::Cause),
                tickled,
            ];
            (address(v4), body).prop_map(|(vip, body)| Message { vip, body })
        })
    }

    fn said() -> impl Strategy<Value = Said> {
        let addresses = prop::collection::btree_set(any::<bool>().prop_flat_map(address), 0..9);
        prop_oneof![
            addresses.prop_map(Said::Presence),
            message().prop_map(Said::Message)
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(said in said()) {
            prop_assert_eq!(Said::decode(&said.encode()).unwrap(), Heard::Said(said));
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            said in said(),
            at in any::<prop::sample::Index>(),
            other: u8,
        ) {
            let _ = Said::decode(&bytes);
            let mut bytes = said.encode();
            let at = at.index(bytes.len());
            bytes[at] = other;
            let _ = Said::decode(&bytes);
        }

        #[test]
        fn a_message_cut_short_or_too_long_is_an_error(
            said in said(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = said.encode();
            prop_assert!(Said::decode(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert!(Said::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_no_error() {
        for kind in [0, PRESENCE + 1, u8::MAX] {
            let heard = Said::decode(&[VERSION, kind, 1, 2, 3]).unwrap();
            assert_eq!(heard, Heard::Unknown(kind));
        }
        assert!(Said::decode(&[VERSION + 1, PRESENCE + 1]).is_err());
    }

    #[test]
    fn the_form_is_fixed() {
        let message = Message {
            vip: "10.0.0.100".parse().unwrap(),
            body: Body::Update {
                part: Part::Change,
                added: vec![Connection {
                    client: "10.0.0.7".parse().unwrap(),
                    client_port: 0x1234,
                    server_port: 445,
                }],
                removed: vec![],
            },
        };
        let bytes = [
            1, 3, 4, 10, 0, 0, 100, 0, 0, 1, 10, 0, 0, 7, 0x12, 0x34, 1, 189, 0, 0,
        ];
        assert_eq!(message.encode(), bytes);
    }

    #[test]
    fn long_lists_are_split_and_begin_and_end_once() {
        let connections: Vec<_> = (0..2500)
            .map(|port| Connection {
                client: "fd00::1".parse().unwrap(),
                client_port: port,
                server_port: 2049,
            })
            .collect();
        let parts: Vec<_> = all("fd00::2".parse().unwrap(), &connections)
            .into_iter()
            .map(|message| match message.body {
                Body::Update { part, added, .. } => (part, added.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            parts,
            [(Part::First, 1000), (Part::Next, 1000), (Part::Last, 500)]
        );
        assert_eq!(all("fd00::2".parse().unwrap(), &[]).len(), 1);
        assert_eq!(
            changes("fd00::2".parse().unwrap(), &connections, &connections).len(),
            6
        );
    }
}
