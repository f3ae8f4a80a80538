//! Random orders of everything that can happen, with what must hold after each.

use crate::fake::{Act, World, invocation, version};
use lambfold_pool::{Pool, PoolConfig, PoolError};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Invoke(usize, Act),
    Wait(u64),
    Forget(usize),
}

fn act() -> impl Strategy<Value = Act> {
    (0u16..60, prop_oneof![Just(0u16), 0u16..30], 0u8..12).prop_map(|(run_ms, tail_ms, kind)| Act {
        run_ms,
        tail_ms,
        reusable: kind != 0,
        lost: kind == 1,
        inside: kind < 4 && kind > 1,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0usize..3, act()).prop_map(|(function, act)| Step::Invoke(function, act)),
        4 => (0u64..120).prop_map(Step::Wait),
        1 => (0usize..3).prop_map(Step::Forget),
    ]
}

#[derive(Debug, Clone)]
struct Plan {
    steps: Vec<Step>,
    creations: Vec<(u64, bool)>,
    concurrency: u32,
    environments: u32,
    keep_alive_ms: u64,
    drains: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        proptest::collection::vec(step(), 1..80),
        proptest::collection::vec((0u64..100, prop::bool::weighted(0.15)), 80),
        1u32..12,
        1u32..8,
        prop_oneof![Just(100_000u64), 0u64..200],
        any::<bool>(),
    )
        .prop_map(|(steps, creations, concurrency, environments, keep_alive_ms, drains)| {
            Plan { steps, creations, concurrency, environments, keep_alive_ms, drains }
        })
}

async fn carry_out(plan: Plan) {
    let world = World::new();
    world.creation_delays(plan.creations.iter().map(|(delay, _)| *delay));
    for (number, _) in plan.creations.iter().enumerate().filter(|(_, (_, fails))| *fails) {
        world.fail_creation(number);
    }
    let keep_alive = Duration::from_millis(plan.keep_alive_ms);
    let pool = Pool::new(
        world.factory(),
        PoolConfig {
            keep_alive,
            account_concurrency: plan.concurrency,
            max_environments: plan.environments,
            ..PoolConfig::default()
        },
    );
    let mut callers = Vec::new();
    for step in plan.steps {
        match step {
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Forget(function) => {
                let gone = version(function);
                pool.forget(|version| version.revision == gone.revision);
            }
            Step::Invoke(function, act) => match pool.invoke(version(function), invocation(act)) {
                Err(error) => assert!(matches!(error, PoolError::Throttled { .. }), "{error}"),
                Ok(in_flight) => {
                    callers.push(tokio::spawn(async move {
                        let answer = in_flight.answer.await.unwrap();
                        let ran = match answer {
                            Ok(_) => true,
                            Err(PoolError::Lost) => {
                                assert!(act.lost);
                                true
                            }
                            Err(PoolError::Throttled { .. } | PoolError::Create(_)) => false,
                            Err(PoolError::Draining) => panic!("nothing drains yet"),
                        };
                        assert_eq!(in_flight.end.await.is_ok(), ran);
                    }));
                }
            },
        }
        assert!(pool.metrics().concurrent_executions <= plan.concurrency.into());
        assert!(pool.metrics().environments <= plan.environments.into());
    }
    for caller in callers {
        tokio::time::timeout(Duration::from_secs(60), caller).await.unwrap().unwrap();
    }
    assert_eq!(pool.metrics().busy, 0);
    if plan.drains {
        pool.drain().await;
    } else {
        tokio::time::sleep(keep_alive * 2 + Duration::from_secs(30)).await;
    }
    // Creations that turned out surplus may still be under way.
    tokio::time::sleep(Duration::from_secs(300)).await;
    world.check();
    assert_eq!(world.alive(), 0, "an environment leaked");
    assert!(world.most_alive() <= usize::try_from(plan.environments).unwrap());
    let metrics = pool.metrics();
    assert_eq!((metrics.environments, metrics.creating, metrics.concurrent_executions), (0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_invocation_has_one_end_and_no_environment_is_shared_or_leaked(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(carry_out(plan));
    }
}
