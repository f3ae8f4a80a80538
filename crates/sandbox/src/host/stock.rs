//! Sandboxes that are made ahead: which are wanted, and when.
//!
//! The stock is to be like what was asked for last: of the last so many requests each has its like
//! in it. What is missing is made one at a time, when nobody has asked for anything for a while,
//! so that no burst waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Sandbox;
use crate::spec::{self, Spec};

/// For so long nobody must have asked for a sandbox before one is made for the stock: longer than
/// the spawner waits before it makes ready what that one is made of.
const QUIET: Duration = Duration::from_millis(10);

/// The stock of one [`super::Sandboxes`].
pub(super) type Stock = Shelf<Sandbox>;

/// Generic, so that its rules are tested without sandboxes.
pub(super) struct Shelf<S> {
    ready: Vec<(u64, Spec, S)>,
    /// What the one is like that is being made.
    making: Option<Spec>,
    /// What was asked for last, the oldest first: as many as there are to be.
    recent: VecDeque<Spec>,
    asked: Option<Instant>,
    /// The last one could not be made, or one has died: that is not tried again before somebody asks for one, and is
    /// told why.
    failed: bool,
}

impl<S> Default for Shelf<S> {
    fn default() -> Self {
        Shelf {
            ready: Vec::new(),
            making: None,
            recent: VecDeque::new(),
            asked: None,
            failed: false,
        }
    }
}

/// What there is to do for the stock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lack {
    Nothing,
    /// It has to be quiet for so long first.
    Later(Duration),
    /// One like this is to be made.
    One(Box<Spec>),
}

impl<S> Shelf<S> {
    pub(super) fn new(config: Option<&spec::Stock>) -> Self {
        let recent = config.map(|stock| vec![stock.first.pattern(); stock.size]);
        Shelf { recent: recent.unwrap_or_default().into(), ..Shelf::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Gives one away, if there is one like this: where it can be one with the same limits.
    pub(super) fn take(&mut self, wanted: &Spec) -> Option<(u64, S)> {
        let mut places = self.ready.iter().enumerate().filter(|(_, (_, s, _))| s.is_like(wanted));
        let first = places.next()?;
        let same = |spec: &Spec| spec.memory_bytes == wanted.memory_bytes;
        let best = [first].into_iter().chain(places).find(|(_, (_, spec, _))| same(spec));
        let (place, _) = best.unwrap_or(first);
        let (ticket, _, sandbox) = self.ready.remove(place);
        Some((ticket, sandbox))
    }

    /// Somebody asked for one.
    pub(super) fn asked(&mut self, wanted: &Spec, now: Instant) {
        self.asked = Some(now);
        self.failed = false;
        if self.recent.pop_front().is_some() {
            self.recent.push_back(wanted.pattern());
        }
    }

    fn wanted(&self, like: &Spec) -> usize {
        self.recent.iter().filter(|spec| spec.is_like(like)).count()
    }

    fn there(&self, like: &Spec) -> usize {
        self.ready.iter().filter(|(_, spec, _)| spec.is_like(like)).count()
    }

    pub(super) fn lacks(&self, now: Instant) -> Lack {
        if self.making.is_some() || self.failed {
            return Lack::Nothing;
        }
        // What was asked for last is asked for next.
        let lacking = self.recent.iter().rev().find(|spec| self.there(spec) < self.wanted(spec));
        let Some(lacking) = lacking else { return Lack::Nothing };
        let quiet = self.asked.map_or(QUIET, |asked| now.duration_since(asked));
        match QUIET.checked_sub(quiet) {
            None | Some(Duration::ZERO) => Lack::One(Box::new(lacking.clone())),
            Some(wait) => Lack::Later(wait),
        }
    }

    /// One like this is on its way.
    pub(super) fn making(&mut self, pattern: Spec) {
        self.making = Some(pattern);
    }

    /// The one that was on its way is here.
    pub(super) fn add(&mut self, ticket: u64, sandbox: S) {
        if let Some(pattern) = self.making.take() {
            self.ready.push((ticket, pattern, sandbox));
        }
    }

    /// The one that was on its way does not come.
    pub(super) fn failed(&mut self) {
        self.making = None;
        self.failed = true;
    }

    /// Takes out one that is dead. Another one might die too, again and again.
    pub(super) fn lose(&mut self, ticket: u64) -> Option<S> {
        let place = self.ready.iter().position(|(of, ..)| *of == ticket)?;
        self.failed = true;
        Some(self.ready.remove(place).2)
    }

    /// Takes out one whose like nobody asked for lately.
    pub(super) fn surplus(&mut self) -> Option<S> {
        let place =
            self.ready.iter().position(|(_, spec, _)| self.there(spec) > self.wanted(spec))?;
        Some(self.ready.remove(place).2)
    }

    /// Takes out all: there is no spawner any more.
    pub(super) fn empty(&mut self) -> Vec<S> {
        // It may be that what it died of.
        self.failed |= self.making.take().is_some();
        self.ready.drain(..).map(|(_, _, sandbox)| sandbox).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn like(rootfs: &str) -> Spec {
        Spec { rootfs: Some(rootfs.to_owned()), tmp_bytes: 1, ..Spec::default() }
    }

    fn shelf(size: usize) -> Shelf<u32> {
        Shelf::new(Some(&spec::Stock { size, first: like("first") }))
    }

    /// Fills it in quiet; what was made.
    fn fill(shelf: &mut Shelf<u32>, now: Instant) -> Vec<String> {
        let mut made = Vec::new();
        while let Lack::One(pattern) = shelf.lacks(now) {
            made.push(pattern.rootfs.clone().unwrap_or_default());
            shelf.making(*pattern);
            assert_eq!(shelf.lacks(now), Lack::Nothing, "one at a time");
            shelf.surplus();
            shelf.add(made.len() as u64, 0);
        }
        made
    }

    #[test]
    fn it_is_filled_with_the_first_kind_and_then_with_those_asked_for_last() {
        let (mut shelf, now) = (shelf(3), Instant::now());
        assert_eq!(fill(&mut shelf, now), ["first"; 3]);
        assert!(shelf.take(&like("first")).is_some());
        shelf.asked(&like("first"), now);
        assert!(shelf.take(&like("other")).is_none());
        shelf.asked(&like("other"), now);
        let later = now + QUIET;
        assert_eq!(fill(&mut shelf, later), ["other"]);
        assert_eq!(shelf.len(), 3);
        assert!(shelf.take(&like("other")).is_some());
        assert!(shelf.take(&like("other")).is_none(), "each is given away once");
    }

    #[test]
    fn what_nobody_asks_for_any_more_makes_room() {
        let (mut shelf, now) = (shelf(2), Instant::now());
        fill(&mut shelf, now);
        shelf.asked(&like("other"), now);
        shelf.asked(&like("other"), now);
        let later = now + QUIET;
        assert_eq!(fill(&mut shelf, later), ["other"; 2]);
        assert_eq!(shelf.len(), 2);
        assert!(shelf.take(&like("first")).is_none());
    }

    #[test]
    fn nothing_is_made_before_it_was_quiet_for_a_while() {
        let (mut shelf, now) = (shelf(1), Instant::now());
        shelf.asked(&like("first"), now);
        let wait = QUIET / 4;
        assert_eq!(shelf.lacks(now + QUIET - wait), Lack::Later(wait));
        assert_eq!(shelf.lacks(now + QUIET), Lack::One(Box::new(like("first"))));
    }

    #[test]
    fn what_could_not_be_made_is_tried_again_when_somebody_asks() {
        let (mut shelf, now) = (shelf(1), Instant::now());
        shelf.making(like("first"));
        shelf.failed();
        assert_eq!(shelf.lacks(now), Lack::Nothing);
        shelf.asked(&like("first"), now);
        assert_eq!(shelf.lacks(now + QUIET), Lack::One(Box::new(like("first"))));
        // A spawner that dies of it would die again.
        shelf.making(like("first"));
        assert!(shelf.empty().is_empty());
        assert_eq!(shelf.lacks(now + QUIET), Lack::Nothing);
    }

    #[test]
    fn the_dead_are_taken_out() {
        let (mut shelf, now) = (shelf(2), Instant::now());
        fill(&mut shelf, now);
        assert!(shelf.lose(1).is_some() && shelf.lose(1).is_none());
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.lacks(now), Lack::Nothing);
        shelf.asked(&like("first"), now);
        assert_eq!(fill(&mut shelf, now + QUIET), ["first"]);
    }

    #[test]
    fn without_a_stock_nothing_is_made() {
        for mut shelf in [Shelf::<u32>::new(None), shelf(0)] {
            shelf.asked(&like("x"), Instant::now());
            assert_eq!(shelf.lacks(Instant::now() + QUIET), Lack::Nothing);
        }
    }

    #[test]
    fn all_but_name_views_program_and_sizes_of_limits_must_be_the_same() {
        let spec = Spec { memory_bytes: 1, cpu_weight: 1, ..like("a") };
        let bind = spec::Bind { source: "/x".into(), target: "/opt".into() };
        let same = Spec {
            id: "other".into(),
            binds: vec![bind],
            memory_bytes: 7,
            cpu_weight: 8,
            first: Some(spec::Command::default()),
            ..spec.clone()
        };
        assert!(same.is_like(&spec) && spec.is_like(&same));
        assert_eq!(same.pattern(), Spec { memory_bytes: 7, cpu_weight: 8, ..spec.clone() });
        for other in [
            Spec { rootfs: None, ..spec.clone() },
            Spec { tmp_bytes: 2, ..spec.clone() },
            Spec { processes: 1, ..spec.clone() },
            Spec { open_files: 1, ..spec.clone() },
            Spec { memory_bytes: 0, ..spec.clone() },
            Spec { cpu_weight: 0, ..spec.clone() },
            Spec { cpu_quota_us: 5_000, ..spec.clone() },
            Spec { hostname: "x".into(), ..spec.clone() },
            Spec { listeners: vec!["127.0.0.1:1".parse().unwrap()], ..spec.clone() },
        ] {
            assert!(!other.is_like(&spec) && !spec.is_like(&other), "{other:?}");
        }
    }

    #[test]
    fn one_with_the_same_limits_is_given_away_first() {
        let (mut shelf, now) = (shelf(2), Instant::now());
        let limited = |memory_bytes| Spec { memory_bytes, ..like("first") };
        shelf.asked(&limited(1), now);
        shelf.asked(&limited(2), now);
        fill(&mut shelf, now + QUIET);
        assert_eq!(shelf.ready.len(), 2);
        for memory_bytes in [1, 2] {
            shelf.ready[0].1.memory_bytes = 1;
            shelf.ready[1].1.memory_bytes = 2;
            let (ticket, _) = shelf.take(&limited(memory_bytes)).unwrap();
            assert_eq!(ticket, memory_bytes);
            shelf.ready.push((ticket, limited(memory_bytes), 0));
            shelf.ready.sort_by_key(|(ticket, ..)| *ticket);
        }
        assert!(shelf.take(&limited(3)).is_some(), "any other will do");
    }
}
