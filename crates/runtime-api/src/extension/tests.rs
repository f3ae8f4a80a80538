#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn registration(name: &str, events: &[&str]) -> Registration {
    let body = serde_json::json!({ "events": events }).to_string();
    Registration::parse(name, "", body.as_bytes()).unwrap()
}

fn event() -> Arc<ExtensionEvent> {
    Arc::new(ExtensionEvent::Shutdown { deadline_ms: 5, shutdown_reason: ShutdownReason::Spindown })
}

fn names(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|name| (*name).into()).collect()
}

/// One external extension in each state, `e`, known as 1.
fn in_state(state: ExtensionState) -> Extensions<u32> {
    use ExtensionState::*;
    let mut all = Extensions::new();
    all.launch(&names(&["e"]));
    if matches!(state, Registered | Ready | Running | InitError | ExitError | Exited) {
        all.register(&registration("e", &["INVOKE", "SHUTDOWN"]), id(1)).unwrap();
    }
    if matches!(state, Ready | Running) {
        all.next(id(1), || 7).unwrap();
    }
    match state {
        Running => assert_eq!(all.invoke(&event()), [7]),
        InitError => assert!(all.error(id(1), ExtensionError::Init, "T").unwrap()),
        ExitError => assert!(all.error(id(1), ExtensionError::Exit, "T").unwrap()),
        LaunchError => all.launch_failed("e", "UnknownError"),
        Exited => all.exited("e"),
        Started | Registered | Ready => {}
    }
    assert_eq!(all.iter().next().unwrap().state, state);
    all
}

const STATES: [ExtensionState; 8] = [
    ExtensionState::Started,
    ExtensionState::Registered,
    ExtensionState::Ready,
    ExtensionState::Running,
    ExtensionState::InitError,
    ExtensionState::ExitError,
    ExtensionState::LaunchError,
    ExtensionState::Exited,
];

/// The state after a call, or `None` when it is refused.
fn table(call: impl Fn(&mut Extensions<u32>) -> bool) -> Vec<Option<ExtensionState>> {
    STATES
        .map(|state| {
            let mut all = in_state(state);
            let allowed = call(&mut all);
            let now = all.iter().next().unwrap().state;
            if !allowed {
                assert_eq!(now, state, "a refusal changes nothing");
            }
            allowed.then_some(now)
        })
        .to_vec()
}

#[test]
fn the_transition_table() {
    use ExtensionState::*;
    let register = table(|all| all.register(&registration("e", &[]), id(2)).is_ok());
    assert_eq!(register, [Some(Registered), None, None, None, None, None, None, None]);
    // Started and LaunchError have no identifier yet, and so are nobody.
    let next = table(|all| all.next(id(1), || 8).is_ok());
    assert_eq!(next, [None, Some(Ready), None, Some(Ready), None, None, None, None]);
    let init_error = table(|all| all.error(id(1), ExtensionError::Init, "U").is_ok());
    assert_eq!(init_error, [None, Some(InitError), None, None, Some(InitError), None, None, None]);
    let exit_error = table(|all| all.error(id(1), ExtensionError::Exit, "U").is_ok());
    assert_eq!(
        exit_error,
        [
            None,
            Some(ExitError),
            Some(ExitError),
            Some(ExitError),
            None,
            Some(ExitError),
            None,
            None
        ]
    );
}

#[test]
fn refusals_are_worded_as_on_aws() {
    let mut all = in_state(ExtensionState::Ready);
    let refused = all.next(id(1), || 0).unwrap_err();
    assert_eq!(refused.error_type(), "Extension.InvalidExtensionState");
    assert_eq!(
        refused.message(),
        format!(
            "State transition from Ready to Ready failed for extension {}. Error: State transition is not allowed",
            id(1)
        )
    );
    let refused = all.register(&registration("e", &[]), id(2)).unwrap_err();
    assert_eq!(
        refused.message(),
        "State transition from Ready to Registered failed for extension e. Error: State transition is not allowed"
    );
    let refused = all.next(id(9), || 0).unwrap_err();
    assert_eq!(refused.error_type(), "Extension.UnknownExtensionIdentifier");
    assert_eq!(refused.message(), format!("Unknown extension {}", id(9)));
    let refused = all.error(id(9), ExtensionError::Exit, "T").unwrap_err();
    assert_eq!(refused.message(), "Unknown Lambda-Extension-Identifier");
    let refused = all.register(&registration("e", &["NONE"]), id(2)).unwrap_err();
    assert_eq!(refused.error_type(), "Extension.InvalidEventType");
    assert_eq!(refused.message(), "NONE: ErrorInvalidEventType");
    let refused = all.register(&registration("i", &["SHUTDOWN"]), id(2)).unwrap_err();
    assert_eq!(refused.message(), "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension");
    all.register(&registration("i", &["INVOKE"]), id(2)).unwrap();
    let refused = all.register(&registration("i", &["INVOKE"]), id(3)).unwrap_err();
    assert_eq!(refused.error_type(), "Extension.InvalidExtensionState");
    assert_eq!(refused.message(), "Extension with this name already registered");
    all.close();
    let refused = all.register(&registration("j", &[]), id(3)).unwrap_err();
    assert_eq!(refused.error_type(), "Extension.RegistrationClosed");
    assert_eq!(refused.message(), "Extension registration closed already");
}

#[test]
fn ten_are_enough() {
    let mut all = Extensions::<u32>::new();
    all.launch(&names(&["a", "b", "c"]));
    for n in 0..7 {
        all.register(&registration(&format!("i{n}"), &[]), id(n)).unwrap();
    }
    let refused = all.register(&registration("i7", &[]), id(7)).unwrap_err();
    assert_eq!(refused.error_type(), "Extension.TooManyExtensions");
    assert_eq!(refused.message(), "Extension limit (10) reached");
    // The external ones are among the ten.
    all.register(&registration("c", &[]), id(8)).unwrap();
}

#[test]
fn registrations_that_are_not_well_formed() {
    let parse = |name: &str, body: &str| Registration::parse(name, "", body.as_bytes());
    assert_eq!(parse("", "{}").unwrap_err(), ExtensionRefusal::EmptyName);
    for body in ["", "[", "[]x", r#"{"events":"INVOKE"}"#] {
        assert_eq!(parse("e", body).unwrap_err().error_type(), "InvalidRequestFormat", "{body}");
    }
    let refused = parse("e", r#"{"events":[],"configurationKeys":["K"]}"#).unwrap_err();
    assert_eq!(
        refused.message(),
        "configurationKeys are deprecated; use environment variables instead"
    );
    assert!(parse("e", r#"{"events":[]}"#).is_ok());
    assert!(parse("e", "{}").is_ok());
    let wants = |features| Registration::parse("e", features, b"{}").unwrap().wants_account;
    assert_eq!([wants(""), wants("x, accountId"), wants("accountid")], [false, true, false]);
}

#[test]
fn events_on_the_wire() {
    let json = |event: &ExtensionEvent| serde_json::to_string(event).unwrap();
    let request_id = RequestId::parse("11111111-2222-4333-8444-555555555555").unwrap();
    let invoke = |tracing| ExtensionEvent::Invoke {
        deadline_ms: 7,
        request_id,
        invoked_function_arn: "arn:f".into(),
        tracing,
    };
    assert_eq!(
        json(&invoke(Some(Tracing::new("Root=1".into())))),
        r#"{"eventType":"INVOKE","deadlineMs":7,"requestId":"11111111-2222-4333-8444-555555555555","invokedFunctionArn":"arn:f","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}"#
    );
    assert!(!json(&invoke(None)).contains("tracing"));
    assert_eq!(
        json(&event()),
        r#"{"eventType":"SHUTDOWN","deadlineMs":5,"shutdownReason":"spindown"}"#
    );
}

#[test]
fn an_event_that_could_not_be_passed_on_comes_again() {
    let mut all = in_state(ExtensionState::Registered);
    let ExtensionNext::Parked(ticket) = all.next(id(1), || 1).unwrap() else { panic!("an event") };
    assert_eq!(all.invoke(&event()), [1]);
    assert!(!all.invoke_done());
    all.abandon(id(1), ticket);
    assert!(!all.invoke_done(), "it was never told");
    assert!(matches!(all.next(id(1), || 2).unwrap(), ExtensionNext::Event(_)));
    // The old connection has nothing to say any more.
    all.abandon(id(1), ticket);
    assert!(!all.invoke_done());
    assert!(matches!(all.next(id(1), || 3).unwrap(), ExtensionNext::Parked(_)));
    assert!(all.invoke_done());
}

#[test]
fn a_busy_extension_is_told_of_the_end_when_it_asks_again() {
    let mut all = in_state(ExtensionState::Running);
    assert_eq!(all.shutdown("e", &event()), Some(None));
    let ExtensionNext::Event(told) = all.next(id(1), || 2).unwrap() else { panic!("parked") };
    assert_eq!(told, event());
    let mut all = in_state(ExtensionState::Ready);
    assert_eq!(all.shutdown("e", &event()), Some(Some(7)));
    for state in [ExtensionState::Started, ExtensionState::Exited, ExtensionState::InitError] {
        assert_eq!(in_state(state).shutdown("e", &event()), None, "{state}");
    }
}

#[derive(Debug, Clone)]
enum Call {
    Register(u8),
    Next(u8),
    Abandon(u8, usize),
    Error(u8, bool),
    Exited(u8),
    Invoke,
    Shutdown(u8),
    Close,
    Reset,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0u8..4).prop_map(Call::Register),
        8 => (0u8..4).prop_map(Call::Next),
        2 => (0u8..4, 0usize..4).prop_map(|(n, back)| Call::Abandon(n, back)),
        1 => (0u8..4, any::<bool>()).prop_map(|(n, init)| Call::Error(n, init)),
        1 => (0u8..4).prop_map(Call::Exited),
        6 => Just(Call::Invoke),
        1 => (0u8..4).prop_map(Call::Shutdown),
        1 => Just(Call::Close),
        1 => Just(Call::Reset),
    ]
}

proptest! {
    #[test]
    fn nobody_is_woken_twice_and_nobody_is_forgotten(calls in prop::collection::vec(call(), 0..80)) {
        let mut all = Extensions::<u32>::new();
        all.launch(&names(&["e0", "e1"]));
        let mut parked = std::collections::BTreeSet::new();
        let mut tickets = Vec::new();
        let mut serial = 0;
        for call in calls {
            match call {
                Call::Register(n) => {
                    drop(all.register(&registration(&format!("e{n}"), &["INVOKE"]), id(n.into())));
                }
                Call::Next(n) => {
                    serial += 1;
                    if let Ok(ExtensionNext::Parked(ticket)) = all.next(id(n.into()), || serial) {
                        parked.insert(serial);
                        tickets.push((n, ticket, serial));
                    }
                }
                Call::Abandon(n, back) => {
                    let of = tickets.iter().rev().filter(|(m, ..)| *m == n).nth(back);
                    if let Some((_, ticket, serial)) = of {
                        all.abandon(id(n.into()), *ticket);
                        parked.remove(serial);
                    }
                }
                Call::Error(n, init) => {
                    let error = if init { ExtensionError::Init } else { ExtensionError::Exit };
                    drop(all.error(id(n.into()), error, "T"));
                }
                Call::Exited(n) => all.exited(&format!("e{n}")),
                Call::Invoke => {
                    for woken in all.invoke(&event()) {
                        prop_assert!(parked.remove(&woken), "{woken} was not waiting");
                    }
                }
                Call::Shutdown(n) => {
                    if let Some(Some(woken)) = all.shutdown(&format!("e{n}"), &event()) {
                        prop_assert!(parked.remove(&woken), "{woken} was not waiting");
                    }
                }
                Call::Close => all.close(),
                Call::Reset => {
                    for woken in all.reset() {
                        prop_assert!(parked.remove(&woken), "{woken} was not waiting");
                    }
                    prop_assert!(parked.is_empty(), "{parked:?} wait for ever");
                    tickets.clear();
                    all.launch(&names(&["e0", "e1"]));
                }
            }
        }
    }

    #[test]
    fn any_body_is_survived(body in prop::collection::vec(any::<u8>(), 0..60), text in r#"(\{|\}|"events"|:|\[|\]|,|"INVOKE"|"configurationKeys"|null){0,12}"#) {
        let _ = Registration::parse("e", "a,,b", &body);
        let _ = Registration::parse("e", "", text.as_bytes());
    }
}
