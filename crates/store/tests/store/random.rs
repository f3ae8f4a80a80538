//! Random batches against the model.

use crate::memory::Memory;
use lambfold_store::{Backend, CommitError, EventId, Expected, NewEvent, Store, Write};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Write>),
    Scan { prefix: String, after: Option<String>, limit: usize },
    Due { now_ms: u64, limit: usize },
    DueFair { now_ms: u64, room: usize, limit: usize },
    Ack(u64),
    Retry(u64, u64),
    Postpone(u64, u64),
    Purge(String),
}

fn key() -> impl Strategy<Value = String> {
    "[ab](/[abc]{0,2})?"
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        3 => Just(Expected::Any),
        1 => Just(Expected::Absent),
        2 => (0u64..30).prop_map(Expected::Revision),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let value = proptest::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => (key(), value.clone(), expected())
            .prop_map(|(key, value, expected)| Write::Put { key, value, expected }),
        2 => (key(), expected()).prop_map(|(key, expected)| Write::Delete { key, expected }),
        1 => (key(), expected()).prop_map(|(key, expected)| Write::Check { key, expected }),
        1 => (key(), value, 0u64..20).prop_map(|(scope, payload, not_before_ms)| {
            Write::Enqueue(NewEvent { scope, payload, enqueued_ms: 3, not_before_ms })
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(write(), 0..5).prop_map(Step::Commit),
        2 => (key(), proptest::option::of(key()), 0usize..6)
            .prop_map(|(prefix, after, limit)| Step::Scan { prefix, after, limit }),
        2 => (0u64..25, 0usize..4).prop_map(|(now_ms, limit)| Step::Due { now_ms, limit }),
        2 => (0u64..25, 0usize..8, 0usize..8)
            .prop_map(|(now_ms, room, limit)| Step::DueFair { now_ms, room, limit }),
        1 => (0u64..12).prop_map(Step::Ack),
        1 => (0u64..12, 0u64..20).prop_map(|(id, due)| Step::Retry(id, due)),
        1 => (0u64..12, 0u64..20).prop_map(|(id, due)| Step::Postpone(id, due)),
        1 => key().prop_map(Step::Purge),
    ]
}

fn comparable(result: Result<Vec<u64>, CommitError>) -> Result<Vec<u64>, String> {
    result.map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn random_steps_answer_as_the_model_does(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (store, model) = (Store::ephemeral().unwrap(), Memory::default());
            for step in steps {
                match step {
                    Step::Commit(writes) => prop_assert_eq!(
                        comparable(store.commit(writes.clone()).await),
                        comparable(model.commit(writes).await)
                    ),
                    Step::Scan { prefix, after, limit } => prop_assert_eq!(
                        store.scan(&prefix, after.as_deref(), limit).await.unwrap(),
                        model.scan(&prefix, after.as_deref(), limit).await.unwrap()
                    ),
                    Step::Due { now_ms, limit } => prop_assert_eq!(
                        store.due(now_ms, limit).await.unwrap(),
                        model.due(now_ms, limit).await.unwrap()
                    ),
                    Step::DueFair { now_ms, room, limit } => prop_assert_eq!(
                        store.due_fair(now_ms, room, limit).await.unwrap(),
                        model.due_fair(now_ms, room, limit).await.unwrap()
                    ),
                    Step::Ack(id) => {
                        store.ack(EventId(id)).await.unwrap();
                        model.ack(EventId(id)).await.unwrap();
                    }
                    Step::Retry(id, due) => {
                        store.retry(EventId(id), due).await.unwrap();
                        model.retry(EventId(id), due).await.unwrap();
                    }
                    Step::Postpone(id, due) => {
                        store.postpone(EventId(id), due).await.unwrap();
                        model.postpone(EventId(id), due).await.unwrap();
                    }
                    Step::Purge(prefix) => prop_assert_eq!(
                        store.purge(&prefix).await.unwrap(),
                        model.purge(&prefix).await.unwrap()
                    ),
                }
                prop_assert_eq!(store.next_due_ms().await.unwrap(), model.next_due_ms().await.unwrap());
            }
            prop_assert_eq!(
                store.scan("", None, usize::MAX).await.unwrap(),
                model.scan("", None, usize::MAX).await.unwrap()
            );
            Ok(())
        })?;
    }
}
