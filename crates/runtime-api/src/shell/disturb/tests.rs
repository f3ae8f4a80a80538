#![allow(clippy::unwrap_used)]

use crate::host::Disturbance;
use crate::machine::State;
use crate::shell::Limits;
use crate::shell::tests::{Client, ID, Server, server};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

const INTERNAL: &str =
    "{\"errorMessage\":\"Internal Server Error\",\"errorType\":\"InternalServerError\"}\n";

/// Both ways through the shell: plain requests, and what the library serves, which a connection
/// stays with once it asked for anything else.
async fn client(server: &Server, is_short: bool) -> Client {
    let mut client = server.client().await;
    if !is_short {
        assert_eq!(client.get("ping").await.reply().await.status, 200);
    }
    client
}

/// A `next` that waits and is then given an event.
async fn next(server: &Server, client: &mut Client) {
    client.get("runtime/invocation/next").await;
    server.until(|host| host.waiting() == 1).await;
    server.host.invoke("{}");
}

#[tokio::test]
async fn a_call_answered_500_has_no_other_effect() {
    for is_short in [true, false] {
        let server = server(Limits::default()).await;
        let mut client = client(&server, is_short).await;
        server.host.disturb(Disturbance::Error);
        next(&server, &mut client).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, &*reply.body), (500, INTERNAL.as_bytes()));
        // The event is still there.
        let reply = client.get("runtime/invocation/next").await.reply().await;
        assert_eq!((reply.status, &*reply.body), (200, &b"{}"[..]));
        for what in ["response", "error"] {
            server.host.disturb(Disturbance::Error);
            let path = format!("invocation/{ID}/{what}");
            let reply = client.post(&path, "", b"1").await.reply().await;
            assert_eq!((reply.status, &*reply.body), (500, INTERNAL.as_bytes()));
            assert_eq!(server.host.state(), State::Running);
        }
        let path = format!("invocation/{ID}/response");
        assert_eq!(client.post(&path, "", b"1").await.reply().await.status, 202);
    }
}

#[tokio::test]
async fn a_reset_is_one() {
    for is_short in [true, false] {
        let server = server(Limits::default()).await;
        let mut first = client(&server, is_short).await;
        server.host.disturb(Disturbance::Reset);
        next(&server, &mut first).await;
        let error = first.0.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{is_short}");
        let mut second = client(&server, is_short).await;
        let reply = second.get("runtime/invocation/next").await.reply().await;
        assert_eq!((reply.status, &*reply.body), (200, &b"{}"[..]));
        server.host.disturb(Disturbance::Reset);
        second.post(&format!("invocation/{ID}/response"), "", b"1").await;
        let error = second.0.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{is_short}");
        assert_eq!(server.host.state(), State::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_late_and_the_event_is_whole() {
    const LATE: Duration = Duration::from_secs(5);
    for is_short in [true, false] {
        let server = server(Limits::default()).await;
        let mut client = client(&server, is_short).await;
        server.host.disturb(Disturbance::Delay(LATE));
        let start = Instant::now();
        next(&server, &mut client).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, &*reply.body), (200, &b"{}"[..]));
        assert!(start.elapsed() >= LATE, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_late_for_a_process_that_was_given_up_is_not_delivered() {
    for is_short in [true, false] {
        let server = server(Limits::default()).await;
        let mut client = client(&server, is_short).await;
        server.host.disturb(Disturbance::Delay(Duration::from_secs(5)));
        next(&server, &mut client).await;
        server.until(|host| host.disturbed() == 1).await;
        server.host.reset();
        let reply = client.reply().await;
        assert_eq!(reply.status, 500);
    }
}
