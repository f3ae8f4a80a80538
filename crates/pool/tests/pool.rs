//! The pool over a fake factory, in paused time.
#![allow(clippy::unwrap_used)]

#[path = "pool/fake.rs"]
mod fake;
#[path = "pool/limits.rs"]
mod limits;
#[path = "pool/orders.rs"]
mod orders;
#[path = "pool/provisioned.rs"]
mod provisioned;
#[path = "pool/room.rs"]
mod room;

use fake::{Act, Fake, World, act, version};
use lambfold_pool::{Environment, InFlight, Pool, PoolConfig, PoolError};
use lambfold_types::PhaseEnd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

fn config() -> PoolConfig {
    PoolConfig { keep_alive: 10_000 * MS, ..PoolConfig::default() }
}

fn start(pool: &Arc<Pool<Fake>>, function: usize, act: Act) -> InFlight {
    pool.invoke(version(function), fake::invocation(act)).unwrap()
}

/// The number of the environment that answered.
async fn answered(in_flight: InFlight) -> (usize, PhaseEnd) {
    let answer = in_flight.answer.await.unwrap().unwrap();
    let environment = String::from_utf8(answer.payload.to_vec()).unwrap().parse().unwrap();
    (environment, in_flight.end.await.unwrap())
}

async fn run(pool: &Arc<Pool<Fake>>, function: usize, act: Act) -> usize {
    answered(start(pool, function, act)).await.0
}

#[tokio::test(start_paused = true)]
async fn the_most_recently_used_environment_is_reused_first_and_the_others_expire() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    let (a, b) = (start(&pool, 0, act(10)), start(&pool, 0, act(20)));
    let (a, b) = (answered(a).await.0, answered(b).await.0);
    assert_ne!(a, b);
    for _ in 0..6 {
        assert_eq!(run(&pool, 0, act(1)).await, b, "last in, first out");
        sleep(2_000 * MS).await;
    }
    assert!(world.is_retired(a), "unused for longer than the keep-alive");
    assert!(!world.is_retired(b));
    let metrics = pool.metrics();
    assert_eq!((metrics.environments, metrics.idle, metrics.busy), (1, 1, 0));
    assert_eq!((metrics.cold_starts, metrics.warm_starts), (2, 6));
    sleep(20_000 * MS).await;
    assert!(world.is_retired(b));
    assert_eq!(pool.metrics().environments, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order_by_whatever_is_ready_first() {
    let world = World::new();
    world.creation_delays([10, 100_000, 100_000, 100_000]);
    let pool = Pool::new(world.factory(), config());
    let begin = Instant::now();
    let all: Vec<_> = (0..4).map(|_| start(&pool, 0, act(10))).collect();
    for (n, in_flight) in (1u32..).zip(all) {
        assert_eq!(answered(in_flight).await.0, 0, "the first environment serves all");
        assert_eq!(begin.elapsed(), 10 * MS + n * 10 * MS);
    }
    sleep(100_000 * MS).await;
    assert_eq!(pool.metrics().idle, 3, "surplus creations stay idle, the used one has expired");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_calls_again_at_once_meets_the_same_environment() {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { account_concurrency: 1, ..config() });
    for _ in 0..20 {
        // The phase ends 2 ms after the answer: the next call comes before that.
        let answer = start(&pool, 0, Act { tail_ms: 2, ..act(1) }).answer.await;
        assert!(answer.unwrap().is_ok());
    }
    assert_eq!(world.created(), 1);
    assert_eq!(pool.metrics().throttles, 0);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_works_on_after_its_answer_is_not_waited_for() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    let slow = start(&pool, 0, Act { tail_ms: 60_000, ..act(1) });
    assert!(slow.answer.await.unwrap().is_ok());
    let begin = Instant::now();
    assert_eq!(run(&pool, 0, act(1)).await, 1);
    let grace = PoolConfig::default().finish_grace;
    assert_eq!(begin.elapsed(), grace + fake::CREATION + MS);
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_fails_the_oldest_waiter_only() {
    let world = World::new();
    world.creation_delays([10, 20]);
    world.fail_creation(0);
    let pool = Pool::new(world.factory(), config());
    let (first, second) = (start(&pool, 0, act(1)), start(&pool, 0, act(1)));
    let error = first.answer.await.unwrap().unwrap_err();
    assert!(matches!(error, PoolError::Create(_)), "{error}");
    assert!(first.end.await.is_err());
    assert_eq!(answered(second).await.0, 1);
    assert_eq!(pool.metrics().creation_failures, 1);
    assert_eq!(pool.metrics().environments, 1);
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_panics_counts_as_failed() {
    let world = World::new();
    world.panic_creation(0);
    let pool = Pool::new(world.factory(), config());
    let error = start(&pool, 0, act(1)).answer.await.unwrap().unwrap_err();
    assert!(matches!(error, PoolError::Create(_)), "{error}");
    assert_eq!(pool.metrics().creating, 0);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_not_reusable_is_retired_and_replaced() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    assert_eq!(run(&pool, 0, Act { reusable: false, ..act(1) }).await, 0);
    assert!(world.is_retired(0));
    assert_eq!(run(&pool, 0, act(1)).await, 1);
    let lost = start(&pool, 0, Act { lost: true, ..act(1) });
    assert!(matches!(lost.answer.await.unwrap(), Err(PoolError::Lost)));
    assert!(!lost.end.await.unwrap().reusable);
    assert!(world.is_retired(1));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn forgotten_revisions_go_idle_at_once_busy_at_their_end() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    let busy = start(&pool, 0, act(100));
    sleep(50 * MS).await;
    let idle = run(&pool, 0, act(1)).await;
    let other = run(&pool, 1, act(1)).await;
    let gone = version(0);
    pool.forget(|version| version.revision == gone.revision);
    assert!(world.is_retired(idle) && !world.is_retired(0) && !world.is_retired(other));
    assert_eq!(answered(busy).await.0, 0, "what runs is left alone");
    assert!(world.is_retired(0));
    assert_eq!(pool.metrics().environments, 1);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_runs_and_refuses_the_rest() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    let running = start(&pool, 0, Act { tail_ms: 500, ..act(1_000) });
    run(&pool, 1, act(1)).await;
    let begin = Instant::now();
    let drained = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.drain().await }
    });
    assert!(running.answer.await.unwrap().is_ok());
    let refused = pool.invoke(version(1), fake::invocation(act(1)));
    assert!(matches!(refused, Err(PoolError::Draining)));
    drained.await.unwrap();
    assert!(begin.elapsed() >= 1_400 * MS && begin.elapsed() < 1_600 * MS);
    assert_eq!(pool.metrics().environments, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn the_drain_ends_with_its_grace() {
    let world = World::new();
    world.creation_delays([1, 1_000_000]);
    let pool = Pool::new(world.factory(), config());
    let running = start(&pool, 0, act(1_000_000));
    let waiting = start(&pool, 1, act(1));
    let begin = Instant::now();
    pool.drain().await;
    assert_eq!(begin.elapsed(), PoolConfig::default().drain_grace);
    assert!(matches!(waiting.answer.await.unwrap(), Err(PoolError::Draining)));
    assert!(world.is_retired(0), "cut off in the middle of its phase");
    drop(running);
    sleep(2_000_000 * MS).await;
    assert_eq!(pool.metrics().environments, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn ends_inside_begin_do_not_deepen_the_stack() {
    const WAITERS: u32 = 20_000;
    let world = World::new();
    world.creation_delays(std::iter::once(1).chain((1..WAITERS).map(|_| 1_000_000)));
    let limits = PoolConfig { account_concurrency: WAITERS, max_environments: WAITERS, ..config() };
    let pool = Pool::new(world.factory(), limits);
    let inside = Act { inside: true, ..act(0) };
    let all: Vec<_> = (0..WAITERS).map(|_| start(&pool, 0, inside)).collect();
    for in_flight in all {
        assert_eq!(answered(in_flight).await.0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_functions_have_environments_of_their_own() {
    let world = World::new();
    let limits = PoolConfig { account_concurrency: 5_000, max_environments: 5_000, ..config() };
    let pool = Pool::new(world.factory(), limits);
    for round in 0..2 {
        let all: Vec<_> = (0..3_000).map(|f| start(&pool, f, act(5))).collect();
        for in_flight in all {
            answered(in_flight).await;
        }
        assert_eq!(world.created(), 3_000, "round {round}");
    }
    sleep(30_000 * MS).await;
    assert_eq!(pool.metrics().environments, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn equal_revision_texts_of_two_functions_are_not_shared() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    let mut twin = (*version(1)).clone();
    twin.revision = version(0).revision.clone();
    run(&pool, 0, act(1)).await;
    let in_flight = pool.invoke(Arc::new(twin), fake::invocation(act(1))).unwrap();
    assert_eq!(answered(in_flight).await.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_at_once() {
    let world = World::new();
    let limits = PoolConfig { max_environments: 6, keep_alive: 20 * MS, ..config() };
    let pool = Pool::new(world.factory(), limits);
    let clients = (0..16).map(|client| {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move {
            for n in 0..150 {
                let act = Act { inside: n % 3 == 0, reusable: n % 50 != 7, ..act(0) };
                let in_flight = start(&pool, client % 4, act);
                // Whoever waits for room is served well before its timeout.
                in_flight.answer.await.unwrap().unwrap();
                assert!(in_flight.end.await.is_ok());
                if n % 40 == 20 {
                    let gone = version(client % 4);
                    pool.forget(|version| version.revision == gone.revision);
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    pool.drain().await;
    world.check();
    let metrics = pool.metrics();
    assert_eq!((metrics.busy, metrics.concurrent_executions), (0, 0));
    assert!(world.most_alive() <= 6);
}

/// The trait is what the environment crate's adapter implements: it must stay usable as an object.
#[test]
fn environments_can_be_objects() {
    fn takes(_: Option<&dyn Environment>) {}
    takes(None);
}
