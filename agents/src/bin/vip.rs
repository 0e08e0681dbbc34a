//! `ocf:storhaug:vip`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::vip::Vip>()
}
