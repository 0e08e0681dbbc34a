//! The orchestrator: one storhaug.conf becomes one cluster.
