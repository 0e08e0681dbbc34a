//! Files of what came before, one or two of them with a NUL between: what is
//! made of them can be read, whether or not it is a configuration.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use storhaug::config::edit::Sources;
use storhaug::config::import::{Origin, import};
use storhaug::config::{Places, To, convert, from_toml};

fuzz_target!(|bytes: &[u8]| {
    let files: Vec<File> = bytes.splitn(2, |byte| *byte == 0).map(memfd).collect();
    let path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    if let Ok(text) = import(&Origin::Files(files.iter().map(path).collect())) {
        let _ = from_toml(Path::new("storhaug.conf"), &text);
    }
    if let Ok(sources) = Sources::find(&Places::File(path(&files[0]))) {
        for to in [To::Toml, To::Slides] {
            let _ = convert(&sources, to);
        }
    }
});

/// A file in memory.
fn memfd(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("old", MFdFlags::empty()).unwrap());
    file.write_all(bytes).unwrap();
    file
}
