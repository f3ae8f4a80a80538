//! Many at once.

use std::sync::mpsc;

use lambfold_sandbox::Spec;

use crate::Test;
use crate::world::{Inside, PATIENCE, World, bash, spec, wait_for};

pub const TESTS: &[Test] = &[(
    "burst::it_is_made_on_half_of_the_processors_and_what_serves_has_the_others",
    it_is_made_on_half_of_the_processors,
)];

/// More than make a burst, and longer than it takes to look.
const MANY: usize = 48;

/// Numbers of the processors that a process or thread may use.
fn allowed(task: &str) -> Vec<usize> {
    numbers(&std::fs::read_to_string(format!("/proc/{task}/status")).unwrap())
}

/// The same from its `/proc/PID/status`, or from that line of it.
fn numbers(status: &str) -> Vec<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let numbers = list.trim().split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    });
    numbers.collect()
}

fn it_is_made_on_half_of_the_processors() {
    let (all, here) = (allowed("thread-self"), || allowed("thread-self"));
    let world = World::new();
    world.sandboxes.join_thread();
    let spawner = world.sandboxes.spawner_pid().to_string();
    let (done, made) = mpsc::channel();
    for _ in 0..MANY {
        let done = done.clone();
        let first = Some(bash("grep Cpus_allowed_list: /proc/self/status; read"));
        let spec = Spec { first, ..spec() };
        world.sandboxes.create(spec, move |made| done.send(made).unwrap());
    }
    if all.len() > 1 {
        wait_for("a burst", || {
            let (serving, making) = (here(), allowed(&spawner));
            let both = [serving, making].concat();
            both.len() == all.len() && both == all
        });
    }
    for _ in 0..MANY {
        let inside = Inside::new(made.recv_timeout(PATIENCE).unwrap().unwrap());
        assert_eq!(numbers(&inside.output_until("\n")), all, "a guest counts all processors");
    }
    wait_for("its end", || here() == all && allowed(&spawner) == all);
    world.sandboxes.leave_thread();
}
