//! The limits of this machine: environments and memory, and waiting for either.

use crate::fake::{self, Act, World, act, large, version};
use crate::{MS, answered, config, run, start};
use lambfold_pool::{Pool, PoolConfig, PoolError};
use tokio::time::{Instant, sleep};

fn few(environments: u32) -> PoolConfig {
    PoolConfig { max_environments: environments, ..config() }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_longest_is_given_the_room_that_is_free_first() {
    let world = World::new();
    let pool = Pool::new(world.factory(), few(1));
    let mut all = Vec::new();
    // 0 is the one that runs; it may not take a second turn before the others had theirs.
    for function in [0, 1, 0, 2, 1, 0] {
        all.push(start(&pool, function, act(10)));
        sleep(MS).await;
    }
    for in_flight in all {
        answered(in_flight).await;
    }
    assert_eq!(world.begun(), ["f0", "f1", "f0", "f2", "f1", "f0"]);
    assert_eq!(world.most_alive(), 1);
    assert_eq!(pool.metrics().throttles, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn an_idle_environment_makes_room_and_the_oldest_goes_first() {
    let world = World::new();
    let pool = Pool::new(world.factory(), few(2));
    run(&pool, 0, act(1)).await;
    run(&pool, 1, act(1)).await;
    assert_eq!(run(&pool, 2, act(1)).await, 2);
    assert!(world.is_retired(0) && !world.is_retired(1));
    assert_eq!(run(&pool, 1, act(1)).await, 1);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_timeout_of_the_function() {
    let world = World::new();
    let pool = Pool::new(world.factory(), few(1));
    let long = start(&pool, 0, act(60_000));
    sleep(MS).await;
    let begin = Instant::now();
    let waiting = start(&pool, 1, act(1));
    sleep(1_000 * MS).await;
    let later = start(&pool, 1, act(1));
    let error = waiting.answer.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "waited in vain for room: the limit is 1 execution environments");
    assert_eq!(begin.elapsed(), 3_000 * MS, "its timeout is 3 s");
    assert!(matches!(later.answer.await.unwrap(), Err(PoolError::NoRoom { limit: 1, .. })));
    assert_eq!(begin.elapsed(), 4_000 * MS);
    assert_eq!(pool.metrics().throttles, 2);
    // Who comes when there is room is not held up by those who gave up.
    answered(long).await;
    assert_eq!(run(&pool, 1, act(1)).await, 1);
    assert_eq!(pool.metrics().concurrent_executions, 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_pools_own_limit_when_that_is_shorter() {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { room_wait: 500 * MS, ..few(1) });
    let long = start(&pool, 0, act(60_000));
    let begin = Instant::now();
    assert!(start(&pool, 1, act(1)).answer.await.unwrap().is_err());
    assert_eq!(begin.elapsed(), 500 * MS);
    drop(long);
}

#[tokio::test(start_paused = true)]
async fn memory_is_a_limit_like_the_number() {
    let world = World::new();
    let limits = PoolConfig { max_memory_mib: 1_024, ..config() };
    let pool = Pool::new(world.factory(), limits);
    let small: Vec<_> = (0..4).map(|function| start(&pool, function, act(100))).collect();
    let half = pool.invoke(large(10, 512), fake::invocation(act(100))).unwrap();
    // 1024 of 1024 are taken: the next waits for two of 128, not past the whole.
    let quarter = pool.invoke(large(11, 256), fake::invocation(act(10))).unwrap();
    sleep(50 * MS).await;
    assert_eq!(pool.metrics().memory_mib, 1_024);
    assert_eq!(pool.metrics().environments, 5);
    for in_flight in small.into_iter().chain([half, quarter]) {
        answered(in_flight).await;
    }
    // All of it, at the expense of everything that is idle.
    let whole = pool.invoke(large(12, 1_024), fake::invocation(act(10))).unwrap();
    answered(whole).await;
    assert_eq!((pool.metrics().environments, pool.metrics().memory_mib), (1, 1_024));
    assert_eq!(world.most_memory_mib(), 1_024);
    let error = pool.invoke(large(13, 1_025), fake::invocation(act(10))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "function f13 has a MemorySize of 1025 MiB, and all environments together may have 1024 MiB; raise --max-memory or lower its MemorySize"
    );
    sleep(60_000 * MS).await;
    assert_eq!(pool.metrics().memory_mib, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn room_that_comes_free_in_any_way_is_used_at_once() {
    let world = World::new();
    world.creation_delays([10, 10, 10, 10, 10, 10]);
    world.fail_creation(3);
    let pool = Pool::new(world.factory(), few(1));
    // An environment that is lost.
    let lost = start(&pool, 0, Act { lost: true, ..act(10) });
    let next = start(&pool, 1, act(10));
    assert!(matches!(lost.answer.await.unwrap(), Err(PoolError::Lost)));
    assert_eq!(answered(next).await.0, 1);
    // One whose function is gone.
    let running = start(&pool, 1, act(100));
    let next = start(&pool, 2, act(10));
    sleep(MS).await;
    let gone = version(1);
    pool.forget(|version| version.revision == gone.revision);
    answered(running).await;
    assert_eq!(answered(next).await.0, 2);
    // One that could not be made.
    let failing = start(&pool, 3, act(10));
    let next = start(&pool, 4, act(10));
    assert!(matches!(failing.answer.await.unwrap(), Err(PoolError::Create(_))));
    assert_eq!(answered(next).await.0, 4);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn idle_environments_can_be_shed() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    for function in 0..4 {
        run(&pool, function, act(1)).await;
    }
    let busy = start(&pool, 3, act(100));
    assert_eq!(pool.shed(2), 2);
    assert!(world.is_retired(0) && world.is_retired(1) && !world.is_retired(2));
    assert_eq!(pool.shed(5), 1, "what runs is left alone");
    answered(busy).await;
    assert_eq!(pool.metrics().environments, 1);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_thousand_functions_share_ten_places_in_order() {
    let world = World::new();
    let limits = PoolConfig { room_wait: 600_000 * MS, ..few(10) };
    let pool = Pool::new(world.factory(), limits);
    let patient = |function: usize| {
        let mut version = (*version(function)).clone();
        version.timeout_s = 900;
        pool.invoke(std::sync::Arc::new(version), fake::invocation(act(5))).unwrap()
    };
    let mut all = Vec::new();
    for function in 0..1_000 {
        all.push(patient(function));
        sleep(MS).await;
    }
    for in_flight in all {
        answered(in_flight).await;
    }
    let expected: Vec<_> = (0..1_000).map(|function| format!("f{function}")).collect();
    assert_eq!(world.begun(), expected);
    assert!(world.most_alive() <= 10);
    world.check();
}
