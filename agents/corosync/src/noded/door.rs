//! The daemon's Unix socket: takes questions from root, one per connection, and
//! gives them to the daemon.
//!
//! However it is treated, it costs a bounded number of threads for a bounded
//! time.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use storhaug_agents::daemon::{
    ANSWER_LIMIT, Answer, Line, QUESTION_LIMIT, Question, VERSION, decode, read_line,
};
use storhaug_agents::deadline::Deadline;

/// How many clients are served at the same time; each agent is one, for
/// milliseconds.
const CLIENTS: usize = 32;

/// How long a client may take to ask.
const ASKING: Duration = Duration::from_secs(1);

/// How long the daemon may take to answer; longer than a release waits.
const ANSWERING: Duration = Duration::from_secs(5);

/// Gives a question to the daemon, and where to put the answer.
pub trait Sink: Fn(Question, SyncSender<Answer>) + Send + Sync + 'static {}

impl<T: Fn(Question, SyncSender<Answer>) + Send + Sync + 'static> Sink for T {}

/// Listens at `path`, and gives what is asked to `sink`.
///
/// # Errors
/// Another daemon listens there already.
pub fn open(path: &Path, sink: impl Sink) -> anyhow::Result<()> {
    let listener = listen(path).with_context(|| format!("listening at {}", path.display()))?;
    let (sink, clients) = (Arc::new(sink), Arc::new(AtomicUsize::new(0)));
    std::thread::Builder::new()
        .name("door".into())
        .spawn(move || {
            for stream in listener.incoming() {
                let stream = match stream {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::warn!("accepting a client: {error}");
                        continue;
                    }
                };
                let place = Place::take(&clients);
                if place.0.load(Ordering::Relaxed) > CLIENTS {
                    answer(
                        stream,
                        Answer::Refused {
                            reason: "too many clients".into(),
                        },
                    );
                    continue;
                }
                let sink = Arc::clone(&sink);
                let serve = move || {
                    let _place = place;
                    serve(stream, &*sink);
                };
                if let Err(error) = std::thread::Builder::new()
                    .name("client".into())
                    .spawn(serve)
                {
                    tracing::warn!("serving a client: {error}");
                }
            }
        })?;
    Ok(())
}

/// A client's place among those that are served.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another storhaug-noded is there");
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // Nobody but root may even connect, not for a moment.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn serve(mut stream: UnixStream, sink: &impl Sink) {
    let reply = question(&mut stream).and_then(|question| {
        let (reply, replies) = sync_channel(1);
        sink(question, reply);
        match replies.recv_timeout(ANSWERING) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => bail!("no answer in time"),
            Err(RecvTimeoutError::Disconnected) => bail!("storhaug-noded is stopping"),
        }
    });
    let reply = reply.unwrap_or_else(|error| Answer::Refused {
        reason: format!("{error:#}"),
    });
    answer(stream, reply);
}

fn question(stream: &mut UnixStream) -> anyhow::Result<Question> {
    let peer = getsockopt(stream, sockopt::PeerCredentials).context("asking who asks")?;
    if peer.uid() != 0 {
        bail!("user {} may not ask", peer.uid());
    }
    let line = read_line(stream, QUESTION_LIMIT, Deadline::after(ASKING))
        .context("reading the question")?;
    Ok(decode(&line).context("reading the question")?.body)
}

/// Answers as far as the client listens.
fn answer(mut stream: UnixStream, answer: Answer) {
    let line = serde_json::to_vec(&Line {
        version: VERSION,
        body: answer,
    });
    let Ok(mut line) = line else { return };
    line.push(b'\n');
    if line.len() > ANSWER_LIMIT {
        tracing::warn!("an answer of {} bytes is too long", line.len());
        return;
    }
    let _ = stream.set_write_timeout(Some(ASKING));
    let _ = stream.write_all(&line);
}
