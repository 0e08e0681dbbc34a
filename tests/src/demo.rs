//! `storhaug-lab demo`: the main job in five minutes. One file becomes a
//! cluster, a client writes through a virtual address, the node behind the
//! address dies, and every acknowledged write is read back.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::writer::Writer;
use crate::{Lab, Options, Power, wait};

const FIRST: &str = "node1";
const CONF: &str = "/etc/storhaug/storhaug.conf";
/// Ten times what `setup` takes.
const SETUP: Duration = Duration::from_secs(600);
/// A dead node's address has to be elsewhere by then, and the node back.
const FAILOVER: Duration = Duration::from_secs(90);
const RETURN: Duration = Duration::from_secs(240);

/// The lab's cluster in the slides' form: the same three nodes, addresses and
/// fencing as the file that `up` leaves on node1.
pub const SLIDES: &str = r#"HA_NAME="lab"
HA_CLUSTER_NODES="node1,node2,node3"
HA_VIPS="10.77.0.101/24 10.77.0.102/24 10.77.0.103/24"
HA_SMB_VOLUMES="share"
HA_FENCE_AGENT="fence_lab"
HA_FENCE_OPTIONS="socket=/var/lib/fence_lab/socket"
HA_FENCE_OPTIONS_node1="plug=node1"
HA_FENCE_OPTIONS_node2="plug=node2"
HA_FENCE_OPTIONS_node3="plug=node3"
"#;

/// Shows it, in a lab that is new and is taken down whatever happens.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let mut tale = Tale {
        begun: Instant::now(),
        out,
    };
    tale.say("three machines and their Gluster volumes are being made")?;
    let told = Lab::up(options).and_then(|lab| tell(&lab, &mut tale));
    let down = Lab::down(&options.name);
    told?;
    down?;
    tale.say("the lab is down")
}

fn tell<W: Write>(lab: &Lab, tale: &mut Tale<'_, W>) -> Result<()> {
    let first = lab.node(FIRST);
    tale.say(&format!("the machines run; {CONF} on {FIRST}:"))?;
    tale.quote(SLIDES)?;
    first.write(CONF, SLIDES.as_bytes(), 0o644)?;

    tale.say("storhaug setup")?;
    let setup = first
        .command(["storhaug", "setup"])?
        .limit(SETUP)
        .output()?;
    tale.quote(&setup.stderr())?;
    setup.checked()?;
    lab.settle(&lab.vips(), SETUP)?;
    tale.say("the cluster serves")?;

    let address = *lab.vips().first().context("the lab has addresses")?;
    let writer = Writer::start(lab, address, "demo")?;
    writer.wait_for(30)?;
    let holder = lab.holder(address)?.context("no node holds the address")?;
    tale.say(&format!(
        "a client writes through {address}, which is on {holder}"
    ))?;

    let boots = lab.boots(&holder)?;
    let crash = Instant::now();
    lab.crash(&holder)?;
    tale.say(&format!("{holder} has lost its power"))?;
    let survivor = wait::until("the address is on a survivor", FAILOVER, || {
        Ok(lab.holder(address)?.filter(|node| *node != holder))
    })?;
    let moved = crash.elapsed();
    tale.say(&format!("{address} is on {survivor}"))?;
    let write = wait::until("a write succeeds", FAILOVER, || {
        // What was under way at the crash may be acknowledged just after it.
        Ok(writer.first_after(crash + Duration::from_secs(1)))
    })?;
    tale.say("the client writes again")?;
    wait::until_true("the node has power again", FAILOVER, || {
        Ok(lab.power(&holder)? == Power::On)
    })?;
    tale.say(&format!("{holder} was fenced, and boots"))?;
    lab.settle(&lab.vips(), RETURN)?;
    ensure!(
        lab.boots(&holder)? == boots + 1,
        "{holder} was powered on more than once"
    );
    tale.say(&format!(
        "{holder} is back, and everything runs where it should"
    ))?;

    let log = writer.finish()?;
    log.verify(lab, address)?;
    let seconds = |time: Duration| format!("{:6.1} s", time.as_secs_f64());
    tale.say("figures:")?;
    tale.quote(&format!(
        "address on a survivor   {} after the crash\n\
         first new write         {} after the crash\n\
         longest gap of writes   {}\n\
         acknowledged writes     {:6}, all read back, checksums right\n",
        seconds(moved),
        seconds(write - crash),
        seconds(log.longest_gap()),
        log.len(),
    ))
}

/// What is told, with the time since the beginning.
struct Tale<'a, W> {
    begun: Instant,
    out: &'a mut W,
}

impl<W: Write> Tale<'_, W> {
    fn say(&mut self, what: &str) -> Result<()> {
        writeln!(
            self.out,
            "{:6.1} s  {what}",
            self.begun.elapsed().as_secs_f64()
        )?;
        Ok(self.out.flush()?)
    }

    fn quote(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            writeln!(self.out, "          {line}")?;
        }
        Ok(self.out.flush()?)
    }
}
