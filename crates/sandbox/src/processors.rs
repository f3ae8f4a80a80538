//! Many sandboxes wanted at once: they are then made on one half of the processors, and what runs
//! already is served on the other.
//!
//! Most of the making is in system calls that take 0.1 to 0.5 ms each, and a kernel without preemption
//! lets whoever is woken wait until the one on its processor is over. With every processor in such a
//! call, warm functions wait at each of their wake-ups; and the burst gains next to nothing from the
//! second half, because its calls wait for one another.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// So many requests that wait for others are a burst.
const REQUESTS: usize = 8;

/// The processors that a process was started with, in two halves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Halves {
    all: CpuSet,
    serving: CpuSet,
    making: CpuSet,
}

impl Halves {
    /// None where there is one processor only, or the kernel does not tell.
    fn of_this_thread() -> Option<Halves> {
        Halves::of(sched_getaffinity(None).ok()?)
    }

    /// The first ones, rounded up, serve: the very first is often the one that is interrupted.
    fn of(all: CpuSet) -> Option<Halves> {
        let numbers = (0..CpuSet::MAX_CPU).filter(|&number| all.is_set(number));
        let middle = (all.count() as usize).div_ceil(2);
        let (mut serving, mut making) = (CpuSet::new(), CpuSet::new());
        for (at, number) in numbers.enumerate() {
            if at < middle { &mut serving } else { &mut making }.set(number);
        }
        (making.count() > 0).then_some(Halves { all, serving, making })
    }
}

/// What cannot be had, because it ended or the administrator took processors away, is no error: then
/// all goes on where it is.
fn confine(thread: Option<Pid>, to: &CpuSet) {
    let _ = sched_setaffinity(thread, to);
}

/// The spawner's side: where it, its helper and what it clones make sandboxes.
#[derive(Debug)]
pub(crate) struct Makers {
    halves: Option<Halves>,
    /// Requests in a row behind which there was another one.
    crowded: usize,
    confined: bool,
}

impl Makers {
    /// This process alone.
    pub(crate) fn new() -> Makers {
        Makers { halves: Halves::of_this_thread(), crowded: 0, confined: false }
    }

    /// A request was taken; whether there is another one behind it, and how many could not be begun
    /// with. True when this is the beginning of a burst.
    pub(crate) fn requested(&mut self, more: bool, waiting: usize) -> bool {
        self.crowded = if more { self.crowded.saturating_add(1) } else { 0 };
        let burst = self.crowded.max(waiting) >= REQUESTS;
        let begins = burst && !self.confined;
        self.confined |= burst;
        begins
    }

    /// Nobody waits. True when this is the end of a burst.
    pub(crate) fn quiet(&mut self) -> bool {
        self.crowded = 0;
        std::mem::take(&mut self.confined)
    }

    /// Whether a burst has one processor only. A program begins on the idlest of all processors: if the
    /// next sandbox is made meanwhile, on one of those that serve.
    pub(crate) fn one_by_one(&self) -> bool {
        self.confined && self.halves.as_ref().is_some_and(|halves| halves.making.count() == 1)
    }

    /// Moves this process and `helper` to where they belong now.
    pub(crate) fn move_there(&self, helper: Option<Pid>) {
        let Some(halves) = &self.halves else { return };
        let to = if self.confined { &halves.making } else { &halves.all };
        confine(None, to);
        if helper.is_some() {
            confine(helper, to);
        }
    }

    /// Of a clone: takes back what the spawner had at its start. What runs in a sandbox is no part of
    /// the burst, and counts its processors when it begins.
    pub(crate) fn let_go(&self) {
        if let Some(halves) = self.halves.as_ref().filter(|_| self.confined) {
            confine(None, &halves.all);
        }
    }
}

/// The host's side: its threads that serve what runs.
#[derive(Debug)]
pub(crate) struct Servers {
    halves: Option<Halves>,
    threads: Vec<Pid>,
    burst: bool,
}

impl Servers {
    /// None yet, of this process.
    pub(crate) fn new() -> Servers {
        Servers { halves: Halves::of_this_thread(), threads: Vec::new(), burst: false }
    }

    /// This thread is one of them.
    pub(crate) fn join(&mut self) {
        self.threads.push(rustix::thread::gettid());
        self.place(None);
    }

    /// This thread is none of them any more.
    pub(crate) fn leave(&mut self) {
        let this = rustix::thread::gettid();
        self.threads.retain(|thread| *thread != this);
    }

    /// A burst begins or ends.
    pub(crate) fn burst(&mut self, burst: bool) {
        if std::mem::replace(&mut self.burst, burst) != burst {
            self.threads.iter().for_each(|thread| self.place(Some(*thread)));
        }
    }

    fn place(&self, thread: Option<Pid>) {
        let Some(halves) = &self.halves else { return };
        confine(thread, if self.burst { &halves.serving } else { &halves.all });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(numbers: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        numbers.iter().for_each(|number| set.set(*number));
        set
    }

    #[test]
    fn half_of_the_processors_make_and_the_others_serve() {
        assert!(Halves::of(set(&[])).is_none());
        assert!(Halves::of(set(&[3])).is_none(), "there is nowhere to go");
        for (all, serving, making) in [
            (&[0, 1][..], &[0][..], &[1][..]),
            (&[2, 5, 9], &[2, 5], &[9]),
            (&[0, 1, 2, 1023], &[0, 1], &[2, 1023]),
        ] {
            let halves = Halves::of(set(all)).unwrap();
            assert_eq!((halves.serving, halves.making), (set(serving), set(making)));
        }
    }

    #[test]
    fn a_burst_begins_with_eight_that_wait_and_ends_when_nobody_does() {
        let mut makers = Makers { halves: None, crowded: 0, confined: false };
        for _ in 0..100 {
            assert!(!makers.requested(false, 0), "one after the other is none");
        }
        assert!((0..7).all(|_| !makers.requested(true, 0)));
        assert!(!makers.requested(false, 7), "they were seven");
        assert!((0..7).all(|_| !makers.requested(true, 0)));
        assert!(makers.requested(true, 0));
        assert!(!makers.requested(true, 8), "it has begun before");
        assert!(!makers.requested(false, 0), "a moment's rest is no end");
        assert!(makers.quiet());
        assert!(!makers.quiet());
        assert!(makers.requested(false, 8), "those that wait for an image count");
    }

    #[test]
    fn threads_that_serve_move_for_a_burst_and_back_and_others_stay() {
        let Some(halves) = Halves::of_this_thread() else {
            eprintln!("one processor only: nothing moves");
            return;
        };
        let mine = || sched_getaffinity(None).unwrap();
        let mut servers = Servers::new();
        servers.burst(true);
        assert_eq!(mine(), halves.all);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                servers.join();
                assert_eq!(mine(), halves.serving, "it came in the middle of one");
                servers.burst(false);
                assert_eq!(mine(), halves.all);
                servers.burst(true);
                assert_eq!(mine(), halves.serving);
                servers.burst(false);
                servers.leave();
                servers.burst(true);
                assert_eq!(mine(), halves.all, "it is none of them any more");
            });
        });
        assert_eq!(mine(), halves.all);
    }
}
