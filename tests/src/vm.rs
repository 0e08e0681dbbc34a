//! The client machine with a kernel of its own: for what only a kernel does,
//! `mount.cifs` and `mount.nfs`.
//!
//! QEMU without hardware help boots Debian's kernel in a few seconds, its root
//! the same image as every machine's, over 9p. Commands go in by ssh from the
//! client host, which passes streams and the exit status through.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};

use crate::command::Cmd;
use crate::layout::Layout;
use crate::{Lab, cell, disk, network, wait};

/// The machine's name: of its disk, its cell and its port at the switch.
const VM: &str = "vm";
/// Its address; see `vm/boot`.
const ADDRESS: &str = "10.77.0.111";
/// Where its kernels are kept.
const CACHE: &str = "/var/cache/storhaug-lab";
/// Modules without which the root cannot be mounted; what they depend on
/// comes with them.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p"];
/// A boot takes five seconds, more on a busy machine.
const BOOT: Duration = Duration::from_secs(120);
const KEY: &str = "/root/.ssh/vm";

const INIT: &str = include_str!("vm/init");
const BOOT_SCRIPT: &str = include_str!("vm/boot");

/// Runs a command in the machine, which is booted if it is not up; standard
/// input and output are the caller's.
pub fn run(lab: &Lab, argv: &[String]) -> Result<ExitStatus> {
    start(lab)?;
    command(lab, argv)?.pass()
}

/// Boots the machine if it is not up.
pub fn start(lab: &Lab) -> Result<()> {
    if answers(lab) {
        return Ok(());
    }
    // A busy one may take its time to answer, and must not be booted twice.
    if !cell::is_alive(lab.layout(), VM)? {
        boot(lab)?;
    }
    wait::until_true("the client machine answers", BOOT, || Ok(answers(lab)))
}

/// A command in the machine, which has to be up.
pub fn command<S: AsRef<str>>(lab: &Lab, argv: impl AsRef<[S]>) -> Result<Cmd> {
    Ok(lab.client().command(ssh())?.arg(quoted(argv.as_ref())))
}

fn answers(lab: &Lab) -> bool {
    lab.client()
        .command(ssh())
        .and_then(|ssh| ssh.arg("true").limit(Duration::from_secs(10)).run())
        .is_ok()
}

fn ssh() -> Vec<String> {
    let target = format!("root@{ADDRESS}");
    [
        "ssh",
        "-q",
        "-i",
        KEY,
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=30",
    ]
    .into_iter()
    .chain([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ])
    .chain([target.as_str(), "--"])
    .map(str::to_owned)
    .collect()
}

/// An argv as the one line that ssh hands to a shell on the other side.
fn quoted<S: AsRef<str>>(argv: &[S]) -> String {
    let word = |word: &S| format!("'{}'", word.as_ref().replace('\'', r"'\''"));
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn boot(lab: &Lab) -> Result<()> {
    let (layout, facts) = (lab.layout(), lab.facts());
    let kernel = Kernel::get()?;
    disk::create(layout, VM)?;
    let root = disk::attach(layout, facts, VM)?;
    furnish(lab, &root)?;
    kernel.lend_modules(&root)?;
    let initramfs = layout.disk(VM).join("initramfs");
    kernel.initramfs(&layout.disk(VM), &initramfs)?;
    connect(layout)?;
    let switch = network::switch(layout);
    // The process outlives this one; the lab's `down` ends it with its cell.
    lab.confined(VM, ["ip", "netns", "exec", &switch, "qemu-system-x86_64"])?
        .args(["-accel", "tcg,thread=multi", "-smp", "1", "-m", "1024"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            "stdio",
        ])
        .args(["-kernel", &kernel.image().display().to_string()])
        .args(["-initrd", &initramfs.display().to_string()])
        .args(["-append", "console=ttyS0 quiet panic=-1", "-no-reboot"])
        .arg("-virtfs")
        .arg(format!(
            "local,path={},mount_tag=root,security_model=none,multidevs=remap",
            root.display()
        ))
        .args(["-netdev", "tap,id=net,ifname=vm,script=no,downscript=no"])
        .args([
            "-device",
            "virtio-net-pci,netdev=net,mac=02:00:00:00:77:6f,romfile=",
        ])
        .spawn(&layout.disk(VM).join("console.log"))?;
    Ok(())
}

/// What the root needs beside the image: the boot script, and the key with
/// which the client host comes in.
fn furnish(lab: &Lab, root: &Path) -> Result<()> {
    let script = root.join("usr/local/sbin/vm-boot");
    fs::write(&script, BOOT_SCRIPT).with_context(|| format!("writing {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    for dir in ["lib/modules", "root/.ssh"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("creating {dir}"))?;
    }
    let client = lab.client();
    client.run(["rm", "-f", KEY])?;
    client.run(["mkdir", "-p", "/root/.ssh"])?;
    client.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY])?;
    let public = client.run(["cat", &format!("{KEY}.pub")])?;
    fs::write(root.join("root/.ssh/authorized_keys"), public).context("writing the vm's key")?;
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Connects the machine's interface to the switch.
fn connect(layout: &Layout) -> Result<()> {
    let switch = network::switch(layout);
    // A machine that died has left its port.
    let _ = Cmd::new("ip")
        .args(["-n", &switch, "link", "del", VM])
        .output()?;
    Cmd::new("ip")
        .args(["-n", &switch, "tuntap", "add", VM, "mode", "tap"])
        .run()?;
    Cmd::new("ip")
        .args(["-n", &switch, "link", "set", VM, "master", "br0", "up"])
        .run()?;
    Ok(())
}

/// Debian's kernel, unpacked from its package.
struct Kernel {
    dir: PathBuf,
    version: String,
}

impl Kernel {
    /// The kernel that Debian's `linux-image-amd64` depends on; fetched at the
    /// first use. The cloud flavour has neither cifs nor nfs.
    fn get() -> Result<Self> {
        let mut package = newest();
        if package.is_err() {
            Cmd::new("apt-get").args(["-q", "update"]).run()?;
            package = newest();
        }
        let package = package?;
        let version = package.trim_start_matches("linux-image-").to_owned();
        let dir = Path::new(CACHE).join(&package);
        if !dir.exists() {
            fetch(&package, &version, &dir).with_context(|| format!("fetching {package}"))?;
        }
        Ok(Self { dir, version })
    }

    fn image(&self) -> PathBuf {
        self.dir
            .join("boot")
            .join(format!("vmlinuz-{}", self.version))
    }

    fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules").join(&self.version)
    }

    /// Shows the modules in the machine's root.
    fn lend_modules(&self, root: &Path) -> Result<()> {
        let point = root.join("lib/modules").join(&self.version);
        if point.join("modules.dep").exists() {
            return Ok(());
        }
        fs::create_dir_all(&point).with_context(|| format!("creating {}", point.display()))?;
        mount(
            Some(&self.modules()),
            &point,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("mounting {}", point.display()))
    }

    /// Packs busybox, the modules in the order in which they have to be
    /// loaded, and the first program.
    fn initramfs(&self, scratch: &Path, archive: &Path) -> Result<()> {
        let tree = scratch.join("initramfs.d");
        for dir in ["bin", "modules", "proc", "root", "dev"] {
            fs::create_dir_all(tree.join(dir)).with_context(|| format!("creating {dir}"))?;
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).context("copying busybox")?;
        let init = tree.join("init");
        fs::write(&init, INIT).context("writing the first program")?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        for (number, module) in self.load_order()?.iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let copy = tree.join("modules").join(format!("{number:02}-{name}"));
            fs::copy(module, copy).with_context(|| format!("copying {}", module.display()))?;
        }
        let names = Cmd::new("find")
            .arg(tree.display().to_string())
            .args(["-printf", "%P\\n"]);
        let packed = Cmd::new("cpio")
            .args([
                "--quiet",
                "-o",
                "-H",
                "newc",
                "-D",
                &tree.display().to_string(),
            ])
            .input(names.run()?)
            .output()?;
        ensure!(
            packed.success(),
            "packing the initramfs: {}",
            packed.stderr()
        );
        fs::write(archive, packed.stdout).with_context(|| format!("writing {}", archive.display()))
    }

    fn load_order(&self) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for module in MODULES {
            let shown = Cmd::new("modprobe")
                .args(["--show-depends", "-d", &self.dir.display().to_string()])
                .args(["-S", &self.version, module])
                .run()?;
            for path in insmods(&shown) {
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        Ok(order)
    }
}

/// The paths in the output of `modprobe --show-depends` (`insmod PATH` and
/// `builtin NAME` lines).
fn insmods(shown: &str) -> Vec<PathBuf> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|path| PathBuf::from(path.trim()))
        .collect()
}

/// The package that `linux-image-amd64` stands for at the moment.
fn newest() -> Result<String> {
    let shown = Cmd::new("apt-cache")
        .args(["show", "--no-all-versions", "linux-image-amd64"])
        .run()?;
    depends(&shown).context("linux-image-amd64 depends on no kernel")
}

/// The first package of the `Depends` field.
fn depends(shown: &str) -> Option<String> {
    let field = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))?;
    field.split([' ', ',']).next().map(str::to_owned)
}

fn fetch(package: &str, version: &str, dir: &Path) -> Result<()> {
    let scratch = dir.with_file_name(format!("{package}.unfinished"));
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let path = scratch.display().to_string();
    // apt's sandbox user cannot write here.
    Cmd::new("env")
        .args([
            "-C",
            &path,
            "apt-get",
            "-q",
            "-o",
            "APT::Sandbox::User=root",
        ])
        .args(["download", package])
        .limit(Duration::from_secs(600))
        .run()?;
    let deb = fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt has downloaded nothing")?;
    Cmd::new("dpkg-deb")
        .args(["-x", &deb.display().to_string(), &path])
        .run()?;
    fs::remove_file(&deb)?;
    Cmd::new("depmod").args(["-b", &path, version]).run()?;
    fs::rename(&scratch, dir).with_context(|| format!("keeping {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argv_survives_the_shell_of_ssh() {
        let argv = ["sh", "-c", "echo 'a b' $HOME"].map(str::to_owned);
        assert_eq!(quoted(&argv), r"'sh' '-c' 'echo '\''a b'\'' $HOME'");
    }

    #[test]
    fn the_kernel_is_the_first_dependency() {
        let shown = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-48-amd64 (= 6.1.1)\n";
        assert_eq!(
            depends(shown).as_deref(),
            Some("linux-image-6.1.0-48-amd64")
        );
        assert_eq!(depends("Package: x\n"), None);
    }

    #[test]
    fn built_in_modules_are_not_loaded() {
        let shown = "builtin virtio\ninsmod /x/9pnet.ko \n";
        assert_eq!(insmods(shown), [PathBuf::from("/x/9pnet.ko")]);
    }
}
