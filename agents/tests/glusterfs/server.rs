//! A stand-in for GlusterFS: a FUSE mount of the same type, served by a thread
//! that answers as little as a mount point needs, and falls silent or dies
//! when it is told to. Source: the kernel's `include/uapi/linux/fuse.h`.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The server of a mount; it is unmounted by force when this goes away.
pub struct Server {
    point: PathBuf,
    silent: Arc<AtomicBool>,
    kept: Arc<AtomicUsize>,
    alive: Option<File>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Mounts `source` at `point`.
    pub fn mount(source: &str, point: &Path) -> Self {
        let fuse = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            fuse.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some(source),
            point,
            Some("fuse.glusterfs"),
            flags,
            Some(data.as_str()),
        )
        .unwrap();
        let (silent, kept) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (life, alive) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (quiet, count) = (Arc::clone(&silent), Arc::clone(&kept));
        let thread = thread::spawn(move || serve(fuse, &File::from(life), &quiet, &count));
        Self {
            point: point.to_owned(),
            silent,
            kept,
            alive: Some(alive.into()),
            thread: Some(thread),
        }
    }

    /// From now on takes requests and does not answer them: whoever makes one
    /// waits where no signal reaches it.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// How many requests have been taken and not answered.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::SeqCst)
    }

    /// Ends, and leaves the mount behind.
    pub fn die(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.die();
        let _ = umount2(&self.point, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

fn serve(mut fuse: File, life: &File, silent: &AtomicBool, kept: &AtomicUsize) {
    let mut request = vec![0; 1 << 17];
    loop {
        let mut fds = [
            PollFd::new(fuse.as_fd(), PollFlags::POLLIN),
            PollFd::new(life.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        if fds[1].any() != Some(false) {
            return;
        }
        // Unmounted, or cut.
        let Ok(length) = fuse.read(&mut request) else {
            return;
        };
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let opcode = word(4);
        assert_eq!(word(0) as usize, length);
        if matches!(opcode, FORGET | BATCH_FORGET | INTERRUPT) {
            continue;
        }
        if silent.load(Ordering::SeqCst) {
            kept.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let (error, body) = answer(opcode);
        let mut reply = Vec::new();
        reply.extend((16 + body.len() as u32).to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        // The one who asked may have been killed.
        let _ = fuse.write(&reply);
    }
}

fn answer(opcode: u32) -> (i32, Vec<u8>) {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    match opcode {
        // Version 7.31, nothing special, requests of up to 64 KiB.
        INIT => {
            let mut init = [0; 16];
            (init[0], init[1], init[5], init[6]) = (7, 31, 65536, 1);
            (0, words(&init))
        }
        // A block size and a length of names.
        STATFS => {
            let mut statfs = [0; 20];
            (statfs[10], statfs[11], statfs[12]) = (4096, 255, 4096);
            (0, words(&statfs))
        }
        // A directory that everybody may enter, not to be remembered.
        GETATTR => {
            let mut attributes = [0; 26];
            (attributes[4], attributes[19], attributes[20]) = (1, 0o40755, 2);
            (0, words(&attributes))
        }
        LOOKUP => (-nix::libc::ENOENT, Vec::new()),
        _ => (-nix::libc::ENOSYS, Vec::new()),
    }
}
