//! `ocf:storhaug:ganesha`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::ganesha::Ganesha>()
}
