//! The first thing that an SMB client says, and the answer: proof that smbd
//! takes connections and serves them. Source: [MS-SMB2] sections 2.1, 2.2.1.2,
//! 2.2.3 and 2.2.4.

use std::{fs::File, io::Read, net::SocketAddr};

use anyhow::{Context, bail, ensure};

use crate::{deadline::Deadline, tcp::Connection};

/// SMB 2.1, 3.0, 3.0.2 and 3.1.1.
const DIALECTS: [u16; 4] = [0x0210, 0x0300, 0x0302, 0x0311];

/// Length of the header of a message.
const HEADER: usize = 64;

/// What starts every message.
const PROTOCOL: [u8; 4] = *b"\xfeSMB";

/// The longest answer that is read: a server's token may be some kilobytes.
const LONGEST: usize = 1 << 16;

/// Numbers that differ from call to call: smbd takes two connections with one
/// GUID for two channels of one client, and has one process serve both.
#[derive(Clone, Copy, Debug)]
struct Nonce {
    guid: [u8; 16],
    salt: [u8; 32],
}

/// Negotiates with the server at `address`, and returns the dialect that it
/// chose.
///
/// # Errors
/// Nobody listens, or no valid answer comes in time.
pub fn negotiate(address: SocketAddr, deadline: Deadline) -> anyhow::Result<u16> {
    talk(address, deadline).with_context(|| format!("negotiating SMB at {address}"))
}

fn talk(address: SocketAddr, deadline: Deadline) -> anyhow::Result<u16> {
    let mut smbd = Connection::open(address, deadline)?;
    smbd.send(&request(&nonce()?))?;
    let mut frame = [0; 4];
    smbd.receive(&mut frame)?;
    let [0, high, middle, low] = frame else {
        bail!("the answer is no SMB message");
    };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    ensure!(length <= LONGEST, "an answer of {length} bytes");
    let mut answer = vec![0; length];
    smbd.receive(&mut answer)?;
    dialect(&answer)
}

fn nonce() -> anyhow::Result<Nonce> {
    let mut nonce = Nonce {
        guid: [0; 16],
        salt: [0; 32],
    };
    let mut random = File::open("/dev/urandom").context("opening /dev/urandom")?;
    random.read_exact(&mut nonce.guid)?;
    random.read_exact(&mut nonce.salt)?;
    Ok(nonce)
}

/// The request, framed for TCP.
fn request(nonce: &Nonce) -> Vec<u8> {
    let mut message = Vec::with_capacity(256);
    message.extend(PROTOCOL);
    // Structure size, credit charge, status, command NEGOTIATE, one credit
    // asked for; everything else of the header is zero.
    for word in [64_u16, 0, 0, 0, 0, 1] {
        message.extend(word.to_le_bytes());
    }
    message.resize(HEADER, 0);
    // Structure size, dialects, signing enabled, reserved, capabilities (four
    // bytes).
    for word in [36, DIALECTS.len() as u16, 1, 0, 0, 0] {
        message.extend(word.to_le_bytes());
    }
    message.extend(nonce.guid);
    // Where the contexts begin, how many there are, reserved: eight bytes,
    // then the dialects, padded to eight.
    let contexts = (HEADER + 36 + 2 * DIALECTS.len()).next_multiple_of(8);
    message.extend((contexts as u32).to_le_bytes());
    message.extend([1, 0, 0, 0]);
    for dialect in DIALECTS {
        message.extend(dialect.to_le_bytes());
    }
    message.resize(contexts, 0);
    // Pre-authentication integrity, which 3.1.1 demands: type and length,
    // reserved, one hash, length of the salt, SHA-512.
    for word in [1_u16, 38, 0, 0, 1, 32, 1] {
        message.extend(word.to_le_bytes());
    }
    message.extend(nonce.salt);

    // Four bytes of frame: zero, and the length in 24 bits.
    let mut framed = (message.len() as u32).to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

/// The dialect of a good answer.
fn dialect(answer: &[u8]) -> anyhow::Result<u16> {
    let word = |at: usize| Some(u16::from_le_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    ensure!(
        answer.starts_with(&PROTOCOL) && word(4) == Some(64),
        "the answer is no SMB2 message"
    );
    ensure!(
        word(12) == Some(0) && long(16).is_some_and(|flags| flags & 1 == 1),
        "the answer is not to NEGOTIATE"
    );
    match long(8) {
        Some(0) => {}
        Some(status) => bail!("the server refused: NT status {status:#010x}"),
        None => bail!("a short answer"),
    }
    let chosen = word(HEADER + 4)
        .filter(|_| word(HEADER) == Some(65))
        .context("a short answer")?;
    ensure!(
        DIALECTS.contains(&chosen),
        "the server chose dialect {chosen:#06x}, unasked"
    );
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Anything may listen at the port.
        #[test]
        fn no_answer_makes_it_panic(rest in vec(any::<u8>(), 0..140), whole: bool) {
            let head = if whole { &PROTOCOL[..] } else { &[] };
            let _ = dialect(&[head, &rest].concat());
        }
    }

    #[test]
    fn the_request_byte_by_byte() {
        let bytes = request(&Nonce {
            guid: [0xaa; 16],
            salt: [0xbb; 32],
        });
        let want = "0000009e\
            fe534d42 4000 0000 00000000 0000 0100 00000000 00000000 0000000000000000\
            00000000 00000000 0000000000000000 00000000000000000000000000000000\
            2400 0400 0100 0000 00000000 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 70000000 0100 0000\
            1002 0003 0203 1103 00000000\
            0100 2600 00000000 0100 2000 0100\
            bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, want.replace(' ', ""));
    }

    /// An answer of smbd, cut after the dialect.
    fn answer(status: u32, dialect: u16) -> Vec<u8> {
        let mut answer = vec![0; 128];
        answer[..4].copy_from_slice(&PROTOCOL);
        answer[4] = 64;
        answer[8..12].copy_from_slice(&status.to_le_bytes());
        answer[16] = 1;
        answer[64] = 65;
        answer[68..70].copy_from_slice(&dialect.to_le_bytes());
        answer
    }

    #[test]
    fn answers() {
        assert_eq!(dialect(&answer(0, 0x0311)).unwrap(), 0x0311);
        let said = |bytes: &[u8]| dialect(bytes).unwrap_err().to_string();
        assert!(said(&answer(0xc000_000d, 0x0311)).ends_with("NT status 0xc000000d"));
        assert!(said(&answer(0, 0x0202)).contains("chose dialect 0x0202"));
        assert!(said(b"HTTP/1.1 400 Bad Request\r\n").contains("no SMB2 message"));
        assert!(said(&answer(0, 0x0311)[..66]).contains("short"));
        assert!(said(&[]).contains("no SMB2 message"));
        let mut other = answer(0, 0x0311);
        other[12] = 1;
        assert!(said(&other).contains("not to NEGOTIATE"));
    }
}
