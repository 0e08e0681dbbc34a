//! Files that `setup` refuses, each before anything changes.

use anyhow::{Result, ensure};
use storhaug_lab::demo::SLIDES;

use crate::cluster::{CONF, Cluster};

/// What is done to the lab's good file, and what the refusal has to say.
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "[cluster]",
        "[cluster]\ncolour = \"red\"",
        &["colour", "storhaug.conf:2"],
    ),
    (
        "[smb]",
        "[smb]\nvolume = [\"share\"]",
        &["volume", "storhaug.conf:"],
    ),
    (
        "\"node1\", \"node2\"",
        "\"node1\", \"node1\"",
        &["node1", "storhaug.conf:"],
    ),
    (
        "10.77.0.101/24",
        "10.77.0.301/24",
        &["10.77.0.301", "storhaug.conf:"],
    ),
    ("10.77.0.101/24", "192.0.2.101/24", &["192.0.2.101", "nic"]),
    (
        "/24\"\n",
        "/24\"\nprefer = [\"node9\"]\n",
        &["node9", "storhaug.conf:"],
    ),
    ("agent = \"fence_lab\"", "", &["fenc", "agent"]),
];

/// What must never be executed, whatever reads the slide form.
const TRAPS: [&str; 3] = [
    "$(touch /executed)",
    "x; touch /executed",
    "`touch /executed`",
];

/// Each bad file is refused with the place and the reason, and nothing changes.
pub fn bad_input(c: &Cluster) -> Result<()> {
    let node = c.first();
    let good = c.conf()?;
    let epoch = c.epoch()?;
    let refused = |text: &str, says: &[&str]| -> Result<()> {
        c.write_conf(text)?;
        let said = c.refused(node, "storhaug setup")?;
        for word in says {
            ensure!(said.contains(word), "`{word}` is not in: {said}");
        }
        ensure!(c.epoch()? == epoch, "the CIB changed:\n{text}");
        Ok(())
    };
    for (from, to, says) in BAD {
        ensure!(good.contains(from), "`{from}` is not in {CONF}:\n{good}");
        refused(&good.replacen(from, to, 1), says)?;
    }
    refused("", &["storhaug.conf"])?;
    for trap in TRAPS {
        refused(
            &SLIDES.replace("\"lab\"", &format!("\"{trap}\"")),
            &["HA_NAME"],
        )?;
        refused(
            &SLIDES.replace("\"share\"", &format!("\"{trap}\"")),
            &["HA_SMB_VOLUMES"],
        )?;
    }
    ensure!(
        !c.succeeds(node, "test -e /executed")?,
        "a value was executed"
    );
    c.run(node, "chmod 0644 /etc/storhaug/hacluster.password")?;
    refused(&good, &["hacluster.password", "chmod 600"])?;
    c.run(node, "chmod 0600 /etc/storhaug/hacluster.password")
        .map(drop)
}

/// A cluster of another name is already there: it is somebody else's.
pub fn another_name(c: &Cluster) -> Result<()> {
    let (epoch, good) = (c.epoch()?, c.conf()?);
    c.edit_conf("name = \"lab\"", "name = \"other\"")?;
    let said = c.refused(c.first(), "storhaug setup")?;
    ensure!(said.contains("other") && said.contains("lab"), "{said}");
    ensure!(c.epoch()? == epoch, "the CIB changed");
    c.write_conf(&good)
}
