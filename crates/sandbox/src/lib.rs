//! Linux isolation: a specification in, a handle out.
//!
//! In: a [`Config`] once, a [`Spec`] for each sandbox, [`Command`]s for the programs inside.
//! Out: a [`Sandbox`] with listening sockets of the inside, the read end of one output pipe, and
//! [`Event`]s. Everything that the kernel holds for a sandbox carries [`Config::owner`], so that
//! [`sweep`] removes what a killed run left and never a neighbour's.
//!
//! Forbidden here: any word of the service that is built on top, any asynchronous runtime, and any
//! of our other crates. This is the only crate with `unsafe`.
//!
//! Every program that uses the crate calls [`dispatch`] as the first statement of `main`: sandboxes
//! are cloned from a helper process, the *spawner*, which is this very program started again.

mod capabilities;
mod cgroup;
mod host;
mod ids;
mod init;
mod landlock;
mod mount;
mod netlink;
mod network;
mod processes;
mod processors;
mod programs;
mod seccomp;
mod spawner;
mod spec;
mod step;
#[allow(unsafe_code)]
mod sys;
mod template;
mod tmp;
mod unconfined;
mod wire;

pub use capabilities::{Capabilities, FreezeMode, IdMode, Note, ShellView, TmpMode};
pub use host::{
    MemorySqueeze, Program, Sandbox, Sandboxes, SocketRequest, dispatch, input_pipe, is_root,
    output_pipe, own_user, probe, set_size, sweep, terminal,
};
pub use network::user_of_peer;
pub use spec::{
    Bind, CPU_PERIOD_US, Command, Config, CreateError, Event, ExitStatus, Fault, Isolation,
    Network, ProcessId, Rootfs, Spec, StartError, Stock, User, Victim,
};
pub use step::{Step, StepError, StepOutcome, StepReport, StepTiming};
pub use sys::CloneMemory;
pub use unconfined::Unconfined;
