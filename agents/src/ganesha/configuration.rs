//! The configuration that the agent writes, and what it leaves to the
//! administrator.
//!
//! Source: ganesha-core-config(8) and ganesha-config(8) of versions 4.3 and 6.5,
//! and `src/support/nfs_read_conf.c` for what they do not say.

use std::{
    fmt::{self, Display},
    fs,
    path::Path,
};

use anyhow::{Context, ensure};

use crate::ganeshad::{GRACE, LEASE, PORT, RUNTIME};

/// What is written.
#[derive(Debug)]
pub struct Configuration<'a> {
    /// The daemon's major version.
    pub version: u32,
    /// Where the records of clients are.
    pub recovery_root: &'a Path,
    /// The same on every node.
    pub scope: &'a str,
    /// Further files.
    pub includes: &'a [&'a Path],
    /// The number of this node.
    pub node: u32,
    /// The number of this start.
    pub epoch: u32,
}

/// The blocks of which there may be one only, and that is ours.
const OURS: [&str; 2] = ["NFS_CORE_PARAM", "NFSV4"];

impl Display for Configuration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without NLM a grace period ends as soon as all have reclaimed, with it
        // never before its time (`nfs_try_lift_grace`).
        write!(
            f,
            "# Written by ocf:storhaug:ganesha at every start.\n\
             NFS_CORE_PARAM {{\n\
             \tNFS_Port = {PORT};\n\
             \tProtocols = 4;\n\
             \tEnable_NLM = false;\n\
             \tEnable_RQUOTA = false;\n"
        )?;
        if self.version >= 6 {
            // Asked for since version 6; in a container it is refused.
            f.write_str("\tAllow_Set_Io_Flusher_Fail = true;\n")?;
        }
        write!(
            f,
            "}}\n\
             NFSV4 {{\n\
             \tMinor_Versions = 1, 2;\n\
             \tLease_Lifetime = {LEASE};\n\
             \tGrace_Period = {GRACE};\n\
             \tServer_Scope = \"{}\";\n\
             \tRecoveryBackend = fs;\n\
             \tRecoveryRoot = \"{}\";\n",
            self.scope,
            self.recovery_root.display()
        )?;
        if self.version >= 6 {
            // Or a client that has left is kept for a day, with its opens and locks.
            f.write_str("\tExpired_Client_Threshold = 0;\n")?;
        }
        f.write_str("}\n")?;
        for include in self.includes {
            writeln!(f, "%include \"{}\"", include.display())?;
        }
        Ok(())
    }
}

impl Configuration<'_> {
    /// The variables of the unit (conf/systemd/nfs-ganesha.service.d). What
    /// Debian's and Fedora's units add by `EPOCH` and `GNODEID` is in `OPTIONS`.
    pub fn environment(&self) -> String {
        format!(
            "OPTIONS=\"-f {RUNTIME}/ganesha.conf -L /var/log/ganesha/ganesha.log -N NIV_EVENT \
             -I {} -E {}\"\nEPOCH=\nGNODEID=\n",
            self.node, self.epoch
        )
    }
}

/// Checks the administrator's file.
///
/// # Errors
/// It cannot be read, or has a block that is ours.
pub fn check(file: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    for block in OURS {
        ensure!(
            !has_block(&text, block),
            "{}: remove the block {block}, storhaug writes it",
            file.display()
        );
    }
    Ok(())
}

/// Whether a block of this name is opened anywhere but in a comment.
fn has_block(text: &str, name: &str) -> bool {
    let lines = text.lines().map(|line| line.split(['#', ';']).next());
    let code = lines.flatten().collect::<Vec<_>>().join(" ");
    let code = code.replace("{", " { ").replace("}", " } ");
    let words: Vec<&str> = code.split_whitespace().collect();
    let opened = |pair: &[&str]| pair[0].eq_ignore_ascii_case(name) && pair[1] == "{";
    words.windows(2).any(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let mut configuration = Configuration {
            version: 4,
            recovery_root: Path::new("/s/recovery"),
            scope: "lab",
            includes: &[Path::new("/s/exports.conf")],
            node: 3,
            epoch: 50_331_649,
        };
        let four = configuration.to_string();
        assert!(four.contains("\n\tServer_Scope = \"lab\";\n"), "{four}");
        assert!(
            four.ends_with("}\n%include \"/s/exports.conf\"\n"),
            "{four}"
        );
        configuration.version = 6;
        let six = configuration.to_string();
        let new: Vec<_> = six.lines().filter(|line| !four.contains(line)).collect();
        let want = [
            "\tAllow_Set_Io_Flusher_Fail = true;",
            "\tExpired_Client_Threshold = 0;",
        ];
        assert_eq!(new, want);
        assert!(
            configuration
                .environment()
                .contains(" -I 3 -E 50331649\"\nEPOCH=\n")
        );
    }

    #[test]
    fn blocks_of_ours_are_found() {
        assert!(has_block("\nnfsv4\n{ Grace_Period = 1; }", "NFSV4"));
        assert!(has_block("NFS_Core_Param{ }", "NFS_CORE_PARAM"));
        assert!(!has_block(
            "# NFSV4 {\nEXPORT { Pseudo = /nfsv4; }",
            "NFSV4"
        ));
        assert!(!has_block("NFSV4_X { }", "NFSV4"));
    }
}
