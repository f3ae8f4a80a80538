use crate::kind::{Call, Kind, Sabotage, Wish};
use lambfold_types::{Clock, FunctionName, FunctionVersion, Scope, SystemClock, Version};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For whom a fault is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Account and region.
    pub scope: Scope,
    /// The function.
    pub function: FunctionName,
    /// One of its versions; `None`: every one.
    pub version: Option<Version>,
    /// Its log group.
    pub log_group: String,
}

impl Target {
    /// A version, or its whole function.
    #[must_use]
    pub fn new(version: &FunctionVersion, only_this_version: bool) -> Self {
        Self {
            scope: version.scope.clone(),
            function: version.name.clone(),
            version: only_this_version.then_some(version.version),
            log_group: version.logging.group.clone(),
        }
    }

    /// Whether it is for this version.
    #[must_use]
    pub fn holds(&self, version: &FunctionVersion) -> bool {
        self.function == version.name
            && self.version.is_none_or(|only| only == version.version)
            && self.scope == version.scope
    }
}

/// A fault that is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// For whom.
    pub target: Target,
    /// What, and how often.
    pub wish: Wish,
    /// When it ends by itself, milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// How long that is from now.
    pub left: Duration,
    /// How often it has acted.
    pub effects: u64,
}

impl fmt::Display for Fault {
    /// For a line of a log: the kind, and what else there is to know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wish { kind, rate, delay, remaining, call, .. } = self.wish;
        write!(f, "{kind}")?;
        let mut facts = Vec::new();
        facts.extend(delay.map(|delay| format!("{} ms late", delay.as_millis())));
        facts.extend(remaining.map(|left| format!("{} ms remain", left.as_millis())));
        facts.extend(call.map(|call| format!("at {}", call.name())));
        if rate < 1.0 {
            facts.push(format!("rate {rate}"));
        }
        facts.extend(self.target.version.map(|version| format!("version {version}")));
        if facts.is_empty() { Ok(()) } else { write!(f, " ({})", facts.join(", ")) }
    }
}

/// Why a fault is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// Its time is over.
    Expired,
    /// Somebody cleared it.
    Cleared,
    /// Another one of its kind came in its place.
    Replaced,
}

impl Off {
    /// In words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "its time is over",
            Self::Cleared => "cleared",
            Self::Replaced => "replaced by another one",
        }
    }
}

/// What people should know of.
#[derive(Debug)]
pub enum Note<'a> {
    /// One was switched on.
    On(&'a Fault),
    /// One is off.
    Off(&'a Fault, Off),
    /// One acted where no execution environment has a log of its own; `what` it did.
    Effect {
        /// Which one.
        fault: &'a Fault,
        /// For example `invocation … was throttled`.
        what: &'a str,
    },
}

/// A fault that acts now.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// Which one.
    pub fault: Fault,
}

impl Strike {
    /// A sentence for the function's log, so that nobody looks for another cause.
    #[must_use]
    pub fn sentence(&self, what: &str) -> String {
        sentence(self.fault.wish.kind, what)
    }
}

pub(crate) fn sentence(kind: Kind, what: &str) -> String {
    format!("fault on purpose, {kind}: {what}")
}

struct Entry {
    fault: Fault,
    /// Monotonic: wall time may jump.
    until_us: u64,
}

type Journal = Box<dyn Fn(Note<'_>) + Send + Sync>;

/// The faults that are on.
pub struct Faults {
    /// How many; read before anything else is.
    on: AtomicUsize,
    entries: Mutex<Vec<Entry>>,
    effects: AtomicU64,
    clock: Arc<dyn Clock>,
    journal: Journal,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("on", &self.on).finish_non_exhaustive()
    }
}

impl Default for Faults {
    /// None, and nobody is told.
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::new()), |_| {})
    }
}

impl Faults {
    /// None yet; `journal` hears of every change, with no lock held.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, journal: impl Fn(Note<'_>) + Send + Sync + 'static) -> Self {
        Self {
            on: AtomicUsize::new(0),
            entries: Mutex::default(),
            effects: AtomicU64::new(0),
            clock,
            journal: Box::new(journal),
        }
    }

    /// Whether any is on. All that an invocation pays while none is.
    #[must_use]
    pub fn any(&self) -> bool {
        self.on.load(Ordering::Relaxed) > 0
    }

    /// How many are on.
    #[must_use]
    pub fn count(&self) -> usize {
        self.on.load(Ordering::Relaxed)
    }

    /// How often faults acted since the start.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.effects.load(Ordering::Relaxed)
    }

    /// Switches one on, in place of one of the same kind for the same target.
    pub fn set(&self, target: Target, wish: Wish) -> Fault {
        let now_us = self.clock.monotonic_us();
        let lasts_ms = u64::try_from(wish.lasts.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.clock.epoch_ms().saturating_add(lasts_ms);
        let until_us = now_us.saturating_add(lasts_ms.saturating_mul(1_000));
        let fault = Fault { target, wish, until_ms, left: wish.lasts, effects: 0 };
        let mut replaced = Vec::new();
        {
            let mut entries = self.entries();
            let is_same = |entry: &Entry| {
                entry.fault.wish.kind == wish.kind
                    && entry.fault.target.function == fault.target.function
                    && entry.fault.target.version == fault.target.version
                    && entry.fault.target.scope == fault.target.scope
            };
            take(&mut entries, is_same, &mut replaced);
            entries.push(Entry { fault: fault.clone(), until_us });
            self.on.store(entries.len(), Ordering::Relaxed);
        }
        self.tell_off(&replaced, Off::Replaced);
        (self.journal)(Note::On(&fault));
        fault
    }

    /// Switches those of a function off, of one kind or all; which they were.
    pub fn clear(&self, scope: &Scope, function: &FunctionName, kind: Option<Kind>) -> Vec<Fault> {
        let mut cleared = Vec::new();
        {
            let mut entries = self.entries();
            let is_meant = |entry: &Entry| {
                let Fault { target, wish, .. } = &entry.fault;
                target.function == *function
                    && target.scope == *scope
                    && kind.is_none_or(|kind| wish.kind == kind)
            };
            take(&mut entries, is_meant, &mut cleared);
            self.on.store(entries.len(), Ordering::Relaxed);
        }
        self.tell_off(&cleared, Off::Cleared);
        cleared
    }

    /// Those that are on in a region, or of one function there; in the order of their beginning.
    #[must_use]
    pub fn list(&self, scope: &Scope, function: Option<&FunctionName>) -> Vec<Fault> {
        self.expire();
        let now_us = self.clock.monotonic_us();
        let entries = self.entries();
        let meant = entries.iter().filter(|entry| {
            let target = &entry.fault.target;
            target.scope == *scope && function.is_none_or(|name| target.function == *name)
        });
        let left = |until_us: u64| Duration::from_micros(until_us.saturating_sub(now_us));
        meant.map(|entry| Fault { left: left(entry.until_us), ..entry.fault.clone() }).collect()
    }

    /// Switches off those whose time is over; how long until the next one's is.
    pub fn expire(&self) -> Option<Duration> {
        if !self.any() {
            return None;
        }
        let now_us = self.clock.monotonic_us();
        let mut expired = Vec::new();
        let next = {
            let mut entries = self.entries();
            take(&mut entries, |entry| entry.until_us <= now_us, &mut expired);
            self.on.store(entries.len(), Ordering::Relaxed);
            entries.iter().map(|entry| entry.until_us).min()
        };
        self.tell_off(&expired, Off::Expired);
        next.map(|until_us| Duration::from_micros(until_us.saturating_sub(now_us)))
    }

    /// Whether a fault of this kind acts on this version now; it counts as having acted.
    #[must_use]
    pub fn strikes(&self, version: &FunctionVersion, kind: Kind) -> Option<Strike> {
        self.strike(version, |wish| wish.kind == kind)
    }

    /// What is to be done to a call of the Runtime API.
    #[must_use]
    pub fn sabotage(&self, version: &FunctionVersion, call: Call) -> Option<(Sabotage, Strike)> {
        let strike = self.strike(version, |wish| match wish.kind {
            Kind::SlowNext => call == Call::Next,
            Kind::Api500 | Kind::ApiReset => wish.call == Some(call),
            _ => false,
        })?;
        let sabotage = match strike.fault.wish.kind {
            Kind::Api500 => Sabotage::Error,
            Kind::ApiReset => Sabotage::Reset,
            _ => Sabotage::Delay(strike.fault.wish.delay.unwrap_or_default()),
        };
        Some((sabotage, strike))
    }

    /// Tells of an effect for which no execution environment has a log.
    pub fn tell(&self, strike: &Strike, what: &str) {
        let what = strike.sentence(what);
        (self.journal)(Note::Effect { fault: &strike.fault, what: &what });
    }

    fn strike(&self, version: &FunctionVersion, acts: impl Fn(&Wish) -> bool) -> Option<Strike> {
        if !self.any() {
            return None;
        }
        let now_us = self.clock.monotonic_us();
        let mut entries = self.entries();
        let entry = entries.iter_mut().find(|entry| {
            let Fault { target, wish, .. } = &entry.fault;
            entry.until_us > now_us
                && acts(wish)
                && target.holds(version)
                && (wish.rate >= 1.0 || fastrand::f64() < wish.rate)
        })?;
        entry.fault.effects += 1;
        self.effects.fetch_add(1, Ordering::Relaxed);
        Some(Strike { fault: entry.fault.clone() })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_off(&self, faults: &[Fault], why: Off) {
        for fault in faults {
            (self.journal)(Note::Off(fault, why));
        }
    }
}

/// Moves the entries that are meant out of the table.
fn take(entries: &mut Vec<Entry>, meant: impl Fn(&Entry) -> bool, into: &mut Vec<Fault>) {
    entries.retain(|entry| {
        let goes = meant(entry);
        if goes {
            into.push(entry.fault.clone());
        }
        !goes
    });
}

#[cfg(test)]
mod tests;
