//! A daemon of the distribution that is well when it answers: how it is started,
//! and looked at.
//!
//! Nothing here waits for a daemon that itself waits for a lost node to be fenced:
//! Pacemaker would wait for the end of the action with the fencing ([`fencing`]).
//! So a start may end before the daemon answers, and the monitors then have the
//! patience that the start did not have.

use std::time::Duration;

use crate::{
    attribute::Attribute,
    deadline::{Deadline, Expired},
    fencing,
    mark::Mark,
    ocf::{Ctx, Failure, Level, State},
    systemd::Unit,
};

/// How long a daemon that starts may take for one answer, before it is seen
/// whether it is there still.
const FIRST: Duration = Duration::from_secs(2);

/// How long a monitor waits for one answer, before it is seen whether the daemon
/// itself waits for something, or a signal has stopped it; and for how long it then
/// waits for another. One that is slow gets the rest of the time for one answer.
const ATTEMPTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// What a monitor that gets no answer leaves of its time for asking why, and for
/// telling Pacemaker.
const REST: Duration = Duration::from_secs(3);

/// How long a daemon may take to answer for the first time, once it waits for
/// nothing any more; as long as a start.
const STARTING: Duration = Duration::from_secs(60);

/// Where it is written down which daemons have not answered yet.
const MARKS: &str = "/run/storhaug/starting";

/// A daemon, by its unit and by a question.
pub trait Service {
    /// The name of the program.
    fn program(&self) -> &'static str;

    /// The unit that runs it.
    ///
    /// # Errors
    /// systemd does not answer.
    fn unit(&self, ctx: &Ctx) -> anyhow::Result<Unit>;

    /// The attribute of a node on which it serves.
    fn attribute(&self) -> Option<Attribute>;

    /// Asks it what a client would ask.
    ///
    /// # Errors
    /// It does not answer by `deadline`.
    fn ask(&self, ctx: &Ctx, deadline: Deadline) -> anyhow::Result<()>;

    /// Asks one that starts what it has to answer before it is used.
    ///
    /// # Errors
    /// It does not answer by `deadline`.
    fn ask_first(&self, ctx: &Ctx, deadline: Deadline) -> anyhow::Result<()> {
        self.ask(ctx, deadline)
    }

    /// What it waits for when it does not answer, and no restart would end.
    fn hold_up(&self, ctx: &Ctx) -> Option<&'static str> {
        fencing::is_due(ctx).then_some(fencing::FIRST)
    }

    /// Looks for what is left where its unit is down.
    ///
    /// # Errors
    /// Something is.
    fn absence(&self, _: &Ctx) -> anyhow::Result<()> {
        Ok(())
    }

    /// What is wrong though it answers, and a restart would not help; asked from
    /// depth 10 on.
    fn complaint(&self, ctx: &Ctx) -> Option<String>;
}

/// What is seen of a daemon.
enum Seen {
    Answers,
    /// It does not answer, and this is why that is no failure of its own.
    Waits(&'static str),
    Gone,
}

/// Starts a daemon, and waits until it answers, or until a fencing is due.
///
/// # Errors
/// It ended again, or does not answer in time.
pub fn start(service: &impl Service, ctx: &Ctx) -> Result<(), Failure> {
    let unit = service.unit(ctx)?;
    unit.start(ctx)?;
    let program = service.program();
    let mut last = None;
    let answers = unit.until_ready(ctx, &format!("{program} to answer"), || {
        match service.ask_first(ctx, ctx.deadline.earlier(FIRST)) {
            Ok(()) => return Ok(Some(true)),
            Err(error) => last = Some(error),
        }
        Ok(fencing::is_due(ctx).then_some(false))
    });
    match (answers, last) {
        (Ok(true), _) => {
            mark(ctx).clear();
            if let Some(attribute) = service.attribute() {
                attribute.publish(ctx);
            }
            Ok(())
        }
        (Ok(false), _) => {
            unit.ended(ctx)?;
            mark(ctx).set();
            let news = format!("{program} does not answer yet: {}", fencing::FIRST);
            ctx.log(Level::Warning, &news);
            Ok(())
        }
        (Err(error), Some(last)) if error.is::<Expired>() => {
            Err(last.context(error.to_string()).into())
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// Looks at a daemon, and keeps its attribute up to date.
///
/// # Errors
/// It is there and does not answer, for no reason but its own.
pub fn monitor(service: &impl Service, ctx: &Ctx) -> Result<State, Failure> {
    let seen = look(service, ctx);
    if let Some(attribute) = service.attribute().filter(|_| !ctx.probe) {
        match seen {
            Ok(Seen::Answers) => attribute.publish(ctx),
            // As before: no other node does better.
            Ok(Seen::Waits(_)) => {}
            Ok(Seen::Gone) | Err(_) => attribute.withdraw(ctx),
        }
    }
    let (complaint, hold_up) = match seen? {
        Seen::Gone => return Ok(State::NotRunning),
        Seen::Waits(reason) => (
            format!("{} does not answer", service.program()),
            Some(reason),
        ),
        Seen::Answers => match (ctx.depth >= 10).then(|| service.complaint(ctx)).flatten() {
            None => return Ok(State::Running),
            Some(complaint) => (complaint, service.hold_up(ctx)),
        },
    };
    Ok(match hold_up {
        None => State::Degraded(complaint),
        Some(reason) => {
            ctx.log(Level::Warning, &format!("{complaint}: {reason}"));
            State::Running
        }
    })
}

fn look(service: &impl Service, ctx: &Ctx) -> anyhow::Result<Seen> {
    let gone = || service.absence(ctx).map(|()| Seen::Gone);
    // The unit costs a process to look at: when the daemon answers, only
    // those ask who want to know it exactly.
    if (ctx.probe || ctx.depth >= 10) && service.unit(ctx)?.state(ctx)?.is_ended() {
        return gone();
    }
    let by = ctx.deadline.before((ctx.deadline.left() / 4).min(REST));
    // One whose start was not waited for is asked what a start asks.
    let starting = mark(ctx).age();
    let mut attempts = ATTEMPTS.into_iter();
    loop {
        let attempt = attempts.next().map_or(by, |patience| by.earlier(patience));
        let answer = match starting {
            Some(_) => service.ask_first(ctx, attempt),
            None => service.ask(ctx, attempt),
        };
        let Err(error) = answer else {
            if starting.is_some() && !ctx.probe {
                mark(ctx).clear();
            }
            return Ok(Seen::Answers);
        };
        let state = service.unit(ctx)?.state(ctx)?;
        if state.is_ended() {
            return gone();
        }
        if let Some(reason) = service.hold_up(ctx) {
            if starting.is_some() && !ctx.probe {
                mark(ctx).set();
            }
            return Ok(Seen::Waits(reason));
        }
        if state.is_suspended(ctx) {
            return Err(error.context(format!("a signal has stopped {}", service.program())));
        }
        if starting.is_some_and(|age| age < STARTING) {
            return Ok(Seen::Waits("it could not start until now"));
        }
        // What was refused would be refused again.
        if by.expired() || !attempt.expired() {
            return Err(error.context(format!("{} is {state}", service.program())));
        }
    }
}

/// Says that a daemon has been started and has not answered yet, since it last
/// waited for something.
fn mark(ctx: &Ctx) -> Mark {
    Mark::at(ctx.path(MARKS).join(ctx.instance))
}
