//! The launcher of processes, with real ones: how Jobs end, and what is left when any process around them is killed.

mod deletion;
mod ending;
mod installation;
mod killed;
mod rig;
mod seen;
