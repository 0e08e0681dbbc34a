//! What smb.conf says, as Samba itself reads it: the output of `testparm`,
//! which is a smb.conf with includes and the registry resolved.

use std::{collections::BTreeMap, path::PathBuf};

/// The settings that differ from Samba's defaults.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Settings {
    /// Reads the output of `testparm -s`.
    pub fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        let mut section = None;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = Some(settings.sections.entry(name.to_owned()).or_default());
            } else if let (Some(section), Some((name, value))) =
                (&mut section, line.split_once(" = "))
            {
                section.insert(name.to_owned(), value.to_owned());
            }
        }
        settings
    }

    /// Whether a switch of `[global]` is on. All of those asked for are off by
    /// default.
    pub fn is_on(&self, name: &str) -> bool {
        let value = self
            .sections
            .get("global")
            .and_then(|global| global.get(name));
        value.is_some_and(|value| value.eq_ignore_ascii_case("yes"))
    }

    /// Shares and their directories, without those whose directory depends on
    /// who asks, or is no path of this machine.
    pub fn directories(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.sections.iter().filter_map(|(share, settings)| {
            let path = settings.get("path")?;
            let modules = settings.get("vfs objects").map_or("", String::as_str);
            let remote = |module| matches!(module, "glusterfs" | "ceph" | "ceph_new");
            let off = settings
                .get("available")
                .is_some_and(|value| value.eq_ignore_ascii_case("no"));
            let special = matches!(share.as_str(), "global" | "homes" | "printers" | "print$");
            let known =
                !(off || special || path.contains('%') || modules.split_whitespace().any(remote));
            known.then(|| (share.as_str(), path.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_what_is_asked_of_them() {
        let settings = Settings::parse(
            "# Global parameters\n[global]\n\tclustering = Yes\n\tpath = /x\n\tdisable netbios = No\n\n\
             [a b]\n\tpath = /run/share/a b = c\n[homes]\n\tpath = /home\n[user]\n\tpath = /u/%U\n\
             [volume]\n\tpath = /\n\tvfs objects = acl_xattr glusterfs\n\
             [off]\n\tpath = /off\n\tavailable = No\n[fuse]\n\tpath = /f\n\tvfs objects = glusterfs_fuse\n",
        );
        assert!(settings.is_on("clustering"));
        assert!(!settings.is_on("disable netbios"));
        assert!(!settings.is_on("wins support"));
        let directories: Vec<_> = settings.directories().collect();
        assert_eq!(
            directories,
            [("a b", "/run/share/a b = c".into()), ("fuse", "/f".into())]
        );
    }
}
