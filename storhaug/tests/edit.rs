//! Configurations edited in place: the text keeps everything that was not
//! meant, and says what was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use storhaug::config::edit::{Edit, NewNode, NewVip, Sources};
use storhaug::config::{Loaded, Places};

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> File {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("storhaug.conf");
        std::fs::write(&path, text).unwrap();
        File {
            _directory: directory,
            path,
        }
    }

    /// Makes `edits` and writes the file.
    fn edit(&self, edits: &[Edit]) -> anyhow::Result<Loaded> {
        let before = Sources::find(&Places::File(self.path.clone()))?;
        let after = before.edited(edits)?;
        let loaded = after.load()?;
        after.stage(&before)?.commit()?;
        assert_eq!(
            Sources::find(&Places::File(self.path.clone()))?
                .load()?
                .cluster,
            loaded.cluster
        );
        Ok(loaded)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }
}

fn node(name: &str) -> NewNode {
    NewNode {
        name: name.into(),
        address: None,
        storage: true,
        fencing: vec![("ip".into(), "10.1.0.4".into())],
    }
}

fn vip(address: &str) -> NewVip {
    NewVip {
        address: address.into(),
        name: None,
        nic: None,
        prefer: None,
    }
}

const TOML: &str = include_str!("../../conf/storhaug.conf");
const SLIDES: &str = include_str!("../../conf/storhaug-slides.conf");

#[test]
fn what_was_added_goes_without_a_trace_in_either_form() {
    let address = "10.0.0.104/24";
    for text in [TOML, SLIDES] {
        let file = File::new(text);
        let home = |form: &str| (form == SLIDES).then(|| "server4".to_owned());
        let new = NewVip {
            prefer: home(text),
            ..vip(address)
        };
        let loaded = file
            .edit(&[Edit::AddNode(node("server4")), Edit::AddVip(new)])
            .unwrap();
        assert!(loaded.cluster.node("server4").unwrap().storage);
        assert_eq!(
            loaded.cluster.vips.last().unwrap().address.to_string(),
            "10.0.0.104"
        );
        let more: Vec<String> = file
            .text()
            .lines()
            .filter(|line| !text.lines().any(|old| old == *line))
            .map(str::to_owned)
            .collect();
        assert!(more.len() <= 6, "{more:#?}");
        file.edit(&[
            Edit::RemoveVip("10.0.0.104".parse().unwrap()),
            Edit::RemoveNode("server4".into()),
        ])
        .unwrap();
        assert_eq!(file.text(), text);
    }
}

#[test]
fn the_lines_of_the_slides_form_keep_their_manner() {
    let file = File::new(
        "HA_NAME='x'  # ours\nHA_CLUSTER_NODES=\"n1 n2\"\nSTORAGE_NODES='n1'\n\
         HA_VIPS=10.0.0.101\nHA_FENCE_AGENT=fence_x\nHA_FENCE_OPTIONS_n1=ip=1\n\
         HA_FENCE_OPTIONS_n2=ip=2",
    );
    let new = NewNode {
        fencing: vec![("ip".into(), "3".into()), ("lanplus".into(), "1".into())],
        ..node("n-3")
    };
    file.edit(&[Edit::AddNode(new), Edit::AddVip(vip("10.0.0.102"))])
        .unwrap();
    assert_eq!(
        file.text(),
        "HA_NAME='x'  # ours\nHA_CLUSTER_NODES=\"n1 n2 n-3\"\nSTORAGE_NODES='n1,n-3'\n\
         HA_VIPS=\"10.0.0.101 10.0.0.102\"\nHA_FENCE_AGENT=fence_x\nHA_FENCE_OPTIONS_n1=ip=1\n\
         HA_FENCE_OPTIONS_n2=ip=2\nHA_FENCE_OPTIONS_n_3=\"ip=3 lanplus=1\"\n"
    );
    let address = "10.0.0.101".parse().unwrap();
    let loaded = file
        .edit(&[Edit::PreferVip(address, vec!["n-3".into()])])
        .unwrap();
    assert_eq!(loaded.cluster.vips[0].prefer, ["n-3"]);
    assert!(file.text().contains("\nHA_VIP_NODES=\"n-3\"\n"));
    let loaded = file.edit(&[Edit::RemoveNode("n-3".into())]).unwrap();
    assert_eq!(loaded.cluster.vips[0].prefer, ["n1"]);
    assert!(!file.text().contains("n-3") && !file.text().contains("n_3"));
}

#[test]
fn what_the_slides_form_cannot_say_is_refused() {
    let by_node = "HA_NAME=x\nHA_CLUSTER_NODES=n1,n2\nVIP_n1=10.0.0.101\nVIP_n2=10.0.0.102\n\
                   HA_FENCE_AGENT=none-i-accept-data-loss\n";
    let file = File::new(by_node);
    let address = || "10.0.0.101".parse().unwrap();
    let reached = NewNode {
        address: Some("10.0.0.4".into()),
        fencing: Vec::new(),
        ..node("n4")
    };
    for (edit, word) in [
        (Edit::AddNode(reached), "/etc/hosts"),
        (Edit::AddVip(vip("10.0.0.103")), "--prefer"),
        (
            Edit::RemoveNode("n1".into()),
            "storhaug vip remove 10.0.0.101",
        ),
        (
            Edit::PreferVip(address(), vec!["n2".into()]),
            "HA_VIP_NODES",
        ),
    ] {
        let error = file.edit(&[edit]).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(file.text(), by_node);
    file.edit(&[Edit::RemoveVip(address()), Edit::RemoveNode("n1".into())])
        .unwrap();
    assert!(!file.text().contains("n1"));
}

#[test]
fn lists_and_tables_keep_their_manner() {
    let text = "[cluster]\nname = \"x\"\nnodes = [\"n1\", \"n10\"]   # two\n\n\
                # The addresses.\n\n# The first one.\n[[vip]]\naddress = \"10.0.0.101\"\n\n\
                [smb]\n\n[fencing]\nagent = \"none-i-accept-data-loss\"\n";
    let file = File::new(text);
    let plain = NewNode {
        fencing: Vec::new(),
        ..node("n2")
    };
    let home = NewVip {
        name: Some("files".into()),
        nic: Some("eth0".into()),
        prefer: Some("n2".into()),
        ..vip("fd00::1/64")
    };
    file.edit(&[Edit::AddNode(plain), Edit::AddVip(home)])
        .unwrap();
    file.edit(&[
        Edit::RemoveVip("10.0.0.101".parse().unwrap()),
        Edit::RemoveNode("n1".into()),
    ])
    .unwrap();
    assert_eq!(
        file.text(),
        "[cluster]\nname = \"x\"\nnodes = [\"n10\", \"n2\"]   # two\n\n\
         # The addresses.\n\n[[vip]]\naddress = \"fd00::1/64\"\nname = \"files\"\n\
         nic = \"eth0\"\nprefer = [\"n2\"]\n\n[smb]\n\n[fencing]\n\
         agent = \"none-i-accept-data-loss\"\n"
    );
    // A node that nobody prefers any more leaves no empty list.
    let last = NewNode {
        fencing: Vec::new(),
        storage: false,
        ..node("n3")
    };
    let loaded = file
        .edit(&[Edit::AddNode(last), Edit::RemoveNode("n2".into())])
        .unwrap();
    assert!(!loaded.cluster.node("n3").unwrap().storage && !file.text().contains("prefer"));
}

/// Who may read the file, and where a link leads, stay as they are.
#[test]
fn a_file_is_replaced_in_one_step() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let file = File::new(TOML);
    let private = PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&file.path, private).unwrap();
    let link = file.path.with_file_name("link.conf");
    symlink(&file.path, &link).unwrap();
    let before = Sources::find(&Places::File(link.clone())).unwrap();
    let after = before.edited(&[Edit::AddVip(vip("10.0.0.104"))]).unwrap();
    let staged = after.stage(&before).unwrap();
    assert_eq!(file.text(), TOML);
    assert_eq!(staged.commit().unwrap(), vec![link.clone()]);
    assert!(after.stage(&after).unwrap().commit().unwrap().is_empty());
    assert!(link.is_symlink() && file.text().contains("10.0.0.104"));
    let mode = std::fs::metadata(&file.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let names = std::fs::read_dir(file.path.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 2, "a temporary file is left");
}

#[test]
fn what_somebody_else_wrote_meanwhile_stays() {
    let file = File::new(TOML);
    let before = Sources::find(&Places::File(file.path.clone())).unwrap();
    let after = before.edited(&[Edit::AddVip(vip("10.0.0.104"))]).unwrap();
    let staged = after.stage(&before).unwrap();
    let theirs = format!("{TOML}# Ask Ann first.\n");
    std::fs::write(&file.path, &theirs).unwrap();
    let error = staged.commit().unwrap_err().to_string();
    assert!(error.contains("storhaug plan"), "{error}");
    assert_eq!(file.text(), theirs);
    let names = std::fs::read_dir(file.path.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "a temporary file is left");
}
