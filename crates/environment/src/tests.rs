//! Whole environments over a sandbox that is not one: its guests are tasks of this process that
//! speak HTTP over loopback, and time moves only when a test says so.

pub(crate) mod fixture;

mod extensions;
mod faults;
mod freeze;
mod init;
mod invoke;
mod on_purpose;
mod random;
mod shell;
mod streaming;
mod without_walls;
