//! What the rack is asked for over its socket, one line of JSON each way: by
//! the lab's own verbs, and by the fence agent inside the nodes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// Longer than the rack takes to kill a machine that does not die at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be asked. Machines are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Power on; nothing happens to a machine that is on.
    On(String),
    /// Power off at once, as by pulling the cord.
    Off(String),
    /// Off, then on.
    Reboot(String),
    /// Takes the machine's network away.
    Cut(String),
    /// Gives it back.
    Heal(String),
    /// Tells about all machines.
    List,
}

/// What the rack answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Response {
    /// Done.
    Done,
    /// All machines.
    Machines(BTreeMap<String, Machine>),
    /// It could not be done; the reason.
    Error(String),
}

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Whether it has power.
    pub power: Power,
    /// Whether its network is cut.
    pub cut: bool,
    /// How often it was powered on.
    pub boots: u64,
    /// When it last died, in seconds since 1970, if it ever did.
    pub died: Option<f64>,
    /// Its first process, as the host numbers it, once it has one.
    pub init: Option<i32>,
}

/// Whether a machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It has, though it may not have booted.
    On,
    /// It has not, for certain.
    Off,
}

/// Asks the rack behind `socket`.
pub fn ask(socket: &Path, request: &Request) -> Result<Response> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to the lab at {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    send(&stream, request)?;
    match receive(&stream)? {
        Some(Response::Error(reason)) => Err(anyhow!(reason)),
        Some(response) => Ok(response),
        None => bail!("the lab closed the connection"),
    }
}

/// Asks the rack for all machines.
pub fn machines(socket: &Path) -> Result<BTreeMap<String, Machine>> {
    match ask(socket, &Request::List)? {
        Response::Machines(machines) => Ok(machines),
        other => bail!("the lab answered {other:?} to a question for its machines"),
    }
}

/// Writes one message.
pub fn send<T: Serialize>(mut stream: &UnixStream, message: &T) -> Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    stream
        .write_all(line.as_bytes())
        .context("writing to the socket")
}

/// Reads one message; nothing at the end of the connection.
pub fn receive<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> Result<Option<T>> {
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .context("reading from the socket")?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&line)
        .map(Some)
        .with_context(|| format!("reading `{}`", line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_form_on_the_wire() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, &Request::Off("node2".into())).unwrap();
        let mut line = String::new();
        BufReader::new(&theirs).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"off\":\"node2\"}\n");
        send(&ours, &Request::List).unwrap();
        assert_eq!(receive(&theirs).unwrap(), Some(Request::List));
        drop(ours);
        assert_eq!(receive::<Request>(&theirs).unwrap(), None);
    }
}
