use std::fmt;
use std::time::Duration;

/// Longest time for which a fault is on: nobody looks for it tomorrow.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Shortest.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Longest delay of an event, and most time that can be said to remain: the longest timeout.
pub const LONGEST_DELAY: Duration = Duration::from_secs(900);
const DEFAULT_DELAY: Duration = Duration::from_secs(5);
const DEFAULT_REMAINING: Duration = Duration::from_millis(100);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The answer of `next` comes late, while the function's time runs.
    SlowNext,
    /// A call of the Runtime API is answered 500.
    Api500,
    /// The connection of a call of the Runtime API is reset.
    ApiReset,
    /// Invocations are throttled, as by the account's concurrency.
    Throttle,
    /// The init phase does not end in its time.
    InitTimeout,
    /// An asynchronous event is delivered twice.
    Duplicate,
    /// Little of the function's time remains when it gets the event.
    Deadline,
    /// The function's memory is used up.
    OutOfMemory,
}

impl Kind {
    /// All, in the order of help and documents.
    pub const ALL: [Kind; 8] = [
        Self::SlowNext,
        Self::Api500,
        Self::ApiReset,
        Self::Throttle,
        Self::InitTimeout,
        Self::Duplicate,
        Self::Deadline,
        Self::OutOfMemory,
    ];

    /// As users write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowNext => "slow-next",
            Self::Api500 => "api-500",
            Self::ApiReset => "api-reset",
            Self::Throttle => "throttle",
            Self::InitTimeout => "init-timeout",
            Self::Duplicate => "duplicate",
            Self::Deadline => "deadline",
            Self::OutOfMemory => "oom",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// [`WishError::Kind`].
    pub fn parse(name: &str) -> Result<Self, WishError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| WishError::Kind(name.chars().take(64).collect()))
    }

    fn is_of_the_api(self) -> bool {
        matches!(self, Self::Api500 | Self::ApiReset)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which call of the Runtime API goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `invocation/next`, when there is an event for it.
    Next,
    /// `invocation/{id}/response` and `…/error`.
    Response,
}

impl Call {
    /// As users write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Response => "response",
        }
    }

    /// The call of this name.
    ///
    /// # Errors
    /// [`WishError::Call`].
    pub fn parse(name: &str) -> Result<Self, WishError> {
        let found = [Self::Next, Self::Response].into_iter().find(|call| call.name() == name);
        found.ok_or_else(|| WishError::Call(name.chars().take(64).collect()))
    }
}

/// What is to be done to a call of the Runtime API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// It is answered this much later.
    Delay(Duration),
    /// It is answered 500.
    Error,
    /// Its connection is reset.
    Reset,
}

/// Why a wish is not one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WishError {
    /// There is no such kind.
    #[error(
        "there is no fault {0:?}; there are: slow-next, api-500, api-reset, throttle, init-timeout, duplicate, deadline, oom"
    )]
    Kind(String),
    /// There is no such call.
    #[error("there is no call {0:?} to disturb; there are: next, response")]
    Call(String),
    /// It lasts for too long, or not at all.
    #[error("a fault is on for at least 1 second and at most 24 hours")]
    Lasts,
    /// No share of the occasions.
    #[error("a rate is a number above 0 and at most 1")]
    Rate,
    /// The delay.
    #[error("a delay is at least 1 millisecond and at most 15 minutes")]
    Delay,
    /// What remains.
    #[error("the time that remains is at most 15 minutes")]
    Remaining,
    /// A setting that this kind does not have.
    #[error("a fault {kind} has no {setting}")]
    Foreign {
        /// The kind.
        kind: Kind,
        /// The setting.
        setting: &'static str,
    },
}

/// A fault that is asked for, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// What goes wrong.
    pub kind: Kind,
    /// For how long it is on.
    pub lasts: Duration,
    /// Share of the occasions on which it acts, above 0 and up to 1.
    pub rate: f64,
    /// Of [`Kind::SlowNext`].
    pub delay: Option<Duration>,
    /// Of [`Kind::Deadline`].
    pub remaining: Option<Duration>,
    /// Of [`Kind::Api500`] and [`Kind::ApiReset`].
    pub call: Option<Call>,
}

impl Wish {
    /// A fault that acts on every occasion, with the defaults of its kind.
    ///
    /// # Errors
    /// [`WishError::Lasts`].
    pub fn new(kind: Kind, lasts: Duration) -> Result<Self, WishError> {
        if !(SHORTEST..=LONGEST).contains(&lasts) {
            return Err(WishError::Lasts);
        }
        Ok(Self {
            kind,
            lasts,
            rate: 1.0,
            delay: (kind == Kind::SlowNext).then_some(DEFAULT_DELAY),
            remaining: (kind == Kind::Deadline).then_some(DEFAULT_REMAINING),
            call: kind.is_of_the_api().then_some(Call::Next),
        })
    }

    /// With another share of the occasions.
    ///
    /// # Errors
    /// [`WishError::Rate`].
    pub fn with_rate(mut self, rate: f64) -> Result<Self, WishError> {
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(WishError::Rate);
        }
        self.rate = rate;
        Ok(self)
    }

    /// With another delay.
    ///
    /// # Errors
    /// [`WishError::Delay`], or the kind has none.
    pub fn with_delay(mut self, delay: Duration) -> Result<Self, WishError> {
        if self.delay.is_none() {
            return Err(WishError::Foreign { kind: self.kind, setting: "delay" });
        }
        if !(Duration::from_millis(1)..=LONGEST_DELAY).contains(&delay) {
            return Err(WishError::Delay);
        }
        self.delay = Some(delay);
        Ok(self)
    }

    /// With another time that remains.
    ///
    /// # Errors
    /// [`WishError::Remaining`], or the kind has none.
    pub fn with_remaining(mut self, remaining: Duration) -> Result<Self, WishError> {
        if self.remaining.is_none() {
            return Err(WishError::Foreign { kind: self.kind, setting: "remaining" });
        }
        if remaining > LONGEST_DELAY {
            return Err(WishError::Remaining);
        }
        self.remaining = Some(remaining);
        Ok(self)
    }

    /// For another call.
    ///
    /// # Errors
    /// The kind has none.
    pub fn with_call(mut self, call: Call) -> Result<Self, WishError> {
        if self.call.is_none() {
            return Err(WishError::Foreign { kind: self.kind, setting: "call" });
        }
        self.call = Some(call);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_has_a_name_that_leads_back_to_it() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Ok(kind));
            let listed = WishError::Kind(String::new()).to_string();
            assert!(listed.contains(kind.name()), "{listed}");
        }
        assert!(Kind::parse("slow").is_err() && Kind::parse("").is_err());
        for call in [Call::Next, Call::Response] {
            assert_eq!(Call::parse(call.name()), Ok(call));
        }
        assert!(Call::parse("error").is_err());
    }

    #[test]
    fn both_sides_of_each_limit() {
        let new = |lasts| Wish::new(Kind::SlowNext, lasts);
        assert_eq!(new(Duration::from_millis(999)), Err(WishError::Lasts));
        assert_eq!(new(LONGEST + Duration::from_millis(1)), Err(WishError::Lasts));
        let wish = new(SHORTEST).unwrap();
        assert!(new(LONGEST).is_ok());
        for rate in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(wish.with_rate(rate), Err(WishError::Rate), "{rate}");
        }
        assert!(wish.with_rate(1.0).is_ok() && wish.with_rate(0.000_1).is_ok());
        assert_eq!(wish.with_delay(Duration::ZERO), Err(WishError::Delay));
        let more = LONGEST_DELAY + Duration::from_millis(1);
        assert_eq!(wish.with_delay(more), Err(WishError::Delay));
        assert!(wish.with_delay(LONGEST_DELAY).is_ok());
        let wish = Wish::new(Kind::Deadline, SHORTEST).unwrap();
        assert!(wish.with_remaining(Duration::ZERO).is_ok());
        assert_eq!(wish.with_remaining(more), Err(WishError::Remaining));
    }

    #[test]
    fn settings_belong_to_their_kinds() {
        for kind in Kind::ALL {
            let wish = Wish::new(kind, SHORTEST).unwrap();
            let second = Duration::from_secs(1);
            assert_eq!(wish.with_delay(second).is_ok(), kind == Kind::SlowNext, "{kind}");
            assert_eq!(wish.with_remaining(second).is_ok(), kind == Kind::Deadline, "{kind}");
            assert_eq!(wish.with_call(Call::Response).is_ok(), kind.is_of_the_api(), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_of_a_kind_or_refused(name in "[a-z0-9-]{0,14}") {
            if let Ok(kind) = Kind::parse(&name) {
                prop_assert_eq!(kind.name(), name);
            }
        }

        #[test]
        fn a_rate_that_is_taken_is_a_share(rate in proptest::num::f64::ANY) {
            if let Ok(wish) = Wish::new(Kind::Throttle, SHORTEST).unwrap().with_rate(rate) {
                prop_assert!(wish.rate > 0.0 && wish.rate <= 1.0);
            }
        }
    }
}
