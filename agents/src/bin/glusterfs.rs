//! `ocf:storhaug:glusterfs`.

fn main() -> std::process::ExitCode {
    storhaug_agents::ocf::main::<storhaug_agents::glusterfs::GlusterFs>()
}
