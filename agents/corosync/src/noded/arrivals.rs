//! Whether TCP connections have come or gone, without looking at any of them.
//!
//! The kernel counts, for each network namespace, the connections that were
//! opened from either side and those that are established (RFC 1213's
//! `tcpPassiveOpens` and its neighbours). Reading the counters costs
//! microseconds however many connections there are, so they can be read often,
//! and the connections themselves listed only when there is something new.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::Context;

/// Of the calling thread's network namespace.
const PATH: &str = "/proc/thread-self/net/snmp";

/// The counters, held open.
#[derive(Debug)]
pub struct Arrivals(File);

/// What they said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections that were opened so far, by others and from here.
    pub opened: (u64, u64),
    /// Connections that are established now.
    pub established: u64,
}

impl Arrivals {
    /// Opens the counters.
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self(
            File::open(PATH).with_context(|| format!("opening {PATH}"))?,
        ))
    }

    /// Reads them.
    pub fn read(&self) -> anyhow::Result<Counters> {
        let mut text = [0; 4096];
        let length = self
            .0
            .read_at(&mut text, 0)
            .with_context(|| format!("reading {PATH}"))?;
        parse(&text[..length]).with_context(|| format!("reading {PATH}"))
    }
}

/// A line of names that begins with `Tcp:`, and a line of numbers after it.
///
/// # Errors
/// They are not there.
pub fn parse(text: &[u8]) -> anyhow::Result<Counters> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let names = lines.next().context("no counters of TCP")?;
    let values = lines.next().context("no counters of TCP")?;
    let find = |wanted: &str| {
        let number = names.split_whitespace().position(|name| name == wanted);
        let value = number.and_then(|number| values.split_whitespace().nth(number));
        value
            .with_context(|| format!("no {wanted}"))?
            .parse::<u64>()
            .context(wanted.to_owned())
    };
    Ok(Counters {
        opened: (find("PassiveOpens")?, find("ActiveOpens")?),
        established: find("CurrEstab")?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_own_form() {
        let text = b"Ip: Forwarding\nIp: 1\nTcp: MaxConn ActiveOpens PassiveOpens CurrEstab\n\
            Tcp: -1 3 4 2\nUdp: InDatagrams\nUdp: 0\n";
        assert_eq!(
            parse(text).unwrap(),
            Counters {
                opened: (4, 3),
                established: 2
            }
        );
        assert!(parse(b"Tcp: PassiveOpens\nTcp: x\n").is_err());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn a_new_connection_is_counted() {
        let arrivals = Arrivals::open().unwrap();
        let before = arrivals.read().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let after = arrivals.read().unwrap();
        assert!(after.opened.0 > before.opened.0);
        assert!(after.opened.1 > before.opened.1);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }
}
