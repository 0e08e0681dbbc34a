//! `ocf:storhaug:noded`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::noded::Noded>()
}
