//! Whole workflows by queue-manager as Jobs of a cluster, asked over REST only: whatever goes wrong in between, it ends
//! right, and nothing is left over.
//!
//! The cluster is that of the dev stack, one for each test. `ci/test-cluster.sh` runs the same on a real one; what only
//! the dev stack's can provoke says so there. On both, pods run as processes of this machine or reach it.

mod cluster;
mod given;
mod hurt;
mod rig;
mod stuck;
mod unreachable;
mod whole;
