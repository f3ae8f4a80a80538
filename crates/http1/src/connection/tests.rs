#![allow(clippy::unwrap_used)]
use super::*;
use crate::head::{BODY_BYTES, Fields, Method};
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};

fn pair(idle: Option<Duration>) -> (Connection<DuplexStream>, DuplexStream) {
    let (server, client) = duplex(1 << 20);
    (Connection::new(server, idle), client)
}

fn post(body: &str) -> String {
    format!("POST /p?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn next(connection: &mut Connection<DuplexStream>) -> Arrival {
    connection.next(|_| true).await
}

async fn rest(connection: Connection<DuplexStream>, client: DuplexStream) -> Vec<u8> {
    drop(client);
    let mut bytes = Vec::new();
    connection.rewind().read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn requests_come_one_by_one_however_they_were_sent() {
    let (mut connection, mut client) = pair(None);
    client.write_all((post("one") + &post("") + &post("three")).as_bytes()).await.unwrap();
    for body in ["one", "", "three"] {
        assert_eq!(next(&mut connection).await, Arrival::Request);
        let parts = connection.parts();
        assert_eq!(parts.head.method(), Method::Post);
        assert_eq!(parts.head.target(), "/p?q=1");
        assert_eq!(parts.head.field("host"), Some(&b"h"[..]));
        assert_eq!(parts.body, body.as_bytes());
    }
    let large = "x".repeat(BODY_BYTES);
    let request = post(&large);
    let sent = async {
        for piece in request.as_bytes().chunks(1000) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (arrival, ()) = tokio::join!(next(&mut connection), sent);
    assert_eq!((arrival, connection.parts().body), (Arrival::Request, large.as_bytes()));
    drop(client);
    assert_eq!(next(&mut connection).await, Arrival::Closed);
}

#[tokio::test]
async fn what_is_not_answered_here_is_given_back_whole() {
    for (sent, wants) in [
        (post("unwanted"), false),
        ("NONSENSE\r\n\r\nmore".to_owned(), true),
        (post(&"x".repeat(BODY_BYTES + 1)), true),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), true),
    ] {
        let (mut connection, mut client) = pair(None);
        client.write_all(post("before").as_bytes()).await.unwrap();
        assert_eq!(next(&mut connection).await, Arrival::Request);
        client.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(connection.next(|_| wants).await, Arrival::Foreign);
        assert!(rest(connection, client).await == sent.as_bytes());
    }
}

#[tokio::test]
async fn large_bodies_are_plain_where_there_is_room() {
    const LIMIT: usize = BODY_BYTES + 1000;
    let places = Arc::new(Semaphore::new(1));
    let (first, mut client) = pair(None);
    let (second, mut other) = pair(None);
    let mut first = first.with_room(Arc::clone(&places), LIMIT);
    let mut second = second.with_room(places, LIMIT);
    let large = post(&"x".repeat(LIMIT));
    for _ in 0..2 {
        client.write_all(large.as_bytes()).await.unwrap();
        assert_eq!(next(&mut first).await, Arrival::Request);
        assert_eq!(first.parts().body.len(), LIMIT);
    }
    // The only place is taken until the request has been answered.
    other.write_all(post(&"x".repeat(BODY_BYTES)).as_bytes()).await.unwrap();
    assert_eq!(next(&mut second).await, Arrival::Request);
    other.write_all(large.as_bytes()).await.unwrap();
    assert_eq!(next(&mut second).await, Arrival::Foreign);
    assert!(rest(second, other).await == large.as_bytes());
    let larger = post(&"x".repeat(LIMIT + 1));
    client.write_all(larger.as_bytes()).await.unwrap();
    assert_eq!(next(&mut first).await, Arrival::Foreign);
    assert!(rest(first, client).await == larger.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn unfinished_requests_are_given_back_after_a_moment_or_at_the_end() {
    for unfinished in ["POST /", post("body").strip_suffix("dy").unwrap()] {
        let (mut connection, mut client) = pair(None);
        client.write_all(unfinished.as_bytes()).await.unwrap();
        let start = Instant::now();
        assert_eq!(next(&mut connection).await, Arrival::Foreign);
        assert!(start.elapsed() >= PATIENCE);
        assert_eq!(rest(connection, client).await, unfinished.as_bytes());

        let (mut connection, mut client) = pair(None);
        client.write_all(unfinished.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(next(&mut connection).await, Arrival::Foreign);
        assert_eq!(rest(connection, client).await, unfinished.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_limited_between_requests() {
    let limit = Duration::from_secs(60);
    let (mut connection, mut client) = pair(Some(limit));
    for _ in 0..3 {
        tokio::time::advance(limit - Duration::from_millis(10)).await;
        client.write_all(post("").as_bytes()).await.unwrap();
        assert_eq!(next(&mut connection).await, Arrival::Request);
    }
    let start = Instant::now();
    assert_eq!(next(&mut connection).await, Arrival::Closed);
    assert_eq!(start.elapsed().as_secs(), limit.as_secs());

    let (mut connection, mut client) = pair(None);
    let late = async {
        tokio::time::sleep(100 * limit).await;
        client.write_all(post("").as_bytes()).await.unwrap();
    };
    let (arrival, ()) = tokio::join!(next(&mut connection), late);
    assert_eq!(arrival, Arrival::Request);
}

#[tokio::test]
async fn a_peer_that_goes_is_seen_and_what_it_sent_ahead_is_kept() {
    let (mut connection, mut client) = pair(None);
    client.write_all(post("one").as_bytes()).await.unwrap();
    assert_eq!(next(&mut connection).await, Arrival::Request);
    let mut parts = connection.parts();
    let ahead = async {
        client.write_all(post("two").as_bytes()).await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = parts.peer.gone() => panic!("it is there"),
        () = ahead => {}
    }
    assert_eq!(parts.body, b"one");
    assert_eq!(next(&mut connection).await, Arrival::Request);
    let mut parts = connection.parts();
    assert_eq!(parts.body, b"two");
    drop(client);
    parts.peer.gone().await;
}

#[tokio::test]
async fn a_peer_that_waits_costs_one_buffer() {
    let (mut connection, mut client) = pair(None);
    for _ in 0..3 {
        client.write_all(post("x").as_bytes()).await.unwrap();
        assert_eq!(next(&mut connection).await, Arrival::Request);
        tokio::select! {
            biased;
            () = async { connection.parts().peer.gone().await } => panic!("it is there"),
            () = std::future::ready(()) => {}
        }
        assert!(connection.request.capacity() <= 2 * READ_BYTES);
        assert!(connection.side.input.capacity() <= 2 * WAITING_BYTES);
    }
}

#[tokio::test]
async fn only_so_much_is_read_ahead() {
    let (server, mut client) = duplex(4 << 10);
    let mut connection = Connection::new(server, None);
    client.write_all(post("").as_bytes()).await.unwrap();
    assert_eq!(next(&mut connection).await, Arrival::Request);
    let mut parts = connection.parts();
    let flood = async {
        let mut sent = 0;
        while sent < 4 * AHEAD_BYTES {
            tokio::select! {
                biased;
                written = client.write(&[b'x'; 1024]) => sent += written.unwrap(),
                // The pipe is full, and stays so.
                () = async { for _ in 0..100 { tokio::task::yield_now().await } } => break,
            }
        }
        sent
    };
    let sent = tokio::select! {
        () = parts.peer.gone() => panic!("it is there"),
        sent = flood => sent,
    };
    assert!((AHEAD_BYTES..2 * AHEAD_BYTES).contains(&sent), "{sent}");
}

#[tokio::test]
async fn answers_have_their_headers_and_bodies() {
    for (size, closes) in [(0, false), (JOINED_BYTES, true), (JOINED_BYTES + 1, false)] {
        let (mut connection, mut client) = pair(None);
        let body = vec![b'x'; size];
        connection.answer("200 OK", |draft| draft.field("a", "b"), &body, closes).await.unwrap();
        drop(connection);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        let at = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        assert!(answer[at..] == body);
        let head = std::str::from_utf8(&answer[..at]).unwrap();
        let close = if closes { "connection: close\r\n" } else { "" };
        let start = format!("HTTP/1.1 200 OK\r\na: b\r\n{close}content-length: {size}\r\ndate: ");
        assert!(head.starts_with(&start), "{head}");
    }
    let (connection, mut client) = pair(None);
    let mut connection = connection.with_title_case();
    connection.answer("204 No Content", |_| {}, b"", true).await.unwrap();
    drop(connection);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 204 No Content\r\nConnection: close\r\nDate: "),
        "{answer}"
    );
}

proptest! {
    #[test]
    fn pieces_do_not_change_what_is_read(
        bodies in proptest::collection::vec("[a-z]{0,30}", 1..4),
        sizes in proptest::collection::vec(1usize..40, 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut connection, mut client) = pair(None);
            let sent: String = bodies.iter().map(|body| post(body)).collect();
            let send = async {
                let (mut at, mut sizes) = (0, sizes.iter().cycle());
                while at < sent.len() {
                    let end = (at + sizes.next().unwrap()).min(sent.len());
                    client.write_all(&sent.as_bytes()[at..end]).await.unwrap();
                    at = end;
                    tokio::task::yield_now().await;
                }
            };
            let receive = async {
                for body in &bodies {
                    assert_eq!(next(&mut connection).await, Arrival::Request);
                    assert_eq!(connection.parts().body, body.as_bytes());
                }
            };
            tokio::join!(send, receive);
        });
    }
}
