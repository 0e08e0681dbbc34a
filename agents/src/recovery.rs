//! The records of NFS clients, which Ganesha keeps on shared storage so that a
//! client may reclaim its opens and locks from another node.
//!
//! What is there, below `RecoveryRoot` (`src/SAL/recovery/recovery_fs.c` of
//! Ganesha 4.3 and 6.5):
//!
//! - `v4recov/nodeN/RECORD`: a directory, empty, for each client whose state the
//!   daemon on node N has confirmed since it started. It makes it with the client's
//!   session, and removes it a little after the client's lease has expired.
//! - `v4old/nodeN/RECORD`: the records of the start before, which the daemon
//!   moves there as it starts, and removes when its grace period ends.
//! - `ADDRESS/v4recov/RECORD`: ours. The clients that may reclaim when ADDRESS
//!   comes up, read when Ganesha is told that it takes ADDRESS.
//! - `ADDRESS/holder`: ours. A symbolic link to the number of the node that took
//!   ADDRESS last.
//!
//! A daemon that is told to forget a client removes the client's record when the
//! lease of what it forgot is over, though the client may have come back long
//! before (`nfs_client_id_expire`). So no record is no proof that the daemon does
//! not know the client: it is taken to know whoever has come by an address since
//! it started, and these are written down on its node ([`Taken`]).
//!
//! A record is named `CLIENT-(LENGTH:OWNER)` by the client's address and what it
//! calls itself; where that is longer than a name may be, it goes on in a
//! directory within.
//!
//! The file system may hang when a node dies. So it is read by a command, and
//! written by a child, neither of which is waited for beyond a deadline, nor when
//! the node is still to be fenced.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    fs::{self, File},
    io::{ErrorKind, Write},
    net::IpAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, open, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, mkdir, symlinkat, unlinkat},
};

use crate::{
    child::Answer,
    deadline::{Deadline, until},
    exec::Cmd,
    fencing,
    ocf::Ctx,
};

/// The clients of every address, by their own addresses.
pub type Clients = BTreeMap<IpAddr, BTreeSet<IpAddr>>;

/// The name of `RecoveryDir`, which is Ganesha's default.
const RECORDS: &str = "v4recov";

/// Where Ganesha puts the records of the start before.
const EARLIER: &str = "v4old";

/// The link that says who took an address last.
const HOLDER: &str = "holder";

/// How often the records are read, until nothing is removed meanwhile.
const ATTEMPTS: u32 = 5;

/// How soon they are read again.
const AGAIN: Duration = Duration::from_millis(50);

/// A client's record: its path below the directory that it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record(String);

impl Record {
    /// The client's address.
    fn client(&self) -> Option<IpAddr> {
        let (address, _) = self.0.split_once("-(")?;
        address.parse().ok().map(|ip: IpAddr| ip.to_canonical())
    }

    /// What the client calls itself.
    fn owner(&self) -> Option<String> {
        let whole = self.0.replace('/', "");
        let (_, owner) = whole.split_once("-(")?.1.split_once(':')?;
        owner.strip_suffix(')').map(str::to_owned)
    }
}

/// All records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Those in `v4recov`, by node.
    live: BTreeMap<u32, BTreeSet<Record>>,
    /// Those in `v4old`, by node.
    earlier: BTreeMap<u32, BTreeSet<Record>>,
    /// Those that we have put beside an address.
    handed: BTreeMap<IpAddr, BTreeSet<Record>>,
    /// The nodes that have taken the addresses last.
    holders: BTreeMap<IpAddr, u32>,
}

/// What a node that takes an address has to do for its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Who may reclaim.
    pub reclaim: BTreeSet<Record>,
    /// Clients that the daemon here still takes for its own, though they have
    /// been elsewhere since, by what they call themselves. Unless they are
    /// forgotten, they are told that nothing has happened to their state, and
    /// do not reclaim it.
    pub release: BTreeSet<String>,
}

impl Records {
    /// Reads what `find -printf '%y %P\t%l\0'` has printed.
    fn parse(found: &str) -> Self {
        let mut records = Self::default();
        for entry in found.split_terminator('\0') {
            let Some((path, target)) = entry.split_once('\t') else {
                continue;
            };
            let Some((kind, path)) = path.split_once(' ') else {
                continue;
            };
            let Some((top, rest)) = path.split_once('/') else {
                continue;
            };
            let (below, record) = rest.split_once('/').unwrap_or((rest, ""));
            let node = || below.strip_prefix("node")?.parse::<u32>().ok();
            let set = match top {
                RECORDS => node().map(|node| records.live.entry(node).or_default()),
                EARLIER => node().map(|node| records.earlier.entry(node).or_default()),
                _ => match (top.parse::<IpAddr>(), below, target.parse()) {
                    (Ok(address), HOLDER, Ok(node)) if kind == "l" => {
                        records.holders.insert(address, node);
                        None
                    }
                    (Ok(address), RECORDS, _) => Some(records.handed.entry(address).or_default()),
                    _ => None,
                },
            };
            if let Some(set) = set
                && kind == "d"
                && !record.is_empty()
            {
                // A directory with another in it is the beginning of a name.
                if let Some((beginning, _)) = record.rsplit_once('/') {
                    set.remove(&Record(beginning.to_owned()));
                }
                let within = format!("{record}/");
                if !set.iter().any(|other| other.0.starts_with(&within)) {
                    set.insert(Record(record.to_owned()));
                }
            }
        }
        records
    }

    fn of(from: &BTreeMap<u32, BTreeSet<Record>>, node: u32) -> BTreeSet<Record> {
        from.get(&node).cloned().unwrap_or_default()
    }

    /// What node `me` has to do to take `vip`, when these are known to be the
    /// `clients` of every address, and its daemon has `taken` those before.
    ///
    /// Nobody who has had state at the last holder may be missed: his locks
    /// would be lost. But nobody who is known to be elsewhere is to be waited
    /// for, because the grace period would last to its end.
    pub fn takeover(
        &self,
        vip: IpAddr,
        me: u32,
        clients: &Clients,
        taken: &BTreeSet<Record>,
    ) -> Takeover {
        let has = |address: &IpAddr, client: &IpAddr| {
            clients
                .get(address)
                .is_some_and(|known| known.contains(client))
        };
        let elsewhere = |record: &Record| {
            record.client().is_some_and(|client| {
                !has(&vip, &client) && clients.keys().any(|other| has(other, &client))
            })
        };
        let nobody_known = clients.get(&vip).is_none_or(BTreeSet::is_empty);
        let here = |record: &Record| match record.client() {
            Some(client) if !nobody_known => has(&vip, &client),
            _ => !elsewhere(record),
        };
        let mut alive = Self::of(&self.live, me);
        let holder = self.holders.get(&vip).copied();
        let mut left = holder.map_or_else(BTreeSet::new, |holder| Self::of(&self.earlier, holder));
        if let Some(holder) = holder.filter(|holder| *holder != me) {
            left.extend(Self::of(&self.live, holder));
        }
        left.retain(|record| !elsewhere(record));
        let handed = self.handed.get(&vip).into_iter().flatten();
        left.extend(handed.filter(|record| here(record)).cloned());
        let mut takeover = Takeover {
            reclaim: left,
            release: BTreeSet::new(),
        };
        if holder == Some(me) {
            // The daemon has not been restarted since these came.
            takeover.reclaim.retain(|record| !alive.contains(record));
            return takeover;
        }
        alive.extend(taken.iter().cloned());
        let by_another_address = |record: &Record| {
            let mine = self.holders.iter();
            let mut mine = mine.filter(|(other, node)| **node == me && **other != vip);
            let client = record.client();
            client.is_some_and(|client| mine.any(|(other, _)| has(other, &client)))
        };
        let returned = takeover.reclaim.intersection(&alive);
        let returned = returned.filter(|record| !by_another_address(record));
        takeover.release = returned.filter_map(Record::owner).collect();
        // Ganesha looks for the name anywhere in others, so that web1 takes web10
        // along, which then has to reclaim as well.
        let taken_along = alive.into_iter().filter(|record| {
            let owner = record.owner().unwrap_or_default();
            takeover.release.iter().any(|name| owner.contains(name))
        });
        takeover.reclaim.extend(taken_along);
        takeover
    }

    /// Who may reclaim when the daemon on node `me` comes back while nobody else
    /// has taken its addresses: beside those whose records it left, whoever has
    /// come by such an address, whose record it may have removed since. Who has a
    /// connection there does not matter: none has outlived the daemon.
    fn returning(&self, me: u32, clients: &Clients) -> BTreeSet<Record> {
        let mine = self.holders.iter().filter(|(_, node)| **node == me);
        let mine: BTreeSet<&IpAddr> = mine.map(|(vip, _)| vip).collect();
        if mine.is_empty() && !self.holders.is_empty() {
            return BTreeSet::new();
        }
        let others = clients.iter().filter(|(vip, _)| !mine.contains(vip));
        let others = others.map(|(vip, known)| (*vip, known.clone())).collect();
        let taken = BTreeSet::new();
        let by_address = |vip: &IpAddr| self.takeover(*vip, me, &others, &taken).reclaim;
        let mut returning: BTreeSet<_> = mine.into_iter().flat_map(by_address).collect();
        returning.extend(Self::of(&self.live, me));
        returning.extend(Self::of(&self.earlier, me));
        returning
    }
}

/// The directory on shared storage.
#[derive(Clone, Debug)]
pub struct Recovery<'a> {
    ctx: Ctx<'a>,
    root: PathBuf,
}

impl<'a> Recovery<'a> {
    /// Below the directory that the cluster keeps its state of NFS in.
    pub fn new(ctx: &Ctx<'a>, state_directory: &Path) -> Self {
        Self {
            ctx: *ctx,
            root: ctx.path(state_directory).join("recovery"),
        }
    }

    /// `RecoveryRoot`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directory, which proves that the storage takes writes.
    ///
    /// # Errors
    /// It does not, or not by `deadline`.
    pub fn create(&self, deadline: Deadline) -> anyhow::Result<()> {
        let parents = [self.root.parent().unwrap_or(&self.root), &self.root];
        // Of an own name, so that nodes that start together do not meet.
        let proof = self.root.join(format!("proof.{}", std::process::id()));
        let steps = parents.into_iter().map(make).collect::<Result<Vec<_>, _>>();
        let mut steps = steps?;
        steps.extend([make(&proof)?, remove(&proof)?]);
        self.act(&steps, deadline)
    }

    /// Makes an empty file for exports beside the records, where there is none:
    /// Ganesha does not start without a file that it is to include.
    ///
    /// # Errors
    /// It cannot be made, or not by `deadline`.
    pub fn create_exports(&self, deadline: Deadline) -> anyhow::Result<()> {
        let file = self.root.with_file_name("exports.conf");
        self.act(&[Step::Touch(c_string(&file)?)], deadline)
    }

    /// Reads all records. Half of them would be worse than none: who is missing
    /// would be taken for one without locks. What another node removes meanwhile
    /// is no record, but may make `find` fail all the same, when it is about to
    /// enter it (findutils 4.9); so it is tried again.
    ///
    /// # Errors
    /// They cannot be read, or not by `deadline`.
    pub fn read(&self, deadline: Deadline) -> anyhow::Result<Records> {
        let find = Cmd::new("find")
            .arg(&self.root)
            .args(["-ignore_readdir_race", "-mindepth", "2"])
            .args(["(", "-type", "d", "-o", "-type", "l", ")"])
            .args(["-printf", "%y %P\\t%l\\0"]);
        let mut attempts = 0;
        let found = until(deadline, AGAIN, "the records to be read", || {
            attempts += 1;
            match fencing::run(&self.ctx, &find, deadline)?.checked() {
                Ok(found) => Ok(Some(found)),
                Err(error) if attempts == ATTEMPTS => Err(error),
                Err(_) => Ok(None),
            }
        })?;
        Ok(Records::parse(&found))
    }

    /// Puts `reclaim` beside `vip`, and nothing else, and writes down that node
    /// `me` takes it.
    ///
    /// # Errors
    /// Something could not be written, or not by `deadline`.
    pub fn hand_over(
        &self,
        records: &Records,
        vip: IpAddr,
        me: u32,
        reclaim: &BTreeSet<Record>,
        deadline: Deadline,
    ) -> anyhow::Result<()> {
        let own = self.root.join(vip.to_string());
        let mut steps = vec![make(&own)?, make(&own.join(RECORDS))?];
        let before = records.handed.get(&vip).into_iter().flatten();
        for record in before.filter(|record| !reclaim.contains(record)) {
            steps.extend(self.removal(&own.join(RECORDS), record)?);
        }
        for record in reclaim {
            steps.extend(self.making(&own.join(RECORDS), record)?);
        }
        steps.extend(link(&own, me)?);
        self.act(&steps, deadline)
    }

    /// Prepares the records for a start of the daemon on node `me`.
    ///
    /// Who may reclaim is put beside the addresses that this node took last,
    /// because the daemon forgets them at the end of its grace period, whoever has
    /// come by then; and among the daemon's own records, because the address may
    /// be up here again before anybody says that it is taken. Not in `v4old`: from
    /// there the daemon removes what it has read, and the next one would not know
    /// of it. Where others have taken all addresses since, its records are out of
    /// date, and removed.
    ///
    /// # Errors
    /// Something could not be written, or not by `deadline`.
    pub fn prepare(
        &self,
        records: &Records,
        me: u32,
        clients: &Clients,
        deadline: Deadline,
    ) -> anyhow::Result<()> {
        let live = Records::of(&records.live, me);
        let earlier = Records::of(&records.earlier, me);
        let returning = records.returning(me, clients);
        let node = format!("node{me}");
        let [now, before] = [RECORDS, EARLIER].map(|kind| self.root.join(kind).join(&node));
        let mut steps = Vec::new();
        let mine = records.holders.iter().filter(|(_, node)| **node == me);
        for (vip, _) in mine {
            let own = self.root.join(vip.to_string()).join(RECORDS);
            steps.push(make(&own)?);
            for record in live.union(&earlier) {
                steps.extend(self.making(&own, record)?);
            }
        }
        if !returning.is_empty() {
            steps.extend([make(&self.root.join(RECORDS))?, make(&now)?]);
        }
        for record in returning.difference(&live) {
            steps.extend(self.making(&now, record)?);
        }
        for record in live.difference(&returning) {
            steps.extend(self.removal(&now, record)?);
        }
        for record in &earlier {
            steps.extend(self.removal(&before, record)?);
        }
        self.act(&steps, deadline)
    }

    /// A record and what it is in, from the outermost on.
    fn making(&self, directory: &Path, record: &Record) -> anyhow::Result<Vec<Step>> {
        let mut path = directory.to_owned();
        let parts = record.0.split('/');
        parts
            .map(|part| {
                path.push(part);
                make(&path)
            })
            .collect()
    }

    /// The same backwards. What is in use by another record stays.
    fn removal(&self, directory: &Path, record: &Record) -> anyhow::Result<Vec<Step>> {
        let path = directory.join(&record.0);
        let within = path.ancestors().take_while(|path| *path != directory);
        within.map(remove).collect()
    }

    /// Takes the steps, in a child.
    fn act(&self, steps: &[Step], deadline: Deadline) -> anyhow::Result<()> {
        let doing = || format!("writing below {}", self.root.display());
        if steps.is_empty() {
            return Ok(());
        }
        let take = || steps.iter().try_for_each(Step::take);
        match fencing::call(&self.ctx, deadline, take).with_context(doing)? {
            Answer::Done => Ok(()),
            Answer::Failed(errno) => Err(anyhow!(errno)).with_context(doing),
            Answer::Hung => Err(anyhow!("it hangs")).with_context(doing),
            Answer::Unwanted => Err(anyhow!("it hangs: {}", fencing::FIRST)).with_context(doing),
        }
    }
}

/// Who has come by an address since the daemon on this node started. Written down
/// on the node, because it is about this daemon only.
#[derive(Debug)]
pub struct Taken {
    file: PathBuf,
}

impl Taken {
    /// Below the directory that is emptied by a boot.
    pub fn new(ctx: &Ctx, runtime: &str) -> Self {
        Self {
            file: ctx.path(runtime).join("taken"),
        }
    }

    /// The daemon starts, and knows nobody.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn clear(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Who has come.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(&self) -> anyhow::Result<BTreeSet<Record>> {
        let text = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("reading {}", self.file.display()))?,
        };
        let records = text.split_terminator('\0').map(str::to_owned);
        Ok(records.map(Record).collect())
    }

    /// These may come now, too. In one piece: another address may be taken at the
    /// same moment.
    ///
    /// # Errors
    /// They cannot be written down.
    pub fn add(&self, more: &BTreeSet<Record>) -> anyhow::Result<()> {
        let text: String = more
            .iter()
            .map(|record| format!("{}\0", record.0))
            .collect();
        let file = File::options().append(true).create(true).open(&self.file);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", self.file.display()))
    }
}

/// A system call, with its arguments made up beforehand.
enum Step {
    Make(CString),
    Remove(CString),
    Touch(CString),
    Link { target: CString, at: CString },
    Rename { from: CString, to: CString },
}

impl Step {
    fn take(&self) -> nix::Result<()> {
        let done = match self {
            Self::Make(path) => mkdir(path.as_c_str(), Mode::from_bits_truncate(0o755)),
            Self::Remove(path) => unlinkat(AT_FDCWD, path.as_c_str(), UnlinkatFlags::RemoveDir),
            Self::Touch(path) => {
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                open(path.as_c_str(), flags, Mode::from_bits_truncate(0o644)).map(drop)
            }
            Self::Link { target, at } => symlinkat(target.as_c_str(), AT_FDCWD, at.as_c_str()),
            Self::Rename { from, to } => {
                renameat(AT_FDCWD, from.as_c_str(), AT_FDCWD, to.as_c_str())
            }
        };
        match (self, done) {
            (Self::Make(_) | Self::Link { .. }, Err(Errno::EEXIST))
            | (Self::Remove(_), Err(Errno::ENOENT | Errno::ENOTEMPTY)) => Ok(()),
            (_, done) => done,
        }
    }
}

fn make(path: &Path) -> anyhow::Result<Step> {
    Ok(Step::Make(c_string(path)?))
}

fn remove(path: &Path) -> anyhow::Result<Step> {
    Ok(Step::Remove(c_string(path)?))
}

/// The link in place of the one before.
fn link(directory: &Path, node: u32) -> anyhow::Result<[Step; 2]> {
    let new = c_string(&directory.join(format!("{HOLDER}.{node}")))?;
    let steps = [
        Step::Link {
            target: CString::new(node.to_string())?,
            at: new.clone(),
        },
        Step::Rename {
            from: new,
            to: c_string(&directory.join(HOLDER))?,
        },
    ];
    Ok(steps)
}

fn c_string(path: &Path) -> anyhow::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "::ffff:10.0.0.8-(19:Linux NFSv4.2 web1)";
    const B: &str = "::ffff:10.0.0.9-(20:Linux NFSv4.1 web10)";
    const C: &str = "fd00::7-(18:Linux NFSv4.1 db1)";

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn set(records: &[&str]) -> BTreeSet<Record> {
        records
            .iter()
            .map(|name| Record((*name).to_owned()))
            .collect()
    }

    /// Records as `find` prints them: directories, and links with `>`.
    fn found(entries: &[&str]) -> Records {
        let entry = |entry: &&str| match entry.split_once('>') {
            Some((path, target)) => format!("l {path}\t{target}\0"),
            None => format!("d {entry}\t\0"),
        };
        Records::parse(&entries.iter().map(entry).collect::<String>())
    }

    fn clients(known: &[(u8, &[&str])]) -> Clients {
        let addresses = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
        let known = known.iter();
        known
            .map(|(last, all)| (vip(*last), addresses(all)))
            .collect()
    }

    #[test]
    fn a_record_says_who_it_is() {
        let record = Record(A.into());
        assert_eq!(record.client(), Some("10.0.0.8".parse().unwrap()));
        assert_eq!(record.owner().as_deref(), Some("Linux NFSv4.2 web1"));
        assert_eq!(Record(C.into()).client(), Some("fd00::7".parse().unwrap()));
        let long = Record("10.0.0.1-(6:abc/def)".into());
        assert_eq!(long.owner().as_deref(), Some("abcdef"));
        assert_eq!(Record("nonsense".into()).client(), None);
    }

    #[test]
    fn what_find_prints() {
        let records = found(&[
            "v4recov/node1",
            &format!("v4recov/node1/{A}"),
            "v4recov/node1/10.0.0.1-(6:abc",
            "v4recov/node1/10.0.0.1-(6:abc/def)",
            &format!("v4old/node2/{B}"),
            "10.0.0.101/v4recov",
            &format!("10.0.0.101/v4recov/{C}"),
            "10.0.0.101/holder>2",
            "10.0.0.101/holder.3>3",
        ]);
        let want = Records {
            live: [(1, set(&[A, "10.0.0.1-(6:abc/def)"]))].into(),
            earlier: [(2, set(&[B]))].into(),
            handed: [(vip(101), set(&[C]))].into(),
            holders: [(vip(101), 2)].into(),
        };
        let mut records = records;
        records.live.retain(|_, set| !set.is_empty());
        assert_eq!(records, want);
    }

    #[test]
    fn all_of_the_last_holder_but_those_who_are_elsewhere_may_reclaim() {
        let records = found(&[
            &format!("v4recov/node1/{A}"),
            &format!("v4old/node1/{B}"),
            &format!("v4recov/node1/{C}"),
            &format!("v4recov/node2/{C}"),
            "10.0.0.101/holder>1",
        ]);
        let all = set(&[A, B, C]);
        assert_eq!(
            records
                .takeover(vip(101), 3, &Clients::new(), &set(&[]))
                .reclaim,
            all
        );
        let known = clients(&[(101, &["10.0.0.8"]), (102, &["10.0.0.8", "fd00::7"])]);
        let takeover = records.takeover(vip(101), 3, &known, &set(&[]));
        assert_eq!(takeover.reclaim, set(&[A, B]));
        assert!(takeover.release.is_empty());
        assert_eq!(
            records.takeover(vip(102), 3, &known, &set(&[])),
            Takeover::default()
        );
    }

    /// The second node of a chain died before the clients had come to it.
    #[test]
    fn those_who_were_handed_over_before_may_reclaim_if_they_are_still_there() {
        let records = found(&[
            &format!("10.0.0.101/v4recov/{A}"),
            &format!("10.0.0.101/v4recov/{B}"),
            "10.0.0.101/holder>2",
        ]);
        let known = clients(&[(101, &["10.0.0.8"])]);
        let some = records.takeover(vip(101), 3, &known, &set(&[]));
        assert_eq!(some.reclaim, set(&[A]));
        let all = records.takeover(vip(101), 3, &Clients::new(), &set(&[]));
        assert_eq!(all.reclaim, set(&[A, B]));
    }

    #[test]
    fn a_client_that_comes_back_is_forgotten_first_and_who_is_named_alike_reclaims() {
        let records = found(&[
            &format!("v4recov/node1/{}", A.replace("4.2", "4.1")),
            &format!("v4recov/node1/{B}"),
            &format!("v4recov/node2/{}", A.replace("4.2", "4.1")),
            "10.0.0.101/holder>2",
            "10.0.0.102/holder>1",
        ]);
        let takeover = records.takeover(vip(101), 1, &Clients::new(), &set(&[]));
        assert_eq!(takeover.release, ["Linux NFSv4.1 web1".to_owned()].into());
        assert_eq!(takeover.reclaim, set(&[&A.replace("4.2", "4.1"), B]));
        // It is here all the time, by another address.
        let known = clients(&[(101, &["10.0.0.8"]), (102, &["10.0.0.8"])]);
        let takeover = records.takeover(vip(101), 1, &known, &set(&[]));
        assert!(takeover.release.is_empty());
    }

    /// Its Ganesha removed the record of a client that it was told to forget, when
    /// the client had come back already.
    #[test]
    fn who_has_come_by_an_address_may_reclaim_when_its_daemon_comes_back() {
        let records = found(&[
            &format!("v4recov/node1/{B}"),
            &format!("10.0.0.101/v4recov/{A}"),
            &format!("10.0.0.101/v4recov/{B}"),
            &format!("10.0.0.102/v4recov/{C}"),
            "10.0.0.101/holder>1",
            "10.0.0.102/holder>2",
        ]);
        assert_eq!(records.returning(1, &Clients::new()), set(&[A, B]));
        let elsewhere = clients(&[(102, &["10.0.0.8"])]);
        assert_eq!(records.returning(1, &elsewhere), set(&[B]));
        // Who has no connection to a daemon that is gone may have lost it just so.
        let some = clients(&[(101, &["10.0.0.9"])]);
        assert_eq!(records.returning(1, &some), set(&[A, B]));
        assert_eq!(records.returning(3, &Clients::new()), set(&[]));
    }

    /// A client comes back a second time, to the same daemon: its record is gone
    /// since the lease of what was forgotten the first time is over.
    #[test]
    fn who_has_come_before_is_forgotten_though_its_record_is_gone() {
        let records = found(&[
            &format!("v4recov/node2/{A}"),
            &format!("v4recov/node2/{B}"),
            "10.0.0.101/holder>2",
        ]);
        let takeover = records.takeover(vip(101), 1, &Clients::new(), &set(&[A, C]));
        assert_eq!(takeover.release, ["Linux NFSv4.2 web1".to_owned()].into());
        assert_eq!(takeover.reclaim, set(&[A, B]));
    }

    #[test]
    fn an_address_that_comes_back_to_its_node_disturbs_nobody_who_is_there() {
        let records = found(&[
            &format!("v4recov/node1/{A}"),
            &format!("10.0.0.101/v4recov/{A}"),
            &format!("10.0.0.101/v4recov/{B}"),
            "10.0.0.101/holder>1",
        ]);
        let takeover = records.takeover(vip(101), 1, &Clients::new(), &set(&[]));
        assert_eq!(takeover.reclaim, set(&[B]));
        assert!(takeover.release.is_empty());
    }
}
