#![allow(clippy::unwrap_used)]
use super::*;
use crate::body::Body;
use crate::call::{Message, State};
use lambfold_types::{AccountId, ManualClock, Region};
use std::task::Wake;

fn scope(region: &str) -> Scope {
    Scope {
        account: AccountId::parse("000000000000").unwrap(),
        region: Region::parse(region).unwrap(),
    }
}

fn name(text: &str) -> FunctionName {
    FunctionName::parse(text).unwrap()
}

fn tap(hub: &Hub, function: &str, version: Version) -> Tap {
    let clock = Arc::new(ManualClock::at(1_000));
    hub.tap(&scope("us-east-1"), &name(function), version, "stream", clock)
}

fn watch(hub: &Hub, function: &str, version: Option<Version>, body_bytes: usize) -> Watch {
    hub.watch(&scope("us-east-1"), &name(function), version, body_bytes).unwrap()
}

fn call(path: &str, body: usize) -> Call {
    let body = Body::new(&vec![b'x'; body].into(), usize::MAX);
    Call {
        at: 0,
        environment: String::new(),
        version: String::new(),
        state: State::Answered,
        method: "GET".into(),
        path: path.into(),
        request: Message { body, ..Message::default() },
        answer: None,
        took_us: None,
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything there is to see now, as paths and counts.
fn all(watch: &mut Watch) -> Vec<String> {
    let mut seen = Vec::new();
    while let Poll::Ready(one) = watch.poll(&mut Context::from_waker(Waker::noop())) {
        seen.push(match one {
            Seen::Call(call) => call.path.clone(),
            Seen::Dropped(count) => format!("dropped {count}"),
        });
    }
    seen
}

#[test]
fn a_watch_sees_the_calls_of_its_function_and_version_and_no_other() {
    let hub = Hub::new();
    let (latest, first) = (tap(&hub, "f", Version::Latest), tap(&hub, "f", Version::Published(1)));
    let other = tap(&hub, "g", Version::Latest);
    let mut both = watch(&hub, "f", None, 0);
    let mut one = watch(&hub, "f", Some(Version::Published(1)), 0);
    let mut elsewhere = hub.watch(&scope("eu-west-1"), &name("f"), None, 0).unwrap();
    latest.offer(call("latest", 0));
    first.offer(call("first", 0));
    other.offer(call("other", 0));
    assert_eq!(all(&mut both), ["latest", "first"]);
    assert_eq!(all(&mut one), ["first"]);
    assert_eq!(all(&mut elsewhere), [""; 0]);
}

#[test]
fn a_call_gets_its_time_and_its_place() {
    let hub = Hub::new();
    let tap = tap(&hub, "f", Version::Published(7));
    let mut watch = watch(&hub, "f", None, 0);
    tap.offer(call("p", 0));
    let Poll::Ready(Seen::Call(call)) = watch.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nothing seen");
    };
    assert_eq!((call.at, &*call.version, &*call.environment), (1_000, "7", "stream"));
}

#[test]
fn what_is_wanted_is_the_most_that_anybody_wants_and_nothing_when_all_are_gone() {
    let hub = Hub::new();
    let tap = tap(&hub, "f", Version::Latest);
    assert_eq!(tap.wanted(), None);
    let small = watch(&hub, "f", None, 0);
    assert_eq!(tap.wanted(), Some(0));
    let large = watch(&hub, "f", None, 500);
    assert_eq!(tap.wanted(), Some(500));
    drop(large);
    assert_eq!(tap.wanted(), Some(0));
    drop(small);
    assert_eq!(tap.wanted(), None);
    // A channel lives as long as anybody holds it.
    tap.offer(call("nobody", 0));
}

#[test]
fn whoever_is_slow_loses_calls_and_is_told_where_and_how_many() {
    let hub = Hub::new();
    let tap = tap(&hub, "f", Version::Latest);
    let mut slow = watch(&hub, "f", None, 0);
    for _ in 0..QUEUE_CALLS {
        tap.offer(call("kept", 0));
    }
    assert_eq!(all(&mut slow).len(), QUEUE_CALLS);
    for _ in 0..QUEUE_CALLS + 3 {
        tap.offer(call("kept", 0));
    }
    assert!(matches!(slow.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_)));
    tap.offer(call("late", 0));
    let seen = all(&mut slow);
    assert_eq!(seen.len(), QUEUE_CALLS + 1);
    assert_eq!(seen[QUEUE_CALLS - 1..], ["dropped 3", "late"]);
}

#[test]
fn memory_is_limited_whatever_the_calls_hold() {
    let hub = Hub::new();
    let tap = tap(&hub, "f", Version::Latest);
    let mut slow = watch(&hub, "f", None, usize::MAX);
    let half = QUEUE_BYTES / 2 - call("a", 0).weight();
    tap.offer(call("a", half));
    tap.offer(call("b", half));
    tap.offer(call("c", 0));
    assert_eq!(all(&mut slow), ["a", "b", "dropped 1"]);
    tap.offer(call("d", 0));
    assert_eq!(all(&mut slow), ["d"]);
}

#[test]
fn whoever_waits_is_woken_once() {
    let hub = Hub::new();
    let tap = tap(&hub, "f", Version::Latest);
    let mut watch = watch(&hub, "f", None, 0);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert_eq!(watch.poll(&mut Context::from_waker(&waker)), Poll::Pending);
    tap.offer(call("a", 0));
    tap.offer(call("b", 0));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(all(&mut watch), ["a", "b"]);
}

#[test]
fn there_are_so_many_watches_and_no_more() {
    let hub = Hub::new();
    let mut watches: Vec<Watch> = (0..WATCHES).map(|_| watch(&hub, "f", None, 0)).collect();
    let more = hub.watch(&scope("us-east-1"), &name("f"), None, 0);
    assert_eq!(more.err(), Some(TooManyWatches));
    watches.pop();
    watch(&hub, "f", None, 0);
}

#[test]
fn functions_that_are_gone_are_forgotten() {
    let hub = Hub::new();
    for number in 0..1_000 {
        drop(tap(&hub, &format!("f{number}"), Version::Latest));
    }
    assert!(lock(&hub.channels).of.len() <= 64, "{}", lock(&hub.channels).of.len());
}
