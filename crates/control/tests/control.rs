//! The control plane over a real store and real trees.
#![allow(clippy::unwrap_used)]

#[path = "control/aliases.rs"]
mod aliases;
#[path = "control/concurrency.rs"]
mod concurrency;
#[path = "control/crash.rs"]
mod crash;
#[path = "control/fixture.rs"]
mod fixture;
#[path = "control/functions.rs"]
mod functions;
#[path = "control/garbage.rs"]
mod garbage;
#[path = "control/golden.rs"]
mod golden;
#[path = "control/layers.rs"]
mod layers;
#[path = "control/limits.rs"]
mod limits;
#[path = "control/races.rs"]
mod races;
#[path = "control/tags.rs"]
mod tags;
#[path = "control/versions.rs"]
mod versions;
