#![allow(clippy::unwrap_used)]
use super::fixture::*;
use super::streaming;
use lambfold_sandbox::ExitStatus;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// What a runtime does, one after the other; the list goes on from process to process.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Next,
    /// Answers the last event, right or wrong.
    Respond,
    Fail,
    /// Answers an id that is not current.
    RespondToStranger,
    Cut,
    /// Streams a response to its end.
    Stream,
    /// Streams one that ends with an error.
    StreamError,
    /// Streams the beginning of one.
    StreamCut,
    TooLarge,
    BadMode,
    InitError,
    Print,
    /// Lets time pass, beyond the timeout perhaps.
    Sleep(u64),
    Exit(i32),
    Hang,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        12 => Just(Deed::Next),
        12 => Just(Deed::Respond),
        2 => Just(Deed::Fail),
        1 => Just(Deed::RespondToStranger),
        1 => Just(Deed::Cut),
        4 => Just(Deed::Stream),
        1 => Just(Deed::StreamError),
        1 => Just(Deed::StreamCut),
        1 => Just(Deed::TooLarge),
        1 => Just(Deed::BadMode),
        1 => Just(Deed::InitError),
        2 => Just(Deed::Print),
        1 => (0u64..4_000).prop_map(Deed::Sleep),
        1 => (0..2).prop_map(Deed::Exit),
        1 => Just(Deed::Hang),
    ]
}

/// What an extension does, in the same way.
#[derive(Debug, Clone, Copy)]
enum ExtensionDeed {
    Register,
    Next,
    /// Asks on another connection, too.
    NextTwice,
    InitError,
    ExitError,
    Subscribe,
    Print,
    Sleep(u64),
    Exit(i32),
    Hang,
}

fn extension_deed() -> impl Strategy<Value = ExtensionDeed> {
    prop_oneof![
        3 => Just(ExtensionDeed::Register),
        12 => Just(ExtensionDeed::Next),
        1 => Just(ExtensionDeed::NextTwice),
        1 => Just(ExtensionDeed::InitError),
        1 => Just(ExtensionDeed::ExitError),
        2 => Just(ExtensionDeed::Subscribe),
        2 => Just(ExtensionDeed::Print),
        1 => (0u64..4_000).prop_map(ExtensionDeed::Sleep),
        1 => (0..2).prop_map(ExtensionDeed::Exit),
        1 => Just(ExtensionDeed::Hang),
    ]
}

async fn extend(
    name: String,
    mut guest: Guest,
    deeds: Arc<Mutex<VecDeque<ExtensionDeed>>>,
) -> ExitStatus {
    const API: &str = "/2020-01-01/extension";
    let mut id = RANDOM_ID.to_owned();
    // Most extensions begin well.
    let mut first = Some(ExtensionDeed::Register);
    loop {
        let deed = first.take().or_else(|| deeds.lock().unwrap().pop_front());
        let header = format!("Lambda-Extension-Identifier: {id}\r\n");
        match deed {
            Some(ExtensionDeed::Register) => {
                let header = format!("Lambda-Extension-Name: {name}\r\n");
                let body = br#"{"events":["INVOKE","SHUTDOWN"]}"#;
                let path = format!("{API}/register");
                if let Some((200, head, _)) = guest.call("POST", &path, &header, body).await {
                    let name = "Lambda-Extension-Identifier: ";
                    id = head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                }
            }
            Some(ExtensionDeed::Next) => {
                drop(guest.call("GET", &format!("{API}/event/next"), &header, b"").await);
            }
            Some(ExtensionDeed::NextTwice) => {
                let mut other = Guest::beside(&guest);
                let path = format!("{API}/event/next");
                tokio::select! {
                    _ = other.call("GET", &path, &header, b"") => {}
                    _ = guest.call("GET", &path, &header, b"") => {}
                }
            }
            Some(deed @ (ExtensionDeed::InitError | ExtensionDeed::ExitError)) => {
                let which = match deed {
                    ExtensionDeed::InitError => "init",
                    _ => "exit",
                };
                let header = header + "Lambda-Extension-Function-Error-Type: T\r\n";
                drop(guest.call("POST", &format!("{API}/{which}/error"), &header, b"").await);
            }
            Some(ExtensionDeed::Subscribe) => {
                // Nobody listens there.
                let body = br#"{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"TCP","port":1}}"#;
                drop(guest.call("PUT", "/2022-07-01/telemetry", &header, body).await);
            }
            Some(ExtensionDeed::Print) => guest.print("an extension\n").await,
            Some(ExtensionDeed::Sleep(ms)) => {
                tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            }
            Some(ExtensionDeed::Exit(code)) => return ExitStatus::Code(code),
            Some(ExtensionDeed::Hang) | None => return std::future::pending().await,
        }
    }
}

/// What the platform does between invocations.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Invoke,
    /// Its caller streams, and may be gone.
    Stream(bool),
    /// The sandbox is lost in the middle of the invocation.
    Lose,
    Retire,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        20 => Just(Turn::Invoke),
        10 => any::<bool>().prop_map(Turn::Stream),
        1 => Just(Turn::Lose),
        1 => Just(Turn::Retire),
    ]
}

async fn act(mut guest: Guest, deeds: Arc<Mutex<VecDeque<Deed>>>) -> ExitStatus {
    let mut id = RANDOM_ID.to_owned();
    loop {
        let deed = deeds.lock().unwrap().pop_front();
        let path = format!("invocation/{id}/response");
        // The runtime ignores every refusal: the worst client there is.
        match deed {
            Some(Deed::Next) => {
                if let Some((200, head, _)) = guest.call("GET", "invocation/next", "", b"").await {
                    let name = "Lambda-Runtime-Aws-Request-Id: ";
                    id = head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
                }
            }
            Some(Deed::Respond) => drop(guest.call("POST", &path, "", b"r").await),
            Some(Deed::Fail) => {
                let path = format!("invocation/{id}/error");
                drop(guest.call("POST", &path, "", b"{}").await);
            }
            Some(Deed::RespondToStranger) => {
                let path = format!("invocation/{RANDOM_ID}/response");
                drop(guest.call("POST", &path, "", b"r").await);
            }
            Some(Deed::Cut) => guest.cut(&id).await,
            Some(deed @ (Deed::Stream | Deed::StreamError | Deed::StreamCut)) => {
                let mut response = streaming::respond(&guest, &id).await;
                let sent = response.try_chunk("a chunk").await;
                match deed {
                    Deed::Stream if sent => drop(response.try_end("").await),
                    Deed::StreamError if sent => {
                        let error = "Lambda-Runtime-Function-Error-Type: Function.Oops\r\n";
                        drop(response.try_end(error).await);
                    }
                    _ => drop(response),
                }
            }
            Some(Deed::TooLarge) => {
                drop(guest.call("POST", &path, "Content-Type: x\r\n", &vec![0; 6_291_557]).await);
            }
            Some(Deed::BadMode) => {
                let mode = "Lambda-Runtime-Function-Response-Mode: odd\r\n";
                drop(guest.call("POST", &path, mode, b"r").await);
            }
            Some(Deed::InitError) => drop(guest.call("POST", "init/error", "", b"{}").await),
            Some(Deed::Print) => guest.print("some\noutput").await,
            Some(Deed::Sleep(ms)) => {
                tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            }
            Some(Deed::Exit(code)) => return ExitStatus::Code(code),
            Some(Deed::Hang) | None => return std::future::pending().await,
        }
    }
}

const RANDOM_ID: &str = "ffffffff-ffff-4fff-bfff-ffffffffffff";

/// Waits with time passing.
async fn pass<T>(waited: oneshot::Receiver<T>) -> Option<T> {
    tokio::pin!(waited);
    for _ in 0..200 {
        tokio::select! {
            biased;
            result = &mut waited => return Some(result.expect("a callback was dropped uncalled")),
            () = settle() => advance_ms(250).await,
        }
    }
    None
}

/// Runs the turns and says how many invocations were finished.
async fn play(
    deeds: Vec<Deed>,
    extensions: Vec<Vec<ExtensionDeed>>,
    turns: Vec<Turn>,
) -> Result<(), TestCaseError> {
    let deeds = Arc::new(Mutex::new(VecDeque::from(deeds)));
    let names = &["e0", "e1"][..extensions.len()];
    let extensions: Vec<_> =
        extensions.into_iter().map(|deeds| Arc::new(Mutex::new(VecDeque::from(deeds)))).collect();
    let lab = Lab::with_extensions(
        names,
        move |_, guest| act(guest, Arc::clone(&deeds)),
        move |name, guest| {
            let index = usize::from(name == "e1");
            extend(name, guest, Arc::clone(&extensions[index]))
        },
    );
    let (launched, launching) = oneshot::channel();
    let (launcher, version) = (Arc::clone(&lab.launcher), Arc::clone(&lab.version));
    tokio::spawn(async move { drop(launched.send(launcher.launch(version).await)) });
    lab.until(|| lab.world.is_created()).await;
    let environment = pass(launching).await.expect("the launch never ended").unwrap();
    for turn in turns {
        let mut pending = match turn {
            Turn::Stream(is_gone) => streaming::begin_random(&environment, is_gone),
            _ => begin(&environment, "e"),
        };
        match turn {
            Turn::Invoke | Turn::Stream(_) => {}
            Turn::Lose => lab.world.lose(),
            Turn::Retire => environment.retire(),
        }
        // The callbacks of the fixture panic when they are called twice.
        let end = pass(std::mem::replace(&mut pending.end, oneshot::channel().1)).await;
        let end = end.expect("the phase never ended");
        prop_assert!(pending.answer.try_recv().is_ok(), "it ended before it was answered");
        let log = lab.world.log();
        let of_this =
            |line: &str| log.matches(&format!("{line} RequestId: {}", pending.request_id)).count();
        let counts = (of_this("START"), of_this("END"), of_this("REPORT"));
        if end.reusable {
            prop_assert_eq!(counts, (1, 1, 1));
        } else {
            prop_assert!(counts == (1, 1, 1) || counts == (0, 0, 0), "{:?}", counts);
            lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
            return Ok(());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_invocation_has_one_answer_and_then_one_end(
        deeds in prop::collection::vec(deed(), 0..40),
        turns in prop::collection::vec(turn(), 1..8),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(play(deeds, Vec::new(), turns))?;
    }

    #[test]
    fn extensions_change_nothing_of_that(
        deeds in prop::collection::vec(deed(), 0..40),
        extensions in prop::collection::vec(prop::collection::vec(extension_deed(), 0..40), 1..3),
        turns in prop::collection::vec(turn(), 1..8),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(play(deeds, extensions, turns))?;
    }
}
