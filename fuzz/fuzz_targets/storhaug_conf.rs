//! storhaug.conf in either form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::fd::AsRawFd;
use std::path::Path;

use storhaug::config::{Places, from_toml, load};

fuzz_target!(|bytes: &[u8]| {
    let file = memfd(bytes);
    let _ = load(&Places::File(
        format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
    ));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = from_toml(Path::new("storhaug.conf"), text);
    }
});

/// A file in memory, as the slides' form is read from files alone.
fn memfd(bytes: &[u8]) -> std::fs::File {
    use std::io::Write;
    let fd = nix::sys::memfd::memfd_create("storhaug.conf", nix::sys::memfd::MFdFlags::empty());
    let mut file = std::fs::File::from(fd.unwrap());
    file.write_all(bytes).unwrap();
    file
}
