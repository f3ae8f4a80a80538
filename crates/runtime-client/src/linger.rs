//! Staying awake for a moment, for runtimes that hand events to another process. To be woken takes about
//! as long as a small event, so who waits for the end of one does not sleep where it is likely to
//! come soon.

use std::fs::File;
use std::hint;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

/// An event that is likely to take longer is slept for. One of 0.1 ms takes twice as long for who
/// slept.
const LONGEST: Duration = Duration::from_micros(400);
/// How many events pass between two looks at how crowded the processors are.
const EVENTS: u32 = 128;
/// Who waits for a processor longer than this for each event takes it from another by staying awake.
/// With two processors and one caller, who asks for one event after another, it is about 50 us; with
/// two callers 130 us.
const CROWDED: Duration = Duration::from_micros(110);
/// Then it is left for so many times as many events.
const REST: u32 = 8;

/// Whether staying awake is worth it: as long as the last event took, so will the next; as soon as it
/// came, so will the next. It is not where there is but one processor, nor where others wait for the
/// processors, which the kernel's account of the calling thread says (`schedstat` in procfs).
#[derive(Debug)]
pub struct Linger {
    /// With one processor, who stays awake is in the other's way.
    has_processors: bool,
    /// How many more looks at the account pass until processors are taken not to be crowded.
    rest: u32,
    /// The kernel's account of this thread.
    account: Option<File>,
    /// As of the last look at it.
    waited: Duration,
    events: u32,
    begun: Option<Instant>,
    ended: Option<Instant>,
    took: Option<Duration>,
}

impl Linger {
    /// When the next event is likely to come later than this, it is slept for.
    pub const SOON: Duration = Duration::from_micros(200);

    /// For the events of this thread.
    #[must_use]
    pub fn new() -> Linger {
        Linger {
            account: File::open("/proc/thread-self/schedstat").ok(),
            ..Linger::on(thread::available_parallelism().map_or(1, Into::into))
        }
    }

    fn on(processors: usize) -> Linger {
        Linger {
            has_processors: processors > 1,
            rest: 0,
            account: None,
            waited: Duration::ZERO,
            events: 0,
            begun: None,
            ended: None,
            took: None,
        }
    }

    /// An event begins. Gives whether who waits for the next one should stay awake for
    /// [`Linger::SOON`] when this one is over.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.events += 1;
        let is_long = self.took.is_some_and(|took| took > LONGEST);
        if is_long || self.events == EVENTS {
            self.events = 0;
            if let Some(waited) = self.account.as_ref().and_then(waited) {
                self.account_for(waited, is_long);
            }
        }
        self.begun = Some(now);
        let gap = self.ended.map(|ended| now.saturating_duration_since(ended));
        self.is_worth(gap, Linger::SOON)
    }

    /// What a long event waited for is no matter: nobody has stayed awake for it.
    fn account_for(&mut self, waited: Duration, was_long: bool) {
        let of_one = waited.saturating_sub(self.waited) / EVENTS;
        self.waited = waited;
        if was_long {
            return;
        }
        // How it is without staying awake says nothing of how it would be.
        self.rest = match self.rest {
            0 if of_one > CROWDED => REST,
            rest => rest.saturating_sub(1),
        };
    }

    fn is_worth(&self, expected: Option<Duration>, limit: Duration) -> bool {
        self.has_processors && self.rest == 0 && expected.is_some_and(|time| time <= limit)
    }

    /// Looks whether the event `is_over` until it is, if that is worth it, for 0.4 ms at most; gives
    /// what was seen last. `elapsed` is the time since the first look.
    pub fn look(
        &self,
        mut is_over: impl FnMut() -> bool,
        mut elapsed: impl FnMut() -> Duration,
    ) -> bool {
        if !self.is_worth(self.took, LONGEST) {
            return false;
        }
        loop {
            if is_over() {
                return true;
            }
            if elapsed() > LONGEST {
                return false;
            }
            hint::spin_loop();
        }
    }

    /// The event is over.
    pub fn end(&mut self, now: Instant) {
        self.took = self.begun.map(|begun| now.saturating_duration_since(begun));
        self.ended = Some(now);
    }
}

impl Default for Linger {
    fn default() -> Linger {
        Linger::new()
    }
}

/// How long a thread has waited for a processor: the second number, in nanoseconds.
fn waited(account: &File) -> Option<Duration> {
    let mut text = [0; 64];
    let size = account.read_at(&mut text, 0).ok()?;
    let second = std::str::from_utf8(&text[..size]).ok()?.split(' ').nth(1)?;
    second.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    struct Clocked {
        linger: Linger,
        now: Instant,
    }

    impl Clocked {
        fn new(processors: usize) -> Clocked {
            Clocked { linger: Linger::on(processors), now: Instant::now() }
        }

        /// An event that takes so long, so long after the last one; gives whether it was watched,
        /// and whether the next one is expected soon.
        fn event(&mut self, gap: u64, takes: u64) -> (bool, bool) {
            self.now += us(gap);
            let is_next_soon = self.linger.begin(self.now);
            let (mut watched, clock) = (false, std::cell::Cell::new(0));
            let is_over = || {
                watched = true;
                clock.set(clock.get() + 10);
                clock.get() >= takes
            };
            self.linger.look(is_over, || us(clock.get()));
            self.now += us(takes);
            self.linger.end(self.now);
            (watched, is_next_soon)
        }
    }

    #[test]
    fn the_next_event_is_expected_to_be_as_the_last_one() {
        let mut clocked = Clocked::new(2);
        assert_eq!(clocked.event(0, 400), (false, false));
        assert_eq!(clocked.event(200, 401), (true, true));
        assert_eq!(clocked.event(201, 50), (false, false));
        assert_eq!(clocked.event(50, 5_000_000), (true, true));
        assert_eq!(clocked.event(50, 50), (false, true));
    }

    #[test]
    fn with_one_processor_the_other_one_needs_it() {
        let mut clocked = Clocked::new(1);
        for _ in 0..10 {
            assert_eq!(clocked.event(50, 50), (false, false));
        }
    }

    #[test]
    fn where_processors_are_short_nobody_stays_awake() {
        let mut clocked = Clocked::new(2);
        let mut waited = Duration::ZERO;
        let mut after = |of_one: u64| {
            waited += us(of_one) * EVENTS;
            clocked.linger.account_for(waited, false);
            clocked.event(50, 50);
            clocked.event(50, 50)
        };
        assert_eq!(after(110), (true, true));
        assert_eq!(after(111), (false, false));
        for _ in 1..REST {
            assert_eq!(after(0), (false, false));
        }
        assert_eq!(after(500), (true, true));
        assert_eq!(after(500), (false, false));
        let mut busy = Clocked::new(2);
        busy.linger.account_for(us(1_000_000), true);
        busy.event(50, 50);
        assert_eq!(busy.event(50, 50), (true, true));
    }

    #[test]
    fn the_kernel_accounts_for_a_thread() {
        let account = File::open("/proc/thread-self/schedstat").expect("Linux has it");
        let before = waited(&account).expect("it has three numbers");
        thread::yield_now();
        assert!(waited(&account).expect("it has three numbers") >= before);
    }
}
