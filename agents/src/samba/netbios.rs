//! A question that every nmbd can answer: who has the name `__SAMBA__`? Each
//! registers it for itself. Source: RFC 1002 section 4.2.12 and 4.2.13.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::deadline::Deadline;

/// After how long the question is repeated: a datagram may be lost.
const AGAIN: Duration = Duration::from_secs(1);

/// The flag of an answer.
const RESPONSE: u16 = 0x8000;

/// Asks the server at `address`.
///
/// # Errors
/// Nobody listens, no answer comes in time, or it says that there is no such
/// name.
pub fn ask(address: SocketAddr, deadline: Deadline) -> anyhow::Result<()> {
    talk(address, deadline).with_context(|| format!("asking for a NetBIOS name at {address}"))
}

fn talk(address: SocketAddr, deadline: Deadline) -> anyhow::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => bail!("NetBIOS knows IPv4 only"),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    // The answers to others do not reach this socket; a number that is not
    // guessed easily is not needed.
    let id = std::process::id() as u16;
    let mut answer = [0; 576];
    while !deadline.expired() {
        socket.send(&question(id))?;
        let by = deadline.earlier(AGAIN);
        while !by.expired() {
            socket.set_read_timeout(Some(by.timeout()))?;
            match socket.recv(&mut answer) {
                Ok(length) if answer.starts_with(&id.to_be_bytes()) => {
                    return verdict(&answer[..length]);
                }
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                    _ => return Err(error.into()),
                },
            }
        }
    }
    bail!("no answer in time")
}

fn question(id: u16) -> Vec<u8> {
    // One question, not to be asked of others.
    let mut packet: Vec<u8> = [id, 0, 1, 0, 0, 0]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    // A name of 15 letters and a type, each byte as two letters from `A` on.
    let mut name = *b"__SAMBA__      \0";
    name[15] = 0;
    packet.push(32);
    packet.extend(
        name.iter()
            .flat_map(|byte| [b'A' + (byte >> 4), b'A' + (byte & 15)]),
    );
    packet.push(0);
    // Type NB, class IN.
    packet.extend([0, 0x20, 0, 1]);
    packet
}

fn verdict(answer: &[u8]) -> anyhow::Result<()> {
    let word = |at: usize| Some(u16::from_be_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let (Some(flags), Some(answers)) = (word(2), word(6)) else {
        bail!("a short answer")
    };
    ensure!(flags & RESPONSE != 0, "the answer is a question");
    ensure!(
        flags & 15 == 0 && answers > 0,
        "the name is unknown, code {}",
        flags & 15
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Anybody can send anything.
        #[test]
        fn no_answer_makes_it_panic(answer in vec(any::<u8>(), 0..80)) {
            let _ = verdict(&answer);
        }
    }

    #[test]
    fn the_question_byte_by_byte() {
        let want = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\
            \x20FPFPFDEBENECEBFPFPCACACACACACAAA\0\0\x20\0\x01";
        assert_eq!(question(0x1234), want);
    }

    #[test]
    fn answers() {
        let answer = |flags: u16, count: u8| {
            let [high, low] = flags.to_be_bytes();
            verdict(&[0x12, 0x34, high, low, 0, 0, 0, count, 0, 0, 0, 0])
        };
        answer(0x8500, 1).unwrap();
        assert!(
            answer(0x8583, 0)
                .unwrap_err()
                .to_string()
                .contains("unknown, code 3")
        );
        assert!(
            answer(0x0110, 1)
                .unwrap_err()
                .to_string()
                .contains("a question")
        );
        assert!(
            verdict(&[1, 2, 3])
                .unwrap_err()
                .to_string()
                .contains("short")
        );
    }
}
