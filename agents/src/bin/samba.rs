//! `ocf:storhaug:samba`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::samba::Samba>()
}
