//! `ocf:storhaug:ganesha_trigger`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::ganesha_trigger::GaneshaTrigger>()
}
