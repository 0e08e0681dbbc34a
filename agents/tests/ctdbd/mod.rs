//! A daemon that speaks CTDB's protocol and says what a test wants.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

/// What the daemon says.
#[derive(Clone, Copy)]
pub struct Says {
    pub run_state: u32,
    pub recovery_mode: u32,
    pub flags: u32,
    pub leader: u32,
    pub silent: bool,
    /// The number of this node, whose address is the one of this machine.
    pub pnn: u32,
    /// The nodes: the flags and the address of each.
    pub nodes: &'static [Slot],
}

/// A node in CTDB's list: its flags and its address.
pub type Slot = (u32, [u8; 4]);

const BANNED: u32 = 0x08;

/// This machine's address.
pub const HERE: [u8; 4] = [127, 0, 0, 1];
pub const OTHER: [u8; 4] = [198, 51, 100, 2];

pub const WELL: Says = Says {
    run_state: 5,
    recovery_mode: 0,
    flags: 0,
    leader: 0,
    silent: false,
    pnn: 0,
    nodes: &[(0, HERE), (BANNED, OTHER)],
};

/// Listens as the daemon does, and answers what is in `says` at the time.
pub fn listen(path: &Path, says: &Arc<Mutex<Says>>) {
    let (listener, says) = (UnixListener::bind(path).unwrap(), Arc::clone(says));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let says = Arc::clone(&says);
            thread::spawn(move || answer(client, &says));
        }
    });
}

/// Answers one client, until it goes.
fn answer(mut client: UnixStream, says: &Mutex<Says>) -> Option<()> {
    loop {
        let mut packet = [0; 64];
        client.read_exact(&mut packet).ok()?;
        let field = |at: usize| u32::from_ne_bytes(packet[at..at + 4].try_into().unwrap());
        assert_eq!((field(0), field(4), field(16)), (64, 0x4354_4442, 7));
        let says = *says.lock().unwrap();
        if says.silent {
            continue;
        }
        let number = |number: u32| number.to_ne_bytes().to_vec();
        let (status, data) = match field(32) {
            138 => (0, number(says.run_state)),
            15 => (says.recovery_mode, Vec::new()),
            35 => (says.pnn, Vec::new()),
            91 => (0, nodes(&says)),
            23 => (0, Vec::new()),
            other => panic!("control {other}"),
        };
        let length = u32::try_from(data.len()).unwrap();
        let mut body = [status, length, 0].map(u32::to_ne_bytes).concat();
        body.extend(data);
        send(&mut client, 8, field(28), &body)?;
        if field(32) == 23 {
            let mut body = 0xF101_0000_0000_0000u64.to_ne_bytes().to_vec();
            body.extend(number(4));
            body.extend(number(says.leader));
            send(&mut client, 5, 0, &body)?;
        }
    }
}

fn send(client: &mut UnixStream, operation: u32, request: u32, body: &[u8]) -> Option<()> {
    let length = u32::try_from(32 + body.len()).unwrap();
    let header = [length, 0x4354_4442, 1, 0, operation, 0, 0, request];
    let packet = [&header.map(u32::to_ne_bytes).concat(), body].concat();
    client.write_all(&packet).ok()
}

fn nodes(says: &Says) -> Vec<u8> {
    let count = u32::try_from(says.nodes.len()).unwrap();
    let mut data = count.to_ne_bytes().to_vec();
    for (pnn, &(flags, address)) in (0..).zip(says.nodes) {
        let own = if pnn == says.pnn { says.flags } else { 0 };
        data.extend([pnn, flags | own].map(u32::to_ne_bytes).concat());
        data.extend(2u16.to_ne_bytes());
        data.extend([0; 2]);
        data.extend(address);
        data.extend([0; 20]);
    }
    data
}
