//! The agent `glusterfs`, as Pacemaker calls it, on mounts that answer, hang,
//! are dead, or are somebody else's. Each test has a mount namespace of its
//! own, and a FUSE mount that a thread of it serves.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test stands where Pacemaker and the administrator stand"
)]

#[path = "../machine/mod.rs"]
mod machine;
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use machine::{LOST, Machine, Seen, outcome};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::mkfifo,
};
use server::Server;
use storhaug_agents::{
    deadline::{Deadline, until},
    glusterfs::GlusterFs,
    ocf::Agent,
};

/// Letters that some tables escape, and some programs take for more.
const SHARE: &str = r"sh are.%s\#";

/// For whatever takes no time on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a machine with a directory to mount at.
fn alone(test: impl FnOnce(&Place) + Send + 'static) {
    machine::alone(
        |machine| fs::create_dir(machine.path(SHARE)).unwrap(),
        |machine| {
            let share = machine.path(SHARE);
            test(&Place { machine, share });
        },
    );
}

fn mount_plain(fstype: Option<&str>, point: impl AsRef<Path>, flags: MsFlags, data: Option<&str>) {
    mount(fstype, point.as_ref(), fstype, flags, data).unwrap();
}

fn tmpfs(point: impl AsRef<Path>) {
    mount_plain(Some("tmpfs"), point, MsFlags::empty(), Some("mode=0755"));
}

fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    until(
        Deadline::after(PATIENCE),
        Duration::from_millis(5),
        what,
        || Ok(condition()),
    )
    .unwrap()
}

/// Where the volume is to be mounted.
struct Place<'a> {
    machine: &'a Machine,
    share: PathBuf,
}

impl Place<'_> {
    fn serve(&self) -> Server {
        let server = Server::mount("localhost:/vol", &self.share);
        assert_eq!(self.monitor().code, 0);
        assert_eq!(self.mounted(), ["fuse.glusterfs"]);
        server
    }

    fn command(&self, action: &str, timeout: Duration, more: &[(&str, &str)]) -> Command {
        let agent = env!("CARGO_BIN_EXE_glusterfs");
        let mut command = self.machine.action(agent, "share", action, timeout);
        command
            .env("OCF_RESKEY_volume", "vol")
            .env("OCF_RESKEY_directory", &self.share)
            .envs(more.iter().copied());
        command
    }

    fn call(&self, action: &str, timeout: Duration, more: &[(&str, &str)]) -> Seen {
        outcome(&mut self.command(action, timeout, more))
    }

    fn start(&self) -> Seen {
        self.call("start", PATIENCE, &[])
    }

    fn stop(&self) -> Seen {
        self.call("stop", PATIENCE, &[])
    }

    fn monitor(&self) -> Seen {
        self.call(
            "monitor",
            PATIENCE,
            &[("OCF_RESKEY_CRM_meta_interval", "10000")],
        )
    }

    fn probe(&self) -> Seen {
        self.call("monitor", PATIENCE, &[])
    }

    /// Types of what is mounted at the place.
    fn mounted(&self) -> Vec<String> {
        let escaped: String = self
            .share
            .to_string_lossy()
            .chars()
            .map(|c| match c {
                ' ' | '\\' => format!("\\{:03o}", u32::from(c)),
                c => c.to_string(),
            })
            .collect();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let here = mounts
            .lines()
            .filter(|line| line.split(' ').nth(4) == Some(&escaped));
        here.map(|line| {
            line.split(" - ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
    }
}

/// A process, killed at the end of the test at the latest.
struct Process(Child);

impl Process {
    /// Starts it, and waits until it is the program that it is to become.
    fn start(command: &mut Command, name: &str) -> Self {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        eventually(name, || {
            (fs::read_to_string(&comm).ok()?.trim() == name).then_some(())
        });
        Self(child)
    }

    /// One that has its working directory at `directory`.
    fn at(directory: &Path) -> Self {
        let mut command = Command::new("sleep");
        Self::start(
            command
                .arg("1000")
                .stdin(Stdio::null())
                .current_dir(directory),
            "sleep",
        )
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_description_has_no_faults() {
    assert_eq!(GlusterFs::METADATA.faults(), Vec::<String>::new());
}

#[test]
fn nothing_mounted_is_not_running_whatever_is_installed() {
    alone(|place| {
        tmpfs("/usr/sbin");
        assert_eq!(place.probe().code, 7);
        assert_eq!(place.monitor().code, 7);
        assert_eq!(place.stop().code, 0);
        let start = place.start();
        assert_eq!(start.code, 5, "{start:?}");
        assert!(
            start.reason.starts_with("no mount.glusterfs: install"),
            "{start:?}"
        );
        let check = |level| place.call("validate-all", PATIENCE, &[("OCF_CHECK_LEVEL", level)]);
        assert_eq!(check("0").code, 0);
        assert_eq!(check("10").code, 5);
    });
}

#[test]
fn wrong_parameters_are_refused_with_a_remedy() {
    alone(|place| {
        let cases = [
            ("volume", "", "parameter volume is not set"),
            ("volume", "../x", "letters, digits"),
            ("directory", "share", "an absolute path"),
            ("directory", "/a/../b", "an absolute path"),
            ("directory", "/", "an absolute path"),
            ("server", "-x", "a host name"),
            ("options", "acl -o x", "separate options by commas"),
            ("manage_volume", "perhaps", "true or false"),
        ];
        for (name, value, said) in cases {
            let name = format!("OCF_RESKEY_{name}");
            let seen = place.call("validate-all", PATIENCE, &[(&name, value)]);
            assert_eq!(seen.code, 6, "{name}={value}: {seen:?}");
            assert!(seen.reason.contains(said), "{name}={value}: {seen:?}");
        }
    });
}

#[test]
fn a_start_mounts_and_a_stop_unmounts() {
    alone(|place| {
        // mount(8) runs this helper, which has the test mount the stand-in.
        tmpfs("/usr/sbin");
        let line = place.share.with_file_name("line");
        let done = place.share.with_file_name("done");
        for fifo in [&line, &done] {
            mkfifo(fifo, Mode::S_IRWXU).unwrap();
        }
        let helper = Path::new("/usr/sbin/mount.glusterfs");
        let script = format!(
            "#!/bin/sh\necho \"$*\" > {}\nread x < {}\n",
            line.display(),
            done.display()
        );
        fs::write(helper, script).unwrap();
        fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_dir(&place.share).unwrap();

        let options = [("OCF_RESKEY_options", "acl,entry-timeout=1")];
        let mut start = place.command("start", PATIENCE, &options);
        let mut start = Process(start.spawn().unwrap());
        let asked = fs::read_to_string(&line).unwrap();
        let share = place.share.display();
        assert_eq!(
            asked.trim_end(),
            format!(
                "localhost:/vol {share} -o rw,acl,entry-timeout=1,attribute-timeout=0,\
                 direct-io-mode=enable,auto-invalidation=yes"
            )
        );
        let mode = fs::metadata(&place.share).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let _server = Server::mount("localhost:/vol", &place.share);
        fs::write(&done, "x\n").unwrap();
        assert!(start.0.wait().unwrap().success());

        assert_eq!(place.probe().code, 0);
        assert_eq!(place.monitor().code, 0);
        assert_eq!(place.start().code, 0);
        assert_eq!(place.stop().code, 0);
        assert!(place.mounted().is_empty());
        assert_eq!(place.monitor().code, 7);
        assert_eq!(place.stop().code, 0);
    });
}

#[test]
fn a_mount_of_an_earlier_version_is_degraded() {
    alone(|place| {
        // Without `gluster` there is nothing to ask of the volume.
        tmpfs("/usr/sbin");
        let _server = place.serve();
        let program = place.share.with_file_name("glusterfs");
        fs::copy(Path::new("/bin/sh").canonicalize().unwrap(), &program).unwrap();
        let client = |options: &[&str]| {
            let mut command = Command::new(&program);
            command.args(["-c", "read x; exit"]).args(options);
            command.arg(&place.share).stdin(Stdio::piped());
            Process::start(&mut command, "glusterfs")
        };
        let monitor = |options| {
            let more = [
                ("OCF_RESKEY_CRM_meta_interval", "60000"),
                ("OCF_CHECK_LEVEL", "10"),
                ("OCF_RESKEY_options", options),
            ];
            place.call("monitor", PATIENCE, &more)
        };
        assert_eq!(monitor("").code, 0, "no client is seen");
        let now = [
            "--attribute-timeout=0",
            "--entry-timeout=0",
            "--direct-io-mode=enable",
            "--auto-invalidation=yes",
        ];
        let good = client(&now);
        let seen = monitor("");
        assert_eq!(seen.code, 0, "{seen:?}");
        drop(good);

        let _old = client(&now[1..]);
        let seen = monitor("");
        assert_eq!(seen.code, 190, "{seen:?}");
        assert!(
            seen.reason
                .starts_with("volume vol: mounted without attribute-timeout=0, with"),
            "{seen:?}"
        );
        let seen = monitor("attribute-timeout=1");
        assert_eq!(seen.code, 0, "as the administrator wants it: {seen:?}");
        assert_eq!(place.monitor().code, 0);
    });
}

#[test]
fn a_foreign_mount_is_reported_and_left_alone() {
    alone(|place| {
        tmpfs(&place.share);
        let seen = place.monitor();
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason.starts_with("tmpfs (tmpfs) is mounted at "),
            "{seen:?}"
        );
        assert!(
            seen.reason.contains("not localhost:/vol: unmount it"),
            "{seen:?}"
        );
        assert_eq!(place.stop().code, 0);
        assert_eq!(place.mounted(), ["tmpfs"]);
    });
    alone(|place| {
        let _other = Server::mount("localhost:/vol2", &place.share);
        let seen = place.monitor();
        assert_eq!(seen.code, 1);
        assert!(
            seen.reason.starts_with("localhost:/vol2 (fuse.glusterfs)"),
            "{seen:?}"
        );
    });
}

#[test]
fn a_mount_over_ours_does_not_keep_it() {
    alone(|place| {
        let _server = place.serve();
        tmpfs(&place.share);
        assert_eq!(place.monitor().code, 1);
        let stop = place.stop();
        assert_eq!(stop.code, 0, "{stop:?}");
        assert!(place.mounted().is_empty());
    });
}

#[test]
fn users_are_ended_and_bystanders_are_not() {
    alone(|place| {
        let _server = place.serve();
        let mut polite = Process::at(&place.share);
        let mut deaf = Command::new("env");
        deaf.args(["--ignore-signal=TERM", "sleep", "1000"])
            .stdin(Stdio::null());
        let mut deaf = Process::start(deaf.current_dir(&place.share), "sleep");

        let neighbour = PathBuf::from(format!("{}2", place.share.display()));
        fs::create_dir(&neighbour).unwrap();
        let mut beside = Process::at(&neighbour);
        let mut naming = Command::new("cat");
        naming.arg("-").arg(&place.share).stdin(Stdio::piped());
        let mut naming = Process::start(&mut naming, "cat");
        // The same path in another namespace is another file system.
        let mut elsewhere = {
            let (share, neighbour) = (place.share.clone(), neighbour.clone());
            let apart = move || {
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
                while nix::mount::umount(&share).is_ok() {}
                mount(
                    Some(&neighbour),
                    &share,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )
                .unwrap();
                Process::at(&share)
            };
            thread::spawn(apart).join().unwrap()
        };

        let stop = place.call("stop", Duration::from_secs(12), &[]);
        assert_eq!(stop.code, 0, "{stop:?}");
        assert!(place.mounted().is_empty());
        let ends =
            |process: &mut Process| eventually("its end", || (!process.lives()).then_some(()));
        ends(&mut polite);
        ends(&mut deaf);
        assert!(beside.lives() && naming.lives() && elsewhere.lives());
        let _open: Option<ChildStdin> = naming.0.stdin.take();
    });
}

#[test]
fn a_mount_that_hangs_hangs_no_action() {
    alone(|place| {
        let server = place.serve();
        server.fall_silent();
        // Somebody waits where no signal reaches it.
        let mut asking = Command::new("stat");
        asking.arg("-f").arg(&place.share).stdin(Stdio::null());
        let mut stuck = Process::start(&mut asking, "stat");
        eventually("a request that waits", || (server.kept() > 0).then_some(()));
        stuck.0.kill().unwrap();

        for more in [&[][..], &[("OCF_RESKEY_CRM_meta_interval", "10000")][..]] {
            let seen = place.call("monitor", Duration::from_secs(3), more);
            assert_eq!(seen.code, 1, "{seen:?}");
            assert!(seen.reason.contains(" hangs"), "{seen:?}");
        }
        assert!(stuck.lives());
        let stop = place.call("stop", Duration::from_secs(30), &[]);
        assert_eq!(stop.code, 0, "{stop:?}");
        assert!(stop.took < Duration::from_secs(25), "{stop:?}");
        assert!(place.mounted().is_empty());
        eventually("the end of the stuck one", || {
            (!stuck.lives()).then_some(())
        });
    });
}

#[test]
fn a_mount_that_waits_for_a_fencing_is_not_waited_for() {
    alone(|place| {
        tmpfs("/usr/sbin");
        fs::write("/usr/sbin/mount.glusterfs", "").unwrap();
        let server = place.serve();
        server.fall_silent();
        place.machine.write("cib", LOST);
        let monitor = [("OCF_RESKEY_CRM_meta_interval", "10000")];
        for (action, more) in [("start", &[][..]), ("monitor", &monitor), ("monitor", &[])] {
            let seen = place.call(action, PATIENCE, more);
            assert_eq!(seen.code, 0, "{seen:?}");
            assert!(seen.took < PATIENCE / 2, "{seen:?}");
            assert!(seen.said.contains("a lost node is to be fenced first"));
        }
        assert_eq!(place.mounted(), ["fuse.glusterfs"], "as it was");
        assert_eq!(place.stop().code, 0);

        // Mounting waits as well.
        place.machine.noting("mount", "exec sleep 1000\n");
        let seen = place.start();
        assert_eq!(seen.code, 1, "{seen:?}");
        assert!(seen.took < PATIENCE / 2, "{seen:?}");
        assert_eq!(place.machine.asked().len(), 1);
    });
}

#[test]
fn a_dead_mount_is_noticed_and_removed() {
    alone(|place| {
        let mut server = place.serve();
        let mut user = Process::at(&place.share);
        server.die();
        let seen = place.monitor();
        assert_eq!(seen.code, 1);
        assert!(seen.reason.contains("does not answer"), "{seen:?}");
        assert!(seen.reason.contains("/var/log/glusterfs/"), "{seen:?}");
        assert_eq!(place.probe().code, 1);
        let stop = place.stop();
        assert_eq!(stop.code, 0, "{stop:?}");
        assert!(place.mounted().is_empty());
        eventually("the user's end", || (!user.lives()).then_some(()));
    });
}

#[test]
fn a_stop_from_within_the_mount_succeeds() {
    alone(|place| {
        let _server = place.serve();
        let mut command = place.command("stop", PATIENCE, &[]);
        assert!(
            command
                .current_dir(&place.share)
                .status()
                .unwrap()
                .success()
        );
        assert!(place.mounted().is_empty());
    });
}
