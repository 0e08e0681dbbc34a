//! The lab: a real cluster on one machine.
//!
//! Machines are containers with an init of their own, a network namespace
//! each, and a disk that is an overlay on an image made of Debian's packages.
//! A process outside of them, the rack, has their power, so that a crash is a
//! crash and fencing is real. `storhaug-lab` is the command; this library is
//! what the command, the stories and the benchmarks are made of.

use anyhow::{Context as _, Result};

pub mod bench;
pub mod cell;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod fence;
pub mod image;
pub mod lab;
pub mod layout;
pub mod machine;
pub mod network;
pub mod power;
pub mod rack;
pub mod script;
pub mod serving;
pub mod smb;
pub mod vm;
pub mod wait;
pub mod writer;

mod collect;
mod disk;
mod gluster;
mod prepare;

pub use command::{Cmd, Output};
pub use image::Release;
pub use lab::{Lab, Options};
pub use machine::Machine;
pub use power::Power;

/// The path of another program of this package: beside the running one, or,
/// for a test, one directory up.
pub(crate) fn program(name: &str) -> Result<String> {
    let own = std::env::current_exe().context("finding this program")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
        .with_context(|| format!("{name} is not beside {}; build it too", own.display()))
}
