#![allow(clippy::unwrap_used)]
use super::*;
use lambfold_types::{Invocation, InvocationKind};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn event(request_id: RequestId) -> Event {
    Event {
        invocation: Invocation {
            request_id,
            kind: InvocationKind::Synchronous,
            invoked_function_arn: "arn".into(),
            payload: bytes::Bytes::new(),
            content_type: None,
            client_context: None,
            trace_id: None,
            wants_log_tail: false,
            sink: None,
        },
        deadline_ms: 0,
    }
}

fn id(number: u8) -> RequestId {
    RequestId::parse(&format!("00000000-0000-4000-8000-0000000000{number:02x}")).unwrap()
}

/// A machine in a state of the table, with the invocation `id(1)` wherever one is current.
fn machine(state: State) -> Machine<u32> {
    let mut machine = Machine::new();
    let steps: &[&str] = match state {
        State::Started => &[],
        State::InitError => &["init/error"],
        State::Ready => &["next", "event", "response", "sent", "next"],
        State::Running => &["next", "event"],
        State::InvocationResponse => &["next", "event", "response"],
        State::InvocationErrorResponse => &["next", "event", "error"],
        State::RuntimeResponseSentState => &["next", "event", "response", "sent"],
    };
    let mut posting = None;
    for step in steps {
        match *step {
            "init/error" => posting = Some(machine.init_error().unwrap()),
            "next" => drop(machine.next(|| 0)),
            "event" => drop(machine.invoke(event(id(1))).unwrap()),
            "response" => posting = Some(machine.post(&id(1).to_string(), Post::Response).unwrap()),
            "error" => posting = Some(machine.post(&id(1).to_string(), Post::Error).unwrap()),
            _ => machine.sent(posting.as_ref().unwrap()).unwrap(),
        }
    }
    assert_eq!(machine.state(), state);
    machine
}

/// What a cell of the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Blocks.
    Parks,
    /// 200 with the current event.
    Event,
    /// Goes on, to a state in which the body is read.
    To(State),
    /// 403 towards a state.
    Forbidden(State),
    /// 400: no invocation is current.
    UnknownId,
}

fn outcome(result: Result<Posting, Refusal>, from: State) -> Cell {
    match result {
        Ok(posting) => Cell::To(posting.to),
        Err(Refusal::Transition { from: said, to }) if said == from => Cell::Forbidden(to),
        Err(Refusal::InvalidRequestId) => Cell::UnknownId,
        Err(other) => panic!("unexpected {other:?}"),
    }
}

#[test]
fn the_table_of_the_specification() {
    use Cell::{Event, Forbidden, Parks, To, UnknownId};
    use State::{
        InitError, InvocationErrorResponse as SendsError, InvocationResponse as Sends, Ready,
        Running, RuntimeResponseSentState as Sent, Started,
    };
    // from, next, response, error, init/error. In the first two states no invocation can be
    // current, and the check of the id comes before the check of the state.
    let table = [
        (Started, Parks, UnknownId, UnknownId, To(InitError)),
        (InitError, Forbidden(Ready), UnknownId, UnknownId, Forbidden(InitError)),
        (Ready, Parks, Forbidden(Sends), Forbidden(SendsError), Forbidden(InitError)),
        (Running, Event, To(Sends), To(SendsError), Forbidden(InitError)),
        (Sends, Forbidden(Ready), Forbidden(Sends), Forbidden(SendsError), Forbidden(InitError)),
        (
            SendsError,
            Forbidden(Ready),
            Forbidden(Sends),
            Forbidden(SendsError),
            Forbidden(InitError),
        ),
        (Sent, Parks, Forbidden(Sends), Forbidden(SendsError), Forbidden(InitError)),
    ];
    for (from, next, response, error, init_error) in table {
        let after = |cell: Cell| match cell {
            Parks => Ready,
            Event => Running,
            To(state) => state,
            Forbidden(_) | UnknownId => from,
        };

        let mut it = machine(from);
        let found = match it.next(|| 0) {
            Next::Parked { was, .. } => {
                assert_eq!(was, from);
                Parks
            }
            Next::Event(event) => {
                assert_eq!(event.invocation.request_id, id(1));
                Event
            }
            Next::Refused(Refusal::Transition { from: said, to }) if said == from => Forbidden(to),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!((found, it.state()), (next, after(next)), "{from} next");

        for (post, expected) in [(Post::Response, response), (Post::Error, error)] {
            let mut it = machine(from);
            let found = outcome(it.post(&id(1).to_string(), post), from);
            assert_eq!((found, it.state()), (expected, after(expected)), "{from} {post:?}");
            // A stranger's id is told apart before the state is looked at, and changes nothing.
            let mut it = machine(from);
            for stranger in [id(2).to_string(), id(1).to_string().to_uppercase() + "0", "".into()] {
                assert_eq!(it.post(&stranger, post).err(), Some(Refusal::InvalidRequestId));
            }
            assert_eq!(it.state(), from);
        }

        let mut it = machine(from);
        let found = outcome(it.init_error(), from);
        assert_eq!((found, it.state()), (init_error, after(init_error)), "{from} init/error");
    }
}

#[test]
fn refusals_have_the_words_of_the_specification() {
    let transition = Refusal::Transition { from: State::Ready, to: State::InvocationResponse };
    let concurrent = Refusal::Concurrent { from: State::Started, to: State::Ready };
    for (refusal, status, error_type, message) in [
        (
            transition,
            403,
            "InvalidStateTransition",
            "State transition from Ready to InvocationResponse failed for runtime. Error: State transition is not allowed",
        ),
        (
            concurrent,
            403,
            "InvalidStateTransition",
            "State transition from Started to Ready failed for runtime. Error: Concurrent state modification",
        ),
        (Refusal::InvalidRequestId, 400, "InvalidRequestID", "Invalid request ID"),
        (
            Refusal::TooLarge,
            413,
            "RequestEntityTooLarge",
            "Exceeded maximum allowed payload size (6291556 bytes).",
        ),
        (Refusal::Truncated, 400, "TruncatedHTTPRequest", "HTTP request detected as truncated"),
        (
            Refusal::InvalidResponseMode,
            400,
            "InvalidFunctionResponseMode",
            "Invalid function response mode",
        ),
        (Refusal::Internal, 500, "InternalServerError", "Internal Server Error"),
    ] {
        assert_eq!(refusal.status().as_u16(), status);
        assert_eq!(refusal.error_type(), error_type);
        assert_eq!(refusal.message(), message);
    }
}

#[test]
fn an_event_without_a_poller_waits_for_the_next_one() {
    let mut machine: Machine<u32> = Machine::new();
    let Next::Parked { ticket, .. } = machine.next(|| 7) else { panic!("must wait") };
    assert!(machine.abandon(ticket).is_none());
    assert!(machine.invoke(event(id(1))).unwrap().is_none());
    assert_eq!(machine.state(), State::Ready);
    assert!(machine.invoke(event(id(2))).is_err());
    assert!(
        matches!(machine.next(|| 8), Next::Event(event) if event.invocation.request_id == id(1))
    );
    assert_eq!(machine.state(), State::Running);
}

#[test]
fn an_event_that_a_dead_poller_took_goes_to_another() {
    let mut machine: Machine<u32> = Machine::new();
    let Next::Parked { ticket: older, .. } = machine.next(|| 1) else { panic!("must wait") };
    let Next::Parked { ticket: newer, .. } = machine.next(|| 2) else { panic!("must wait") };
    let handover = machine.invoke(event(id(1))).unwrap().unwrap();
    assert_eq!(handover.parked, 2, "the newest is served first");
    let handover = machine.abandon(newer).unwrap();
    assert_eq!((handover.parked, handover.event.invocation.request_id), (1, id(1)));
    // That one breaks, too: whoever comes next gets it.
    assert!(machine.abandon(older).is_none());
    assert!(matches!(machine.next(|| 3), Next::Event(_)));
    // An abandoned ticket that does not hold the event changes nothing.
    assert!(machine.abandon(newer).is_none());
    assert_eq!(machine.state(), State::Running);
}

#[test]
fn a_reset_voids_everything_that_was_begun() {
    let mut machine = machine(State::InvocationResponse);
    let posting =
        Posting { generation: machine.generation, to: State::InvocationResponse, sink: None };
    let (parked, _) = machine.reset();
    assert!(parked.is_empty());
    let concurrent = Refusal::Concurrent { from: State::Started, to: State::InvocationResponse };
    assert_eq!(machine.sent(&posting), Err(concurrent));
    assert_eq!(machine.state(), State::Started);

    drop(machine.next(|| 5));
    let (parked, refusal) = machine.reset();
    assert_eq!(parked, [5]);
    assert_eq!(refusal, Refusal::Concurrent { from: State::Started, to: State::Ready });
    assert_eq!(
        machine.post(&id(1).to_string(), Post::Response).err(),
        Some(Refusal::InvalidRequestId),
        "old ids are unknown after a reset"
    );
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Next,
    Abandon(usize),
    Invoke,
    Post { current: bool, post: Post },
    Sent,
    InitError,
    Reset,
}

fn call() -> impl Strategy<Value = Call> {
    let post = (prop::bool::weighted(0.8), prop::bool::ANY).prop_map(|(current, response)| {
        let post = if response { Post::Response } else { Post::Error };
        Call::Post { current, post }
    });
    prop_oneof![
        6 => Just(Call::Next),
        1 => (0usize..8).prop_map(Call::Abandon),
        5 => Just(Call::Invoke),
        5 => post,
        4 => Just(Call::Sent),
        1 => Just(Call::InitError),
        1 => Just(Call::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any order of calls: no panic, never two events outstanding, the id is checked before the
    /// state, what was begun before a reset is void, and ids of before a reset are unknown.
    #[test]
    fn any_order_of_calls(calls in prop::collection::vec(call(), 0..80)) {
        let mut machine: Machine<u64> = Machine::new();
        let mut tickets = Vec::new();
        let mut parked: BTreeSet<u64> = BTreeSet::new();
        let mut wakers = 0u64;
        let mut events = 0u8;
        // The invocation that was begun and not answered, as the outside sees it.
        let mut open: Option<RequestId> = None;
        let mut current: Option<RequestId> = None;
        let mut postings: Vec<Posting> = Vec::new();
        let mut generation = 0;
        for call in calls {
            let before = machine.state();
            match call {
                Call::Next => {
                    wakers += 1;
                    match machine.next(|| wakers) {
                        Next::Parked { ticket, .. } => {
                            tickets.push(ticket);
                            parked.insert(wakers);
                            prop_assert!(open.is_none(), "waits although an event is open");
                        }
                        Next::Event(event) => {
                            prop_assert_eq!(Some(event.invocation.request_id), open);
                        }
                        Next::Refused(refusal) => {
                            prop_assert_eq!(
                                refusal,
                                Refusal::Transition { from: before, to: State::Ready }
                            );
                            prop_assert_eq!(machine.state(), before);
                        }
                    }
                }
                Call::Abandon(nth) => {
                    if let Some(ticket) = tickets.get(nth).copied()
                        && let Some(handover) = machine.abandon(ticket)
                    {
                        prop_assert!(parked.remove(&handover.parked), "woken twice");
                        prop_assert_eq!(Some(handover.event.invocation.request_id), open);
                    }
                }
                Call::Invoke => {
                    events += 1;
                    match machine.invoke(event(id(events))) {
                        Ok(handover) => {
                            prop_assert!(open.is_none(), "two events at once");
                            prop_assert_eq!(before, State::Ready);
                            open = Some(id(events));
                            current = open;
                            if let Some(handover) = handover {
                                prop_assert!(parked.remove(&handover.parked), "woken twice");
                            }
                        }
                        Err(NotReady(state)) => prop_assert_eq!(state, before),
                    }
                }
                Call::Post { current: is_current, post } => {
                    let posted = match current {
                        Some(id) if is_current => id,
                        _ => id(255),
                    };
                    match machine.post(&posted.to_string(), post) {
                        Ok(posting) => {
                            prop_assert_eq!(before, State::Running);
                            prop_assert_eq!(Some(posted), open);
                            open = None;
                            postings.push(posting);
                        }
                        Err(Refusal::InvalidRequestId) => prop_assert!(Some(posted) != current),
                        Err(refusal) => {
                            prop_assert_eq!(Some(posted), current);
                            let is_transition = matches!(refusal, Refusal::Transition { .. });
                            prop_assert!(is_transition && before != State::Running);
                        }
                    }
                }
                Call::Sent => {
                    if let Some(posting) = postings.pop() {
                        let fresh = posting.generation == generation;
                        prop_assert_eq!(machine.sent(&posting).is_ok(), fresh);
                        if !fresh {
                            prop_assert_eq!(machine.state(), before);
                        }
                    }
                }
                Call::InitError => {
                    let result = machine.init_error();
                    prop_assert_eq!(result.is_ok(), before == State::Started);
                    postings.extend(result.ok());
                }
                Call::Reset => {
                    generation += 1;
                    for waker in machine.reset().0 {
                        prop_assert!(parked.remove(&waker), "woken twice");
                    }
                    open = None;
                    if let Some(old) = current.take() {
                        for post in [Post::Response, Post::Error] {
                            prop_assert_eq!(
                                machine.post(&old.to_string(), post).err(),
                                Some(Refusal::InvalidRequestId)
                            );
                        }
                    }
                }
            }
            if machine.state() == State::Running {
                prop_assert!(open.is_some());
            }
        }
    }
}
