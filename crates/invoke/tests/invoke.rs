//! Invocations over the real pool, with fake environments and paused time.
#![allow(clippy::unwrap_used)]

#[path = "invoke/fake.rs"]
mod fake;

use bytes::Bytes;
use fake::{Behaviour, MemoryQueue, Names, TokioClock, World, scope};
use lambfold_fault::{Faults, Kind, Target, Wish};
use lambfold_invoke::{
    AsyncConfig, ErrorKind, Functions as _, InvokeError, Invoker, Request, Spoiled,
};
use lambfold_pool::{Concurrency, Pool, PoolConfig, ThrottleReason};
use lambfold_store::Store;
use lambfold_types::{FunctionName, InvocationKind, RequestId, Scope, Version, limits};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    faults: Arc<Faults>,
    world: World,
    names: Names,
    queue: MemoryQueue,
    pool: Arc<Pool<fake::Fake>>,
    invoker: Invoker,
    scope: Scope,
}

fn stage_with(behaviour: Behaviour, pool: PoolConfig, config: AsyncConfig) -> Stage {
    let world = World::new(behaviour);
    let (names, queue) = (Names::default(), MemoryQueue::default());
    let pool = Pool::new(world.factory(), pool);
    let clock = Arc::new(TokioClock::new());
    let faults = Arc::new(Faults::new(clock.clone(), |_| {}));
    let placement = Spoiled::new(pool.clone(), Arc::clone(&faults));
    let invoker = Invoker::with_config(names.clone(), placement, queue.clone(), clock, config);
    Stage { faults, world, names, queue, pool, invoker, scope: scope() }
}

fn stage(behaviour: Behaviour) -> Stage {
    stage_with(behaviour, PoolConfig::default(), AsyncConfig::default())
}

impl Stage {
    fn request(&self, payload: impl Into<Bytes>) -> Request<'_> {
        Request {
            scope: &self.scope,
            function: "f",
            qualifier: None,
            request_id: RequestId::random(),
            payload: payload.into(),
            content_type: None,
            client_context: Some("{}".into()),
            trace_id: Some("Root=1-2-3".into()),
            log_tail: true,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_synchronous_invocation_brings_answer_version_and_log_tail() {
    let stage = stage(Behaviour::Answers);
    let request = stage.request("{\"a\": 1}");
    let id = request.request_id;
    let outcome = stage.invoker.invoke(request).await.unwrap();
    assert_eq!(outcome.request_id, id);
    assert_eq!(outcome.executed_version, Version::Latest);
    assert_eq!(outcome.answer.payload, "{\"a\": 1}");
    assert_eq!(outcome.log_tail.wait().await.unwrap(), b"the log");
    let (_, seen) = stage.world.seen().pop().unwrap();
    assert_eq!(seen.kind, InvocationKind::Synchronous);
    assert_eq!(&*seen.invoked_function_arn, "arn:aws:lambda:us-east-1:000000000000:function:f");
    assert_eq!(seen.client_context.as_deref(), Some("{}"));
    assert_eq!(stage.queue.len(), 0);

    let fails = stage_with(Behaviour::Fails, PoolConfig::default(), AsyncConfig::default());
    let outcome = fails.invoker.invoke(fails.request("{}")).await.unwrap();
    assert!(outcome.answer.function_error, "a function error is an answer");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_and_with_which_exception() {
    let stage = stage(Behaviour::Answers);
    let kind = |error: InvokeError| (error.kind(), error.message().unwrap());
    let text = |bytes: usize| [vec![b'"'], vec![b'x'; bytes - 2], vec![b'"']].concat();

    let fits = stage.request(text(limits::SYNC_REQUEST_BYTES));
    assert!(stage.invoker.invoke(fits.clone()).await.is_ok());
    assert!(stage.invoker.dry_run(&fits).is_ok());
    let over = stage.request(text(limits::SYNC_REQUEST_BYTES + 1));
    assert_eq!(kind(stage.invoker.dry_run(&over).unwrap_err()).0, ErrorKind::RequestTooLarge);
    let (over, message) = kind(stage.invoker.invoke(over).await.unwrap_err());
    assert_eq!(over, ErrorKind::RequestTooLarge);
    assert_eq!(
        message,
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"
    );
    assert!(stage.invoker.enqueue(stage.request(text(limits::ASYNC_REQUEST_BYTES))).await.is_ok());
    let over = stage.invoker.enqueue(stage.request(text(limits::ASYNC_REQUEST_BYTES + 1))).await;
    assert_eq!(kind(over.unwrap_err()).0, ErrorKind::RequestTooLarge);

    for payload in ["", "{}", "null"] {
        assert!(stage.invoker.invoke(stage.request(payload)).await.is_ok(), "{payload:?}");
    }
    let refused = stage.invoker.invoke(stage.request("{")).await.unwrap_err();
    assert_eq!(kind(refused).0, ErrorKind::InvalidRequestContent);

    let missing = Request { function: "g", ..stage.request("{}") };
    let (kind, message) = kind(stage.invoker.invoke(missing).await.unwrap_err());
    assert_eq!(kind, ErrorKind::Control(lambfold_control::ErrorKind::ResourceNotFound));
    assert_eq!(
        message,
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g:$LATEST"
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_invocation_says_why() {
    let pool = PoolConfig { account_concurrency: 0, ..PoolConfig::default() };
    let stage = stage_with(Behaviour::Answers, pool, AsyncConfig::default());
    let error = stage.invoker.invoke(stage.request("{}")).await.unwrap_err();
    let reason = ThrottleReason::ConcurrentInvocationLimitExceeded;
    assert_eq!(error.kind(), ErrorKind::TooManyRequests(reason));
    assert_eq!(error.message().unwrap(), "Rate Exceeded.");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_runs_nothing() {
    let stage = stage(Behaviour::Answers);
    stage.invoker.dry_run(&stage.request("{}")).unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_stored_before_it_is_acknowledged_and_gone_when_it_is_done() {
    let stage = stage(Behaviour::Answers);
    let request = Request { qualifier: Some("$LATEST"), ..stage.request("[1]") };
    let id = request.request_id;
    stage.invoker.enqueue(request).await.unwrap();
    assert_eq!((stage.queue.len(), stage.world.seen().len()), (1, 0));
    sleep(SECOND).await;
    assert_eq!(stage.queue.len(), 0);
    let (after, seen) = stage.world.seen().pop().unwrap();
    assert!(after < SECOND);
    assert_eq!((seen.request_id, seen.kind), (id, InvocationKind::Asynchronous));
    assert_eq!(seen.payload, "[1]");
    assert_eq!(
        &*seen.invoked_function_arn,
        "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST"
    );
    assert_eq!(seen.client_context, None, "AWS does not pass it on");
    assert_eq!(seen.trace_id.as_deref(), Some("Root=1-2-3"));
}

#[tokio::test(start_paused = true)]
async fn a_failing_function_is_tried_again_after_one_and_two_minutes() {
    let stage = stage(Behaviour::Fails);
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(3_600 * SECOND).await;
    let seen = stage.world.seen();
    let times: Vec<_> = seen.iter().map(|(after, _)| after.as_secs()).collect();
    assert_eq!(times, [0, 60, 180]);
    assert!(seen.iter().all(|(_, one)| one.request_id == seen[0].1.request_id));
    assert_eq!(stage.queue.len(), 0, "given up");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_works_is_the_last() {
    let stage = stage(Behaviour::FailsFirst(1));
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(3_600 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 2);
    assert_eq!(stage.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_too_old_for_its_retry_is_given_up() {
    let config = AsyncConfig { max_age: 60 * SECOND, ..AsyncConfig::default() };
    let stage = stage_with(Behaviour::Fails, PoolConfig::default(), config);
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(3_600 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 1, "its start took some time of the 60 seconds");
    assert_eq!(stage.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_event_backs_off_and_uses_up_no_attempts() {
    let pool = PoolConfig { account_concurrency: 1, ..PoolConfig::default() };
    let stage = stage_with(Behaviour::Slow(1_000 * SECOND), pool, AsyncConfig::default());
    let blocker = stage.invoker.clone();
    let scope = stage.scope.clone();
    tokio::spawn(async move {
        let request = Request {
            scope: &scope,
            function: "f",
            qualifier: None,
            request_id: RequestId::random(),
            payload: Bytes::new(),
            content_type: None,
            client_context: None,
            trace_id: None,
            log_tail: false,
        };
        blocker.invoke(request).await.unwrap();
    });
    sleep(SECOND / 10).await;
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(900 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 1, "only the blocker runs");
    let waits = stage.queue.postponed();
    assert_eq!(&waits[..10], [1, 1, 2, 4, 8, 16, 32, 64, 128, 256], "seconds");
    assert!(waits[10..].iter().all(|wait| *wait == 300));
    assert_eq!(stage.queue.attempts(), [0]);
    sleep(400 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 2, "it ran as soon as it was tried again");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_never_gets_through_is_given_up_after_six_hours() {
    let pool = PoolConfig { account_concurrency: 0, ..PoolConfig::default() };
    let stage = stage_with(Behaviour::Answers, pool, AsyncConfig::default());
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep((6 * 3_600 - 330) * SECOND).await;
    assert_eq!(stage.queue.len(), 1);
    sleep(330 * SECOND).await;
    assert_eq!(stage.queue.len(), 0);
    assert_eq!(stage.world.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_deleted_function_are_dropped() {
    let stage = stage(Behaviour::Fails);
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(SECOND).await;
    stage.names.delete();
    sleep(120 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 1);
    assert_eq!(stage.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_function_with_layers_is_refused_without_walls_and_its_events_wait() {
    let stage = stage(Behaviour::Answers);
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    // The dispatcher had no turn yet.
    stage.names.layered(true);
    sleep(60 * SECOND).await;
    assert_eq!((stage.queue.len(), stage.world.seen().len()), (1, 0));
    let refused = stage.invoker.invoke(stage.request("{}")).await.unwrap_err();
    let kind = lambfold_control::ErrorKind::InvalidParameterValue;
    assert_eq!(refused.kind(), ErrorKind::Control(kind));
    assert!(refused.message().unwrap().contains("--isolation process"), "{refused}");
    assert!(stage.invoker.enqueue(stage.request("{}")).await.is_err(), "accepted in vain");
    assert!(stage.invoker.dry_run(&stage.request("{}")).is_err());
    // As by a server with walls.
    stage.names.layered(false);
    sleep(300 * SECOND).await;
    assert_eq!((stage.queue.len(), stage.world.seen().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_events_run_at_a_time_than_allowed() {
    let config = AsyncConfig { parallelism: 3, ..AsyncConfig::default() };
    let stage = stage_with(Behaviour::Slow(10 * SECOND), PoolConfig::default(), config);
    for _ in 0..9 {
        stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    }
    sleep(60 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 9);
    assert_eq!(stage.world.most_at_a_time(), 2, "one of three is left for others");
    assert_eq!(stage.queue.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_function_does_not_hold_up_another() {
    let config = AsyncConfig { parallelism: 8, ..AsyncConfig::default() };
    let stage = stage_with(Behaviour::Slow(1_000 * SECOND), PoolConfig::default(), config);
    for _ in 0..50 {
        stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    }
    sleep(SECOND).await;
    assert_eq!(stage.world.seen().len(), 4);
    for _ in 0..20 {
        let request = Request { function: "other", ..stage.request("{}") };
        stage.invoker.enqueue(request).await.unwrap();
    }
    sleep(SECOND).await;
    let others = stage.world.seen().into_iter().filter(|(after, _)| *after >= SECOND).count();
    assert_eq!(others, 20, "all of them, at once");
    assert_eq!(stage.queue.len(), 50);
    sleep(13_000 * SECOND).await;
    assert_eq!(stage.queue.len(), 0, "the slow ones had their turns too");
    assert_eq!(stage.world.most_at_a_time(), 6, "two of eight are always free for a third");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_function_that_may_not_run_at_all_is_given_up_at_once() {
    let stage = stage(Behaviour::Answers);
    let reserved = Concurrency { reserved: Some(0), provisioned: Vec::new() };
    stage.pool.set_concurrency(&scope(), &FunctionName::parse("f").unwrap(), reserved);
    let refused = stage.invoker.invoke(stage.request("{}")).await.unwrap_err();
    let reason = ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded;
    assert_eq!(refused.kind(), ErrorKind::TooManyRequests(reason));
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(SECOND).await;
    assert_eq!((stage.queue.len(), stage.world.seen().len()), (0, 0));
    assert_eq!(stage.queue.postponed(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_invoker_leaves_events_for_the_next_start() {
    let stage = stage(Behaviour::Answers);
    stage.invoker.stop();
    sleep(SECOND).await;
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    sleep(600 * SECOND).await;
    assert_eq!((stage.queue.len(), stage.world.seen().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_fails_for_a_while_loses_nothing() {
    let stage = stage(Behaviour::FailsFirst(1));
    stage.queue.fail(5);
    assert!(matches!(
        stage.invoker.enqueue(stage.request("{}")).await.unwrap_err().kind(),
        ErrorKind::Service
    ));
    stage.queue.fail(0);
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    stage.queue.fail(5);
    sleep(600 * SECOND).await;
    assert_eq!(stage.world.seen().len(), 2);
    assert_eq!(stage.queue.len(), 0);
}

/// The embedded store, closed in the middle of an attempt as a crash would: nothing of the
/// attempt is recorded, so the event runs again under the same id.
#[tokio::test]
async fn an_event_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let id = RequestId::random();
    let scope = scope();
    {
        let runtime_dir = dir.path().to_owned();
        let scope = scope.clone();
        // A runtime of its own: dropping it drops every task where it stands.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let store = Store::open(&runtime_dir).unwrap();
            runtime.block_on(async {
                let world = World::new(Behaviour::Slow(Duration::from_secs(3_600)));
                let pool = Pool::new(world.factory(), PoolConfig::default());
                let clock = Arc::new(lambfold_types::SystemClock::new());
                let invoker = Invoker::new(Names::default(), pool, store.clone(), clock);
                let request = Request {
                    scope: &scope,
                    function: "f",
                    qualifier: None,
                    request_id: id,
                    payload: Bytes::from_static(b"[42]"),
                    content_type: None,
                    client_context: None,
                    trace_id: None,
                    log_tail: false,
                };
                invoker.enqueue(request).await.unwrap();
                world.next().await;
            });
        })
        .join()
        .unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let world = World::new(Behaviour::Answers);
    let pool = Pool::new(world.factory(), PoolConfig::default());
    let clock = Arc::new(lambfold_types::SystemClock::new());
    let _invoker = Invoker::new(Names::default(), pool, store.clone(), clock);
    let again = world.next().await;
    assert_eq!((again.request_id, &again.payload[..]), (id, &b"[42]"[..]));
    let mut changes = store.queue_changes();
    while store.next_due_ms().await.unwrap().is_some() {
        changes.changed().await.unwrap();
    }
}

impl Stage {
    fn spoil(&self, kind: Kind, lasts: Duration) {
        let version = self.names.resolve(&self.scope, "f", None).unwrap().version;
        self.faults.set(Target::new(&version, false), Wish::new(kind, lasts).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttle_on_purpose_is_the_one_of_the_account() {
    let stage = stage(Behaviour::Answers);
    stage.spoil(Kind::Throttle, 5 * SECOND);
    let error = stage.invoker.invoke(stage.request("{}")).await.unwrap_err();
    let reason = ThrottleReason::ConcurrentInvocationLimitExceeded;
    assert_eq!(error.kind(), ErrorKind::TooManyRequests(reason));
    assert_eq!(error.message().as_deref(), Some("Rate Exceeded."));
    let error = stage.invoker.invoke_streaming(stage.request("{}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyRequests(reason));
    // Another function is left alone.
    let other = Request { function: "other", ..stage.request("{}") };
    assert!(stage.invoker.invoke(other).await.is_ok());
    // An event of the queue waits and runs.
    stage.invoker.enqueue(stage.request("{}")).await.unwrap();
    assert_eq!(stage.world.next().await.kind, InvocationKind::Synchronous);
    assert_eq!(stage.world.next().await.kind, InvocationKind::Asynchronous);
    let seen = stage.world.seen();
    assert!(seen.last().unwrap().0 >= 5 * SECOND, "{seen:?}");
    assert!(stage.invoker.invoke(stage.request("{}")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_twice_under_one_id_and_a_synchronous_one_never() {
    let stage = stage(Behaviour::Answers);
    stage.spoil(Kind::Duplicate, 3600 * SECOND);
    let request = stage.request("{}");
    let id = request.request_id;
    stage.invoker.enqueue(request).await.unwrap();
    for _ in 0..2 {
        let invocation = stage.world.next().await;
        assert_eq!((invocation.request_id, invocation.kind), (id, InvocationKind::Asynchronous));
    }
    stage.invoker.invoke(stage.request("{}")).await.unwrap();
    assert_eq!(stage.world.next().await.kind, InvocationKind::Synchronous);
    sleep(600 * SECOND).await;
    assert_eq!((stage.world.seen().len(), stage.queue.len()), (3, 0));
    assert_eq!(stage.faults.effects(), 1);
}
