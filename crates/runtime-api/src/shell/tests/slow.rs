//! Peers that take their time.

use super::*;

/// Keeps paused time from moving by itself while sockets are waited for: tokio does so whenever
/// all tasks wait, unless a blocking task runs. Ends with the value.
fn hold_time() -> std::sync::mpsc::Sender<()> {
    let (hold, held) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    hold
}

/// Lets the server see what was sent on other connections: a request and its answer.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_heads_are_cut_off_and_idle_connections_are_not() {
    let _hold = hold_time();
    let server = server(Limits::default()).await;
    let mut idle = server.client().await;
    assert_eq!(idle.get("ping").await.reply().await.status, 200);
    let mut parked = server.client().await;
    parked.get("runtime/invocation/next").await;
    server.until(|host| host.waiting() == 1).await;

    // Within the time, and each head anew.
    const PART: &str = "GET /2018-06-01/ping HTTP/1.1\r\nHost: h\r\n";
    let mut slow = server.client().await;
    for _ in 0..3 {
        slow.send(PART).await;
        settle().await;
        tokio::time::advance(Duration::from_millis(29_990)).await;
        settle().await;
        assert_eq!(slow.send("\r\n").await.reply().await.status, 200);
    }
    slow.send(PART).await;
    settle().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    slow.send("More: h\r\n").await;
    settle().await;
    tokio::time::advance(Duration::from_millis(10_010)).await;
    assert!(slow.try_reply().await.is_none());

    tokio::time::advance(Duration::from_secs(100_000)).await;
    assert_eq!(idle.get("ping").await.reply().await.status, 200);
    server.host.invoke("late");
    assert_eq!(parked.reply().await.body, b"late");
}

#[tokio::test]
async fn unfinished_heads_share_a_budget() {
    let server = server(Limits { head_bytes: 100 << 10, ..Limits::default() }).await;
    let head =
        |bytes| format!("GET /2018-06-01/ping HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(bytes));
    let mut first = server.client().await;
    assert_eq!(first.send(head(60 << 10)).await.send("\r\n\r\n").await.reply().await.status, 200);
    first.send(head(60 << 10)).await;
    let mut second = server.client().await;
    second.send(head(10 << 10)).await;
    // Within the free part of each connection.
    assert_eq!(second.send("\r\n\r\n").await.reply().await.status, 200);
    let mut third = server.client().await;
    // The write itself may already fail.
    let _ = third.0.write_all(head(60 << 10).as_bytes()).await;
    assert!(third.try_reply().await.is_none());
    assert_eq!(first.send("\r\n\r\n").await.reply().await.status, 200);
    let mut fourth = server.client().await;
    assert_eq!(fourth.send(head(60 << 10)).await.send("\r\n\r\n").await.reply().await.status, 200);
}

/// How long 40 requests take whose lines are written one by one.
async fn in_small_pieces(address: SocketAddr) -> Duration {
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    let start = std::time::Instant::now();
    for _ in 0..40 {
        for line in ["GET /2018-06-01/ping HTTP/1.1\r\n", "Host: h\r\n", "\r\n"] {
            client.send(line).await;
        }
        assert_eq!(client.reply().await.status, 200);
    }
    start.elapsed()
}

#[tokio::test]
async fn peers_that_write_in_small_pieces_do_not_wait() {
    let server = server(Limits::default()).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.unwrap() > 0 {
            if bytes.ends_with(b"\r\n\r\n") {
                bytes.clear();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        }
    });
    // The control run waits at most of the requests, 40 ms each time.
    let control = in_small_pieces(address).await;
    assert!(control > Duration::from_millis(400), "{control:?}");
    // A busy machine holds up some runs; the wait is in every one that has it.
    let mut took = Vec::new();
    while took.len() < 20 && took.iter().all(|took| *took >= control / 4) {
        took.push(in_small_pieces(server.address).await);
    }
    assert!(took.iter().any(|took| *took < control / 4), "{took:?}, others take {control:?}");
}
