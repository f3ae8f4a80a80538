//! The end-to-end suite: one binary, a module an area.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // tests: a failed unwrap is a failed test

mod e2e {
    mod browser;
    mod cgroup_v2;
    mod clients;
    mod concurrency;
    mod conform;
    mod crash;
    mod diagnosis;
    mod extensions;
    mod faults;
    mod harness;
    mod hostile;
    mod labs;
    mod limits;
    mod machine;
    mod network;
    mod parallel;
    mod php;
    mod results;
    mod streaming;
    mod terminal;
    mod tutorial;
    mod user;
}
