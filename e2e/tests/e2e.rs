//! The end-to-end suite: one binary, a module an area.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // tests: a failed unwrap is a failed test

mod e2e {
    mod browser;
    mod cgroup_v2;
    mod clients;
    mod concurrency;
    mod conform;
    mod crash;
    mod dev;
    mod diagnosis;
    mod events;
    mod extensions;
    mod faults;
    mod gate;
    mod harness;
    mod hostile;
    mod labs;
    mod limits;
    mod machine;
    mod network;
    mod parallel;
    mod php;
    mod process;
    mod results;
    mod shell;
    mod streaming;
    mod terminal;
    mod trace;
    mod tutorial;
    mod user;
}
