//! The limits of AWS: the account's concurrency, and what is reserved for functions.

use crate::fake::{self, World, act, published, scope, version};
use crate::{MS, answered, config, run, start};
use lambfold_pool::{Concurrency, Pool, PoolConfig, PoolError, ThrottleReason};
use lambfold_types::{FunctionVersion, Region};
use std::sync::Arc;
use tokio::time::sleep;

fn refused<F: lambfold_pool::EnvironmentFactory>(
    pool: &Arc<Pool<F>>,
    version: Arc<FunctionVersion>,
) -> Option<(ThrottleReason, u32)> {
    match pool.invoke(version, fake::invocation(act(1))) {
        Ok(_) => None,
        Err(PoolError::Throttled { reason, limit, .. }) => Some((reason, limit)),
        Err(error) => panic!("{error}"),
    }
}

fn reserved(count: u32) -> Concurrency {
    Concurrency { reserved: Some(count), provisioned: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn the_limits_hold_on_both_sides() {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { account_concurrency: 3, ..config() });
    let in_flight: Vec<_> = (0..3).map(|_| start(&pool, 0, act(100))).collect();
    let error = pool.invoke(version(0), fake::invocation(act(1))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "throttled by ConcurrentInvocationLimitExceeded: the limit is 3 concurrent executions"
    );
    assert_eq!(pool.metrics().concurrent_executions, 3);
    for one in in_flight {
        answered(one).await;
    }
    run(&pool, 0, act(1)).await;
    assert_eq!(pool.metrics().throttles, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_function_reserves_is_its_limit_and_missing_for_the_others() {
    use ThrottleReason::{
        ConcurrentInvocationLimitExceeded as Account,
        ReservedFunctionConcurrentInvocationLimitExceeded as Reserved,
    };
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { account_concurrency: 5, ..config() });
    pool.set_concurrency(&scope(), &version(0).name, reserved(2));
    // All its versions share it.
    let mut running = vec![start(&pool, 0, act(100))];
    running.push(pool.invoke(published(0, 1), fake::invocation(act(100))).unwrap());
    assert_eq!(refused(&pool, version(0)), Some((Reserved, 2)));
    assert_eq!(refused(&pool, published(0, 2)), Some((Reserved, 2)));
    running.extend((1..=3).map(|function| start(&pool, function, act(100))));
    assert_eq!(refused(&pool, version(4)), Some((Account, 3)));
    // Another region has an account limit of its own.
    let mut abroad = (*version(4)).clone();
    abroad.scope.region = Region::parse("eu-west-1").unwrap();
    assert_eq!(refused(&pool, Arc::new(abroad)), None);
    assert_eq!(pool.metrics().throttles, 3);
    for one in running {
        answered(one).await;
    }

    pool.set_concurrency(&scope(), &version(0).name, reserved(0));
    assert_eq!(refused(&pool, version(0)), Some((Reserved, 0)));
    let running: Vec<_> = (1..=5).map(|function| start(&pool, function, act(100))).collect();
    pool.set_concurrency(&scope(), &version(0).name, Concurrency::default());
    assert_eq!(refused(&pool, version(0)), Some((Account, 5)), "what is not reserved is shared");
    for one in running {
        answered(one).await;
    }
    assert_eq!(run(&pool, 0, act(1)).await, 0, "its environment was kept");
    sleep(60_000 * MS).await;
    assert_eq!(pool.metrics().environments, 0);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_limit_may_change_while_invocations_run() {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig { account_concurrency: 4, ..config() });
    let running: Vec<_> = (0..3).map(|_| start(&pool, 0, act(100))).collect();
    pool.set_concurrency(&scope(), &version(0).name, reserved(3));
    assert!(refused(&pool, version(0)).is_some(), "the three that run count");
    pool.set_concurrency(&scope(), &version(0).name, reserved(1));
    for one in running {
        answered(one).await;
    }
    let one = start(&pool, 0, act(10));
    assert!(refused(&pool, version(0)).is_some());
    pool.set_concurrency(&scope(), &version(0).name, Concurrency::default());
    let more: Vec<_> = (0..4).map(|_| start(&pool, 0, act(10))).collect();
    for one in more.into_iter().chain([one]) {
        answered(one).await;
    }
    assert_eq!(pool.metrics().concurrent_executions, 0);
    assert_eq!(run(&pool, 1, act(1)).await, world.created() - 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_at_the_reserved_limit_is_never_refused_between_its_calls() {
    let world = World::new();
    let pool = Pool::new(world.factory(), config());
    pool.set_concurrency(&scope(), &version(0).name, reserved(1));
    for _ in 0..20 {
        let slow_end = fake::Act { tail_ms: 2, ..act(1) };
        assert!(start(&pool, 0, slow_end).answer.await.unwrap().is_ok());
    }
    assert_eq!(pool.metrics().throttles, 0);
}
