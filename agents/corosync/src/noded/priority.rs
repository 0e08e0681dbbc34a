//! Lets a thread run before all others when seconds count.
//!
//! A failover is when a node is busiest: CTDB recovers its databases at real-time
//! priority, and every client comes back at once. Corosync and ctdbd run ahead
//! of that for the same reason. What is done at this priority takes milliseconds,
//! and a second for 50,000 clients; the kernel keeps a twentieth of each second
//! for everything else (`sched_rt_runtime_us`, sched(7)).

use nix::errno::Errno;
use nix::libc;

/// Before ctdbd, which has 1 (ctdb/common/system.c), and far below Corosync's 99.
const PRIORITY: libc::c_int = 2;

/// Gives the calling thread a real-time priority, which threads and processes
/// that it starts do not inherit. Where that is not allowed, as in some
/// containers, it is logged, and the thread runs as any other.
pub fn raise() {
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    let priority = libc::sched_param {
        sched_priority: PRIORITY,
    };
    #[expect(
        unsafe_code,
        reason = "nix has no sched_setscheduler(2), which only reads what it is given"
    )]
    let set = unsafe { libc::sched_setscheduler(0, policy, &raw const priority) };
    if let Err(error) = Errno::result(set) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a thread");
        tracing::warn!("{name} runs without real-time priority: {error}");
    }
}
