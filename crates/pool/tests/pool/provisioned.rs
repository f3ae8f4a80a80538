//! Provisioned concurrency: environments that are there before anybody asks.

use crate::fake::{self, Act, Fake, World, act, published, scope, version};
use crate::{MS, answered, config};
use lambfold_pool::{Allocation, AllocationFailure, Concurrency, Pool, PoolConfig, PoolError};
use lambfold_types::FunctionVersion;
use std::sync::Arc;
use tokio::time::sleep;

fn provision(pool: &Pool<Fake>, reserved: Option<u32>, provisioned: &[(u64, u32)]) {
    let provisioned = provisioned.iter().map(|(number, count)| (published(0, *number), *count));
    let concurrency = Concurrency { reserved, provisioned: provisioned.collect() };
    pool.set_concurrency(&scope(), &version(0).name, concurrency);
}

fn allocated(pool: &Pool<Fake>) -> Vec<(u32, u32, Option<AllocationFailure>)> {
    let all = pool.allocations(&scope(), &version(0).name);
    let short = |a: Allocation| (a.requested, a.allocated, a.failure);
    all.into_iter().map(short).collect()
}

async fn run(pool: &Arc<Pool<Fake>>, version: Arc<FunctionVersion>, act: Act) -> usize {
    answered(pool.invoke(version, fake::invocation(act)).unwrap()).await.0
}

#[tokio::test(start_paused = true)]
async fn environments_are_ready_before_the_first_invocation_and_stay() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 20)]);
    assert_eq!(allocated(&pool), [(20, 0, None)]);
    assert!(pool.metrics().creating <= 8, "not all at once");
    sleep(100 * MS).await;
    assert_eq!(allocated(&pool), [(20, 20, None)]);
    assert_eq!(world.created(), 20);
    assert!((0..20).all(|number| world.is_provisioned(number)));
    sleep(100_000 * MS).await;
    assert_eq!(world.alive(), 20, "the keep-alive is not for them");
    assert_eq!(pool.metrics().provisioned, 20);
    run(&pool, published(0, 1), act(1)).await;
    run(&pool, published(0, 2), act(1)).await;
    assert_eq!(world.created(), 21, "another version has its own");
    assert_eq!(pool.metrics().cold_starts, 1);
    provision(&pool, None, &[]);
    assert_eq!(world.alive(), 1);
    assert_eq!(allocated(&pool), []);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_run_on_demand() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 1)]);
    sleep(50 * MS).await;
    let invoke = |ms| pool.invoke(published(0, 1), fake::invocation(act(ms))).unwrap();
    let (first, second) = (invoke(100), invoke(20));
    assert_eq!(answered(second).await.0, 1);
    assert!(!world.is_provisioned(1));
    assert_eq!(answered(first).await.0, 0);
    // One at a time is what is provisioned: it goes there, although the other was used last.
    for _ in 0..3 {
        assert_eq!(answered(invoke(1)).await.0, 0);
    }
    sleep(20_000 * MS).await;
    assert!(world.is_retired(1) && !world.is_retired(0));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn it_is_a_part_of_what_is_reserved() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, Some(2), &[(1, 2)]);
    sleep(50 * MS).await;
    let latest = pool.invoke(version(0), fake::invocation(act(1))).unwrap_err();
    assert!(latest.to_string().contains("ReservedFunction"), "{latest}");
    let invoke = |ms| pool.invoke(published(0, 1), fake::invocation(act(ms)));
    let running = [invoke(50).unwrap(), invoke(50).unwrap()];
    assert!(matches!(invoke(1), Err(PoolError::Throttled { limit: 2, .. })));
    for one in running {
        answered(one).await;
    }
    provision(&pool, Some(3), &[(1, 2)]);
    let all = [invoke(50).unwrap(), invoke(50).unwrap(), invoke(50).unwrap()];
    assert!(invoke(1).is_err());
    assert!(pool.invoke(version(0), fake::invocation(act(1))).is_err());
    for one in all {
        answered(one).await;
    }
    // A sequential client is never refused, although its environment takes a while to be free.
    provision(&pool, Some(1), &[(1, 1)]);
    for _ in 0..10 {
        let act = Act { tail_ms: 3, ..act(1) };
        let in_flight = pool.invoke(published(0, 1), fake::invocation(act)).unwrap();
        assert!(in_flight.answer.await.unwrap().is_ok());
    }
    world.check();
}

#[tokio::test(start_paused = true)]
async fn it_is_missing_for_functions_that_reserve_nothing() {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { account_concurrency: 5, ..config() });
    provision(&pool, None, &[(1, 3)]);
    sleep(50 * MS).await;
    let others: Vec<_> = (1..=2).map(|f| crate::start(&pool, f, act(100))).collect();
    let refused = pool.invoke(version(3), fake::invocation(act(1))).unwrap_err();
    assert!(refused.to_string().ends_with("the limit is 2 concurrent executions"), "{refused}");
    for _ in 0..3 {
        assert!(pool.invoke(published(0, 1), fake::invocation(act(10))).is_ok());
    }
    assert!(pool.invoke(published(0, 1), fake::invocation(act(10))).is_err());
    for one in others {
        answered(one).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_init_is_told_and_costs_no_environment() {
    let world = World::new();
    world.break_init(0, true);
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 20)]);
    sleep(60_000 * MS).await;
    assert_eq!(allocated(&pool), [(20, 0, Some(AllocationFailure::Init))]);
    assert!(world.created() <= 8, "it is not tried for ever");
    assert_eq!((world.alive(), pool.metrics().environments), (0, 0));
    world.break_init(0, false);
    provision(&pool, None, &[(1, 2)]);
    sleep(60 * MS).await;
    assert_eq!(allocated(&pool), [(2, 2, None)]);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_platform_is_tried_again() {
    let world = World::new();
    world.fail_creation(0);
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 1)]);
    sleep(50 * MS).await;
    assert_eq!(allocated(&pool), [(1, 0, Some(AllocationFailure::Platform))]);
    sleep(20_000 * MS).await;
    assert_eq!(allocated(&pool), [(1, 1, None)]);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_room_without_taking_it_from_those_who_wait() {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { max_environments: 2, ..config() });
    crate::run(&pool, 1, act(1)).await;
    provision(&pool, None, &[(1, 3)]);
    sleep(50 * MS).await;
    assert!(world.is_retired(0), "an idle one makes room");
    assert_eq!(allocated(&pool), [(3, 2, Some(AllocationFailure::NoRoom))]);
    let refused = crate::start(&pool, 1, act(1)).answer.await.unwrap();
    assert!(refused.is_err(), "provisioned ones make no room");
    provision(&pool, None, &[(1, 1)]);
    assert_eq!(world.alive(), 1);
    crate::run(&pool, 1, act(1)).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_lost_environment_is_replaced() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 2)]);
    sleep(50 * MS).await;
    run(&pool, published(0, 1), Act { reusable: false, ..act(1) }).await;
    assert_eq!(allocated(&pool), [(2, 1, None)]);
    sleep(50 * MS).await;
    assert_eq!(allocated(&pool), [(2, 2, None)]);
    assert_eq!(world.alive(), 2);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn when_it_moves_the_old_version_keeps_it_until_the_new_one_is_ready() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 1)]);
    sleep(50 * MS).await;
    provision(&pool, None, &[(2, 1)]);
    assert_eq!(allocated(&pool), [(1, 0, None), (0, 1, None)]);
    assert_eq!(run(&pool, published(0, 1), act(1)).await, 0);
    sleep(50 * MS).await;
    assert_eq!(allocated(&pool), [(1, 1, None)]);
    assert!(world.is_retired(0));
    // There and back again before anything was ready.
    provision(&pool, None, &[(3, 1)]);
    provision(&pool, None, &[(2, 1)]);
    sleep(50 * MS).await;
    assert_eq!(allocated(&pool), [(1, 1, None)]);
    assert_eq!(world.alive(), 1);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn less_of_it_retires_the_rest_busy_ones_at_their_end() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 3)]);
    sleep(50 * MS).await;
    let invoke = || pool.invoke(published(0, 1), fake::invocation(act(100))).unwrap();
    let all = [invoke(), invoke(), invoke()];
    provision(&pool, None, &[(1, 1)]);
    assert_eq!(allocated(&pool), [(1, 1, None)]);
    for one in all {
        answered(one).await;
    }
    assert_eq!((world.alive(), world.created()), (1, 3));
    let gone = published(0, 1);
    pool.forget(|version| version == &*gone);
    assert_eq!(world.alive(), 0);
    provision(&pool, None, &[]);
    assert_eq!(allocated(&pool), []);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn the_drain_ends_it() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    provision(&pool, None, &[(1, 9)]);
    pool.drain().await;
    sleep(60_000 * MS).await;
    assert_eq!((world.alive(), pool.metrics().environments), (0, 0));
    world.check();
}
