//! The stories: what storhaug promises, told on a real cluster.
//!
//! One lab per release is brought up and set up once, and its disks are
//! remembered. Every story starts from a cluster that is whole: as the one before
//! it left it, or, after one that failed or changed the configuration, from those
//! disks. A story is a function: it does something,
//! waits for a condition with a deadline, and asserts. [`STORIES`] is the only
//! list of them.

mod agents;
mod client;
mod cluster;
mod ctdb;
mod daemons;
mod domain;
mod files;
mod labs;
mod moves;
mod nodes;
mod nodes_change;
mod runner;
mod setup;
mod smb;

use std::process::ExitCode;

use clap::Parser;

use crate::runner::{Arguments, Story};

/// Every story, in the order in which they are told. `everywhere` is for those
/// that a second release can tell otherwise than the first: they are told on
/// every release, the rest on the first one unless releases are named.
/// Each leaves the cluster whole for the next, or says that it is `changing`.
const STORIES: &[Story] = &[
    Story::everywhere("second-setup", setup::second_setup),
    Story::once("bad-input", files::bad_input),
    Story::once("another-name", files::another_name),
    Story::once("a-lab-that-was-killed", labs::killed),
    Story::everywhere("agents-keep-the-contract", agents::keep_the_contract),
    Story::everywhere("crash", nodes::crash),
    Story::once("cut-off", nodes::cut_off),
    Story::once("returning-node", nodes::returning),
    Story::once("reboot", nodes::reboot),
    Story::once("drained-in-turn", nodes_change::drained_in_turn),
    Story::once("removed-and-added", nodes_change::removed_and_added).changing(),
    Story::once("two-crashes", moves::two_crashes),
    Story::once("noded-killed", moves::noded_killed),
    Story::once("noded-restarted", moves::noded_restarted),
    Story::once("planned-move", moves::planned),
    Story::everywhere("copied-address", moves::copied),
    Story::once("both-forms", setup::both_forms),
    Story::once("edit", setup::edit),
    Story::once("password", setup::password),
    Story::once("plan-cost", setup::plan_cost).changing(),
    Story::once("interrupted-setup", setup::interrupted),
    Story::once("teardown", setup::teardown),
    Story::once("killed-daemon", daemons::killed),
    Story::once("frozen-ctdbd", daemons::frozen_ctdbd),
    Story::once("daemon-gone", daemons::gone),
    Story::once("winbindd", daemons::winbindd),
    Story::once("unmounted", daemons::unmounted),
    Story::everywhere("only-a-database", ctdb::only_a_database),
    Story::once("ctdbd-killed", ctdb::ctdbd_killed),
    Story::once("power-cut", ctdb::power_cut),
    Story::once("damaged-databases", ctdb::damaged_databases),
    Story::once("registry-shares", smb::registry_shares),
    Story::once("counting", smb::counting),
    Story::once("late-volume", smb::late_volume),
    Story::once("smbtorture", smb::smbtorture),
    Story::once("sixteen-sessions", smb::sessions),
    Story::once("nodes-come-and-go", ctdb::nodes_come_and_go),
    Story::once("fourth-node", ctdb::fourth_node).changing(),
    Story::everywhere("idle-clients", moves::idle_clients).changing(),
    Story::once("domain-member", domain::member).changing(),
    Story::once("leader-cut-off", ctdb::leader_cut_off).changing(),
];

fn main() -> ExitCode {
    match runner::run(STORIES, &Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("stories: {error:#}");
            ExitCode::FAILURE
        }
    }
}
