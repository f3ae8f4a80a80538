//! Random orders of everything that can happen, with what must hold after each.

use crate::fake::{Act, World, invocation, published, scope, version};
use lambfold_pool::{Concurrency, Pool, PoolConfig, PoolError};
use lambfold_types::FunctionVersion;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const FUNCTIONS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Invoke(usize, u64, Act),
    Wait(u64),
    Forget(usize),
    Shed(usize),
    /// Reserved, and provisioned for the versions 1 and 2.
    Set(usize, Option<u32>, [u32; 2]),
    Break(usize, bool),
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
    let function = 0..FUNCTIONS;
    prop_oneof![
        24 => (function.clone(), 0u64..3, act()).prop_map(|(f, number, act)| Step::Invoke(f, number, act)),
        8 => (0u64..120).prop_map(Step::Wait),
        2 => function.clone().prop_map(Step::Forget),
        1 => (1usize..4).prop_map(Step::Shed),
        4 => (function.clone(), proptest::option::of(0u32..4), [0u32..4, 0u32..4])
            .prop_map(|(f, reserved, provisioned)| Step::Set(f, reserved, provisioned)),
        1 => (function, any::<bool>()).prop_map(|(f, broken)| Step::Break(f, broken)),
    ]
}

#[derive(Debug, Clone)]
struct Plan {
    steps: Vec<Step>,
    creations: Vec<(u64, bool)>,
    concurrency: u32,
    environments: u32,
    memory_mib: u32,
    keep_alive_ms: u64,
    drains: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        proptest::collection::vec(step(), 1..80),
        proptest::collection::vec((0u64..100, prop::bool::weighted(0.15)), 80),
        1u32..12,
        1u32..8,
        prop_oneof![Just(1_000_000u32), 100u32..1_200],
        prop_oneof![Just(100_000u64), 0u64..200],
        any::<bool>(),
    )
        .prop_map(
            |(steps, creations, concurrency, environments, memory_mib, keep_alive_ms, drains)| {
                Plan {
                    steps,
                    creations,
                    concurrency,
                    environments,
                    memory_mib,
                    keep_alive_ms,
                    drains,
                }
            },
        )
}

/// The functions differ in size; 0 is `$LATEST`.
fn of(function: usize, number: u64) -> Arc<FunctionVersion> {
    let version = if number == 0 { version(function) } else { published(function, number) };
    let memory_mib = 128 << function;
    Arc::new(FunctionVersion { memory_mib, ..(*version).clone() })
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
            max_memory_mib: plan.memory_mib.into(),
            ..PoolConfig::default()
        },
    );
    let mut callers = Vec::new();
    for step in plan.steps {
        match step {
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Forget(function) => {
                let gone = of(function, 0);
                pool.forget(|version| version.revision == gone.revision);
            }
            Step::Shed(count) => drop(pool.shed(count)),
            Step::Break(function, broken) => world.break_init(function, broken),
            Step::Set(function, reserved, provisioned) => {
                let provisioned = (1..).zip(provisioned);
                let provisioned = provisioned.map(|(number, count)| (of(function, number), count));
                let concurrency = Concurrency { reserved, provisioned: provisioned.collect() };
                pool.set_concurrency(&scope(), &version(function).name, concurrency);
            }
            Step::Invoke(function, number, act) => {
                match pool.invoke(of(function, number), invocation(act)) {
                    Err(PoolError::Throttled { .. }) => {}
                    Err(PoolError::TooLarge { .. }) => assert!(plan.memory_mib < 128 << function),
                    Err(error) => panic!("{error}"),
                    Ok(in_flight) => callers.push(tokio::spawn(async move {
                        let answer = in_flight.answer.await.unwrap();
                        let ran = match answer {
                            Ok(_) => true,
                            Err(PoolError::Lost) => {
                                assert!(act.lost);
                                true
                            }
                            Err(PoolError::NoRoom { .. } | PoolError::Create(_)) => false,
                            Err(error) => panic!("{error}"),
                        };
                        assert_eq!(in_flight.end.await.is_ok(), ran);
                    })),
                }
            }
        }
        assert!(pool.metrics().environments <= plan.environments.into());
        assert!(pool.metrics().memory_mib <= plan.memory_mib.into());
    }
    for caller in callers {
        tokio::time::timeout(Duration::from_secs(60), caller).await.unwrap().unwrap();
    }
    assert_eq!(pool.metrics().busy, 0);
    if plan.drains {
        pool.drain().await;
    } else {
        for function in 0..FUNCTIONS {
            let name = &version(function).name;
            pool.set_concurrency(&scope(), name, Concurrency::default());
        }
        tokio::time::sleep(keep_alive * 2 + Duration::from_secs(30)).await;
    }
    // Creations that turned out surplus may still be under way.
    tokio::time::sleep(Duration::from_secs(300)).await;
    world.check();
    assert_eq!(world.alive(), 0, "an environment leaked");
    assert!(world.most_alive() <= usize::try_from(plan.environments).unwrap());
    assert!(world.most_memory_mib() <= plan.memory_mib);
    let metrics = pool.metrics();
    assert_eq!((metrics.environments, metrics.creating, metrics.concurrent_executions), (0, 0, 0));
    assert_eq!((metrics.memory_mib, metrics.provisioned), (0, 0));
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

/// One function, random limits and lengths: never more at a time than is reserved, and nobody is
/// refused who is within it.
async fn stay_within(reserved: u32, provisioned: u32, lengths: Vec<(u16, u64)>) {
    let world = World::new();
    let pool = Pool::new(world.factory(), PoolConfig::default());
    let provisioned = vec![(of(0, 1), provisioned)];
    let concurrency = Concurrency { reserved: Some(reserved), provisioned };
    pool.set_concurrency(&scope(), &version(0).name, concurrency);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let running = Arc::new(std::sync::atomic::AtomicU32::new(0));
    use std::sync::atomic::Ordering::SeqCst;
    for (run_ms, pause_ms) in lengths {
        let act = Act { run_ms, tail_ms: 0, reusable: true, lost: false, inside: false };
        let before = running.load(SeqCst);
        match pool.invoke(of(0, 1), invocation(act)) {
            Ok(in_flight) => {
                assert!(before < reserved);
                running.fetch_add(1, SeqCst);
                let running = Arc::clone(&running);
                tokio::spawn(async move {
                    in_flight.answer.await.unwrap().unwrap();
                    running.fetch_sub(1, SeqCst);
                });
            }
            Err(PoolError::Throttled { .. }) => assert_eq!(before, reserved),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// Room for one environment: invocations begin in the order in which they came.
async fn come_first(arrivals: Vec<(usize, u16, u64)>) {
    let world = World::new();
    let hour = Duration::from_secs(3_600);
    let pool = Pool::new(
        world.factory(),
        PoolConfig { max_environments: 1, room_wait: hour, ..PoolConfig::default() },
    );
    let mut expected = Vec::new();
    let mut callers = Vec::new();
    for (function, run_ms, pause_ms) in arrivals {
        let version = FunctionVersion { timeout_s: 900, ..(*version(function)).clone() };
        let act = Act { run_ms, tail_ms: 0, reusable: true, lost: false, inside: false };
        expected.push(version.name.to_string());
        callers.push(pool.invoke(Arc::new(version), invocation(act)).unwrap());
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    for in_flight in callers {
        in_flight.answer.await.unwrap().unwrap();
    }
    assert_eq!(world.begun(), expected);
    assert_eq!(world.most_alive(), 1);
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn room_is_given_in_the_order_of_arrival(
        arrivals in proptest::collection::vec((0usize..4, 1u16..40, 1u64..60), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(come_first(arrivals));
    }

    #[test]
    fn what_is_reserved_is_neither_exceeded_nor_withheld(
        reserved in 0u32..6,
        provisioned in 0u32..6,
        lengths in proptest::collection::vec((1u16..50, 0u64..20), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(stay_within(reserved, provisioned.min(reserved), lengths));
    }
}
