//! The sandbox from outside and from inside, as root and as an ordinary user.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

#[path = "sandbox/basics.rs"]
mod basics;
#[path = "sandbox/burst.rs"]
mod burst;
#[path = "sandbox/death.rs"]
mod death;
#[path = "sandbox/hostile.rs"]
mod hostile;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/names.rs"]
mod names;
#[path = "sandbox/nat.rs"]
mod nat;
#[path = "sandbox/network.rs"]
mod network;
#[path = "sandbox/processes.rs"]
mod processes;
#[path = "sandbox/roots.rs"]
mod roots;
#[path = "sandbox/stock.rs"]
mod stock;
#[path = "sandbox/view.rs"]
mod view;
#[path = "sandbox/world.rs"]
mod world;

use libtest_mimic::{Arguments, Trial};

/// One test: its name and its function.
type Test = (&'static str, fn());

fn main() {
    lambfold_sandbox::dispatch();
    // The same program plays a guest and a server that is killed.
    let role = std::env::args().nth(1);
    match role.as_deref() {
        Some("guest-threads") => return basics::guest_threads(),
        Some("doomed-host") => return death::doomed_host(),
        Some("doomed-processes") => return processes::doomed(),
        Some("doomed-nat") => return nat::doomed(),
        Some("on-stage") => return nat::on_stage(),
        Some("outside") => return nat::outside(),
        Some("host-view") => return roots::host_view(),
        _ => {}
    }
    let arguments = Arguments::from_args();
    let tests = [
        basics::TESTS,
        burst::TESTS,
        death::TESTS,
        hostile::TESTS,
        limits::TESTS,
        names::TESTS,
        nat::TESTS,
        network::TESTS,
        processes::TESTS,
        roots::TESTS,
        stock::TESTS,
        view::TESTS,
    ]
    .concat();
    // A sandbox that was made ahead is like any other: the same tests, once more.
    let again = [
        basics::TESTS,
        burst::TESTS,
        hostile::TESTS,
        limits::TESTS,
        network::TESTS,
        roots::TESTS,
        view::TESTS,
    ];
    let again = again.concat().into_iter().map(|(name, test)| (format!("stocked::{name}"), test));
    let trial = |name, test: fn(), stocked| {
        Trial::test(name, move || {
            world::STOCKED.set(stocked);
            test();
            world::STOCKED.set(false);
            Ok(())
        })
    };
    let trials = tests
        .into_iter()
        .map(|(name, test)| trial(name.to_owned(), test, false))
        .chain(again.map(|(name, test)| trial(name, test, true)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
