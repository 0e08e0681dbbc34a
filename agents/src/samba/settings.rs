//! What smb.conf says, as Samba itself reads it: the output of `testparm -sv`,
//! which is a smb.conf with includes, the registry and defaults resolved.

use std::{collections::BTreeMap, path::Path};

/// Modules that keep their files elsewhere than in a directory of the machine.
const REMOTE: [&str; 3] = ["ceph", "ceph_new", "glusterfs"];

/// Shares of printers, and of what belongs to them.
const PRINTING: [&str; 2] = ["printers", "print$"];

/// The share that has the home of whoever asks, where no path is written.
const HOMES: &str = "homes";

/// The settings: all of `[global]`, and those of the shares that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    global: Section,
    shares: BTreeMap<String, Section>,
}

type Section = BTreeMap<String, String>;

/// Where the files of a share are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory<'a> {
    /// In this directory.
    At(&'a Path),
    /// In one for each who asks: what has `%` in it is put in by smbd.
    Varying(&'a Path),
    /// In the home of whoever asks.
    Home,
}

/// A share whose files are in a directory of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its directory.
    pub directory: Directory<'a>,
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
                section.insert(key(name), value.trim_start().to_owned());
            }
        }
        settings
    }

    /// A setting of `[global]`; empty if this version of Samba has none of
    /// that name.
    pub fn global(&self, name: &str) -> &str {
        self.global.get(&key(name)).map_or("", String::as_str)
    }

    /// Whether a switch of `[global]` is on.
    pub fn is_on(&self, name: &str) -> bool {
        is_yes(self.global(name))
    }

    /// The shares in directories of this machine.
    pub fn shares(&self) -> impl Iterator<Item = Share<'_>> {
        self.shares.iter().filter_map(|(name, section)| {
            let share = Share {
                name,
                directory: directory(name, section.get("path").map_or("", String::as_str))?,
                section,
                global: &self.global,
            };
            let off = section.get("available").is_some_and(|value| !is_yes(value));
            let printing = PRINTING.contains(&name.as_str());
            let remote = share.modules().any(|module| REMOTE.contains(&module));
            (!(off || printing || remote)).then_some(share)
        })
    }
}

impl<'a> Share<'a> {
    /// A setting of the share; what `[global]` says is the default.
    pub fn get(&self, name: &str) -> &'a str {
        let name = key(name);
        let value = self.section.get(&name).or_else(|| self.global.get(&name));
        value.map_or("", String::as_str)
    }

    /// Whether a switch of the share is on.
    pub fn is_on(&self, name: &str) -> bool {
        is_yes(self.get(name))
    }

    /// A setting that is a list: words with white space or commas between, in
    /// quotes where a word has some in it.
    pub fn list(&self, name: &str) -> Vec<&'a str> {
        let mut quoted = false;
        let between = |c: char| {
            quoted ^= c == '"';
            c == '"' || (!quoted && matches!(c, ' ' | '\t' | ','))
        };
        let words = self.get(name).split(between);
        words.filter(|word| !word.is_empty()).collect()
    }

    /// The modules of `vfs objects`, without the names that follow a `:`.
    pub fn modules(&self) -> impl Iterator<Item = &'a str> {
        let modules = self.get("vfs objects").split([' ', '\t', ',']);
        modules
            .filter_map(|module| module.split(':').next())
            .filter(|module| !module.is_empty())
    }
}

/// A setting's name as names are compared: case and white space are nothing.
fn key(name: &str) -> String {
    let letters = name.chars().filter(|c| !c.is_whitespace());
    letters.collect::<String>().to_lowercase()
}

/// None where no directory is written, which is a share of nothing.
fn directory<'a>(name: &str, path: &'a str) -> Option<Directory<'a>> {
    if path.starts_with("%H") || (name == HOMES && path.is_empty()) {
        return Some(Directory::Home);
    }
    let directory = if path.contains('%') {
        Directory::Varying
    } else {
        Directory::At
    };
    (!path.is_empty()).then(|| directory(Path::new(path)))
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
             \tvfs objects = fileid\n\tcomment = a = b\n\tfileid:FSType Deny = ext4, \"a b\",nfs\n\n\
             [a b]\n\tpath = /run/share/a b = c\n[homes]\n\tbrowseable = No\n[user]\n\tpath = /u/%U\n\
             [volume]\n\tpath = /\n\tvfs objects = acl_xattr glusterfs:one\n[own]\n\tpath = %H/x\n\
             [off]\n\tpath = /off\n\tavailable = No\n[fuse]\n\tpath = /f\n\tvfs objects = glusterfs_fuse\n\
             [printers]\n\tpath = /var/spool/samba\n[none]\n\tcomment = x\n",
        );
        assert!(settings.is_on("clustering"));
        assert!(!settings.is_on("disable netbios"));
        assert!(!settings.is_on("wins support"));
        assert_eq!(settings.global("ctdbd socket"), "");
        assert_eq!(settings.global("comment"), "a = b");
        let shares: Vec<_> = settings.shares().collect();
        let found: Vec<_> = shares.iter().map(|s| (s.name, s.directory)).collect();
        let want = [
            ("a b", Directory::At(Path::new("/run/share/a b = c"))),
            ("fuse", Directory::At(Path::new("/f"))),
            ("homes", Directory::Home),
            ("own", Directory::Home),
            ("user", Directory::Varying(Path::new("/u/%U"))),
        ];
        assert_eq!(found, want);
        assert!(shares[0].modules().eq(["fileid"]));
        assert_eq!(shares[0].list("fileid:fstype deny"), ["ext4", "a b", "nfs"]);
        assert!(shares[1].modules().eq(["glusterfs_fuse"]));
    }
}
