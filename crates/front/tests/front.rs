//! A listener with a handler that can be held up, and clients that write bytes.
#![allow(clippy::unwrap_used)]

use lambfold_front::{Front, Handler, Request};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Says what it got; a request for `/wait` is answered when the gate opens.
#[derive(Default)]
struct Echo {
    waiting: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Handler for Echo {
    fn answer(&self, request: Request) -> http::Response<Vec<u8>> {
        if request.head.uri.path() == "/wait" {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        let length = request.body.map(|body| body.len());
        let text = format!("{} {} {length:?}", request.head.method, request.head.uri);
        http::Response::builder().header("x-from", "echo").body(text.into_bytes()).unwrap()
    }
}

fn front(limit: usize) -> (Front, Arc<Echo>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let echo = Arc::new(Echo::default());
    (Front::start(listener, limit, echo.clone()).unwrap(), echo)
}

fn send(to: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn get(to: SocketAddr, path: &str, host: &str) -> String {
    answer(send(to, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")))
}

#[test]
fn requests_are_answered_and_strange_names_refused() {
    let (front, _) = front(100);
    let to = front.address();
    let text = get(to, "/a?b=c", "localhost:3000");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("x-from: echo\r\n") && text.ends_with("GET /a?b=c Some(0)"), "{text}");
    for path in ["/", "http://evil.example/"] {
        let text = get(to, path, "evil.example");
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(text.contains("the Host header names \"evil.example\""), "{text}");
    }
    let text = get(to, "http://evil.example/", "localhost");
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
}

#[test]
fn a_body_is_whole_up_to_its_limit_and_missing_beyond() {
    let (front, _) = front(100);
    let post = |length: usize| {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let body = "x".repeat(length);
        answer(send(front.address(), &format!("{head}Content-Length: {length}\r\n\r\n{body}")))
    };
    assert!(post(100).ends_with("POST / Some(100)"));
    assert!(post(101).ends_with("POST / None"));
}

#[test]
fn stopping_waits_for_what_is_under_way_and_takes_no_more() {
    let (front, echo) = front(100);
    let to = front.address();
    // A connection that is kept and says nothing does not hold it up.
    let idle = send(to, "");
    let slow = send(to, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let waiting = || (echo.waiting.load(Ordering::SeqCst) == 1).then_some(());
    lambfold_testkit::wait_for("the slow request", Duration::from_secs(60), waiting).unwrap();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| front.stop(Duration::from_secs(60)));
        let refused = || TcpStream::connect(to).is_err().then_some(());
        lambfold_testkit::wait_for("the listener's end", Duration::from_secs(60), refused).unwrap();
        assert!(!stopping.is_finished());
        *echo.open.lock().unwrap() = true;
        echo.opened.notify_all();
        assert!(answer(slow).ends_with("GET /wait Some(0)"));
        stopping.join().unwrap();
    });
    drop(idle);
    drop(front);
}
