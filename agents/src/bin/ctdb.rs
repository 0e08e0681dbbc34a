//! `ocf:storhaug:ctdb`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::ctdb::Ctdb>()
}
