//! CTDB's `ctdb.conf` and `ctdb.tunables`: setting single keys, and keeping
//! everything else as the administrator wrote it.
//!
//! The format of both is that of Samba's `lib/util/tini.c`: sections in brackets,
//! `key = value`, comments from `#` or `;` at the start of a line, and a
//! backslash at the end of a line continues it.

/// A key, and the value that it shall have; none for a key that shall not be
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The section's name, without brackets; empty for what is in none, as all
    /// tunables are.
    pub section: &'a str,
    /// The key, with single spaces.
    pub key: &'a str,
    /// The value.
    pub value: Option<&'a str>,
}

/// A line as the reader sees it: several lines of text where they continue.
struct Line<'a> {
    text: &'a str,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Empty, or a comment.
    Blank,
    Section(&'a str),
    Entry(&'a str, &'a str),
}

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        let content = text.trim();
        let kind = if content.is_empty() || content.starts_with(['#', ';']) {
            Kind::Blank
        } else if let Some(name) = content.strip_prefix('[') {
            Kind::Section(name.split(']').next().unwrap_or(name).trim())
        } else {
            let (key, value) = content.split_once('=').unwrap_or((content, ""));
            Kind::Entry(key.trim(), value.trim())
        };
        Self { text, kind }
    }

    /// Whether it is the entry `key`; the reader takes white space within a
    /// key for one space, and ignores case.
    fn is(&self, key: &str) -> bool {
        let Kind::Entry(found, _) = self.kind else {
            return false;
        };
        let found = found.split_whitespace();
        let found: Vec<_> = found.collect();
        found.join(" ").eq_ignore_ascii_case(key)
    }
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    if text.is_empty() {
        return lines;
    }
    let mut start = 0;
    for (end, _) in text.match_indices('\n').chain([(text.len(), "")]) {
        let line = &text[start..end];
        let comment = line.trim_start().starts_with(['#', ';']);
        if line.ends_with('\\') && !comment {
            if end < text.len() {
                continue;
            }
            // Nothing follows in this file, but something of ours may.
            lines.push(Line::new(line.trim_end_matches('\\')));
            break;
        }
        lines.push(Line::new(line));
        start = end + 1;
        if start >= text.len() {
            break;
        }
    }
    lines
}

fn in_section<'a, 'b>(
    lines: &'b [Line<'a>],
    section: &'b str,
) -> impl Iterator<Item = (usize, &'b Line<'a>)> {
    let mut current = "";
    lines.iter().enumerate().filter(move |(_, line)| {
        if let Kind::Section(name) = line.kind {
            current = name;
        }
        current.eq_ignore_ascii_case(section)
    })
}

/// The value of a key; the last one, as the reader takes it.
pub fn value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let lines = lines(text);
    let mut found = in_section(&lines, section).filter(|(_, line)| line.is(key));
    let (_, last) = found.by_ref().last()?;
    match last.kind {
        Kind::Entry(_, value) => Some(value),
        _ => None,
    }
}

/// The text with every setting as wanted, and no other line touched.
pub fn with(text: &str, settings: &[Setting]) -> String {
    settings
        .iter()
        .fold(text.to_owned(), |text, setting| set(&text, setting))
}

fn set(text: &str, setting: &Setting) -> String {
    let lines = lines(text);
    let places: Vec<usize> = in_section(&lines, setting.section)
        .filter(|(_, line)| line.is(setting.key))
        .map(|(place, _)| place)
        .collect();
    let as_wanted = match (&places[..], setting.value) {
        ([], None) => true,
        ([_], Some(wanted)) => value(text, setting.section, setting.key) == Some(wanted),
        _ => false,
    };
    if as_wanted {
        return text.to_owned();
    }
    let indent = if setting.section.is_empty() { "" } else { "\t" };
    let entry = setting
        .value
        .map(|value| format!("{indent}{} = {value}", setting.key));
    let mut out: Vec<String> = Vec::new();
    let mut pending = entry;
    let last = in_section(&lines, setting.section)
        .filter(|(_, line)| !matches!(line.kind, Kind::Blank))
        .last()
        .map(|(place, _)| place);
    for (place, line) in lines.iter().enumerate() {
        if places.contains(&place) {
            out.extend(pending.take());
            continue;
        }
        out.push(line.text.to_owned());
        if places.is_empty() && last == Some(place) {
            out.extend(pending.take());
        }
    }
    if let Some(entry) = pending {
        if !setting.section.is_empty() {
            if out.last().is_some_and(|line| !line.is_empty()) {
                out.push(String::new());
            }
            out.push(format!("[{}]", setting.section));
        }
        out.push(entry);
    }
    let mut text = out.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: [Setting; 3] = [
        Setting {
            section: "cluster",
            key: "cluster lock",
            value: Some("!/helper"),
        },
        Setting {
            section: "cluster",
            key: "recovery lock",
            value: None,
        },
        Setting {
            section: "failover",
            key: "disabled",
            value: Some("true"),
        },
    ];

    #[test]
    fn files_as_administrators_have_them() {
        let cases = [
            (
                "",
                "[cluster]\n\tcluster lock = !/helper\n\n[failover]\n\tdisabled = true\n",
            ),
            (
                "# mine\n[logging]\n\tlocation = syslog\n\n[cluster]\n\t# cluster lock = /x\n\n[legacy]\nrealtime scheduling = false\n",
                "# mine\n[logging]\n\tlocation = syslog\n\n[cluster]\n\tcluster lock = !/helper\n\t# cluster lock = /x\n\n[legacy]\nrealtime scheduling = false\n\n[failover]\n\tdisabled = true\n",
            ),
            (
                "[cluster]\nnode address = 10.0.0.1\nCluster  Lock = \\\n /old/lock\nrecovery lock = /older\ntransport = tcp\n[failover]\ndisabled = false\ndisabled = false",
                "[cluster]\nnode address = 10.0.0.1\n\tcluster lock = !/helper\ntransport = tcp\n[failover]\n\tdisabled = true\n",
            ),
            (
                "[failover]\ndisabled = true\n[cluster]\ntransport = tcp \\",
                "[failover]\ndisabled = true\n[cluster]\ntransport = tcp \n\tcluster lock = !/helper\n",
            ),
            (
                "[database]\ndisabled = false\n[failover]\n",
                "[database]\ndisabled = false\n[failover]\n\tdisabled = true\n\n[cluster]\n\tcluster lock = !/helper\n",
            ),
        ];
        for (before, after) in cases {
            assert_eq!(with(before, &OURS), after, "{before}");
            assert_eq!(with(after, &OURS), after, "a second time");
        }
    }

    #[test]
    fn tunables_are_in_no_section() {
        let rerecovery = [Setting {
            section: "",
            key: "RerecoveryTimeout",
            value: Some("1"),
        }];
        for (before, after) in [
            ("", "RerecoveryTimeout = 1\n"),
            ("# none\n", "# none\nRerecoveryTimeout = 1\n"),
            (
                "MonitorInterval=20\n\n# slow\nrerecoverytimeout=10\n",
                "MonitorInterval=20\n\n# slow\nRerecoveryTimeout = 1\n",
            ),
        ] {
            assert_eq!(with(before, &rerecovery), after);
            assert_eq!(with(after, &rerecovery), after);
        }
    }

    #[test]
    fn what_is_as_wanted_is_not_touched() {
        let text = "[cluster]\n  cluster lock   =   !/helper\n[failover]\n disabled=true";
        assert_eq!(with(text, &OURS), text);
        assert_eq!(value(text, "cluster", "cluster lock"), Some("!/helper"));
        assert_eq!(value(text, "cluster", "transport"), None);
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            "[#;] ?[a-z=\\[ ]{0,9}",
            prop_oneof!["cluster", "failover", "logging", "legacy"].prop_map(|s| format!("[{s}]")),
            (
                "cluster lock|disabled|recovery lock|log level|node address",
                "[ -~]{0,9}"
            )
                .prop_map(|(key, value)| format!("  {key} = {value}")),
        ]
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_and_the_rest_is_kept(lines in prop::collection::vec(line(), 0..12)) {
            let text = lines.join("\n");
            let after = with(&text, &OURS);
            for setting in &OURS {
                prop_assert_eq!(value(&after, setting.section, setting.key), setting.value);
            }
            prop_assert_eq!(&with(&after, &OURS), &after);
            for (section, key) in [
                ("logging", "log level"), ("legacy", "node address"), ("cluster", "node address"),
                ("logging", "disabled"), ("legacy", "recovery lock"),
            ] {
                prop_assert_eq!(value(&after, section, key), value(&text, section, key));
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "[\\PC\\n\\\\\\[\\]=#;]{0,80}") {
            let after = with(&text, &OURS);
            prop_assert_eq!(&with(&after, &OURS), &after);
        }
    }
}
