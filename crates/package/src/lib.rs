//! Deployment packages: zips in, immutable trees out; layers merged; deterministic zips out.
//!
//! A zip flows in as an open file and is hostile until proven: [`Trees::add`] checks every
//! entry before it writes the first one, unpacks into a temporary folder and renames it to
//! `trees/<sha256 of the zip>/`. What flows out are paths of trees that never change, ready to
//! be bind-mounted read-only as `/var/task` and `/opt`, and [`Finding`]s, sentences that say
//! why a `bootstrap` cannot run. Forbidden here: the store, the network, and following any
//! link of an archive on the host.

mod archive;
mod diagnose;
mod elf;
mod error;
mod fs;
mod guest_path;
mod merge;
mod name;
mod pack;
#[cfg(test)]
mod testzip;
mod trees;
mod unpack;

pub use diagnose::{Finding, LIBRARY_PATH, PATH, View, diagnose};
pub use error::{PackageError, Rejection};
pub use pack::{PackError, pack};
pub use trees::{Hold, Limits, Live, Options, TreeInfo, Trees};
