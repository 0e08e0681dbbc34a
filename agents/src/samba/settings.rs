//! What smb.conf says, as Samba itself reads it: the output of `testparm -sv`,
//! which is a smb.conf with includes, the registry and defaults resolved.

use std::{collections::BTreeMap, path::Path};

/// Modules that keep their files elsewhere than in a directory of the machine.
const REMOTE: [&str; 3] = ["ceph", "ceph_new", "glusterfs"];

/// Shares whose directory depends on who asks.
const SPECIAL: [&str; 3] = ["homes", "printers", "print$"];

/// The settings: all of `[global]`, and those of the shares that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    global: Section,
    shares: BTreeMap<String, Section>,
}

type Section = BTreeMap<String, String>;

/// A share whose files are in a directory of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its directory.
    pub path: &'a Path,
    section: &'a Section,
    global: &'a Section,
}

impl Settings {
    /// Reads the output of `testparm -sv`.
    pub fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        let mut section = None;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = Some(match name {
                    "global" => &mut settings.global,
                    share => settings.shares.entry(share.to_owned()).or_default(),
                });
            } else if let (Some(section), Some((name, value))) =
                (&mut section, line.split_once(" ="))
            {
                section.insert(name.to_owned(), value.trim_start().to_owned());
            }
        }
        settings
    }

    /// A setting of `[global]`; empty if this version of Samba has none of
    /// that name.
    pub fn global(&self, name: &str) -> &str {
        self.global.get(name).map_or("", String::as_str)
    }

    /// Whether a switch of `[global]` is on.
    pub fn is_on(&self, name: &str) -> bool {
        is_yes(self.global(name))
    }

    /// The shares in directories of this machine, without those whose
    /// directory depends on who asks.
    pub fn shares(&self) -> impl Iterator<Item = Share<'_>> {
        self.shares.iter().filter_map(|(name, section)| {
            let share = Share {
                name,
                path: Path::new(section.get("path")?),
                section,
                global: &self.global,
            };
            let off = section.get("available").is_some_and(|value| !is_yes(value));
            let moving = share.path.to_str().is_none_or(|path| path.contains('%'));
            let special = SPECIAL.contains(&name.as_str());
            let remote = share.modules().any(|module| REMOTE.contains(&module));
            (!(off || moving || special || remote)).then_some(share)
        })
    }
}

impl<'a> Share<'a> {
    /// A setting of the share; what `[global]` says is the default.
    pub fn get(&self, name: &str) -> &'a str {
        let value = self.section.get(name).or_else(|| self.global.get(name));
        value.map_or("", String::as_str)
    }

    /// The modules of `vfs objects`, without the names that follow a `:`.
    pub fn modules(&self) -> impl Iterator<Item = &'a str> {
        let modules = self.get("vfs objects").split([' ', '\t', ',']);
        modules
            .filter_map(|module| module.split(':').next())
            .filter(|module| !module.is_empty())
    }
}

fn is_yes(value: &str) -> bool {
    ["yes", "true", "on", "1"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_what_is_asked_of_them() {
        let settings = Settings::parse(
            "# Global parameters\n[global]\n\tclustering = Yes\n\tdisable netbios = No\n\tctdbd socket = \n\
             \tvfs objects = fileid\n\tcomment = a = b\n\n\
             [a b]\n\tpath = /run/share/a b = c\n[homes]\n\tpath = /home\n[user]\n\tpath = /u/%U\n\
             [volume]\n\tpath = /\n\tvfs objects = acl_xattr glusterfs:one\n\
             [off]\n\tpath = /off\n\tavailable = No\n[fuse]\n\tpath = /f\n\tvfs objects = glusterfs_fuse\n",
        );
        assert!(settings.is_on("clustering"));
        assert!(!settings.is_on("disable netbios"));
        assert!(!settings.is_on("wins support"));
        assert_eq!(settings.global("ctdbd socket"), "");
        assert_eq!(settings.global("comment"), "a = b");
        let shares: Vec<_> = settings.shares().collect();
        let names: Vec<_> = shares.iter().map(|share| share.name).collect();
        assert_eq!(names, ["a b", "fuse"]);
        assert_eq!(shares[0].path, Path::new("/run/share/a b = c"));
        assert!(shares[0].modules().eq(["fileid"]));
        assert!(shares[1].modules().eq(["glusterfs_fuse"]));
    }
}
