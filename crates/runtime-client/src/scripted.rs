//! A scripted Runtime API server on loopback: a test puts events in, a runtime under test takes
//! them with `next`, and the test takes out what the runtime posted.
//!
//! It is a test double, not a platform: it checks the order of calls only as far as matching each
//! answer to an event it handed out, and trusts its client's HTTP framing.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One event to hand out.
#[derive(Debug, Clone)]
pub struct Event {
    /// The request id.
    pub request_id: String,
    /// More header fields, or other values for the usual ones.
    pub fields: Vec<(String, String)>,
    /// The event's bytes.
    pub body: Vec<u8>,
    /// How long the function has, from the moment of handing out.
    pub timeout: Duration,
}

impl Event {
    /// An event with a minute until its deadline.
    pub fn new(request_id: &str, body: impl Into<Vec<u8>>) -> Event {
        Event {
            request_id: request_id.to_owned(),
            fields: Vec::new(),
            body: body.into(),
            timeout: Duration::from_secs(60),
        }
    }

    /// Adds a header field.
    pub fn with_field(mut self, name: &str, value: &str) -> Event {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the time until the deadline.
    pub fn with_timeout(mut self, timeout: Duration) -> Event {
        self.timeout = timeout;
        self
    }
}

/// Which call a post was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `/invocation/{id}/response`
    Response,
    /// `/invocation/{id}/error`
    Error,
    /// `/init/error`
    InitError,
}

/// One complete post of the runtime.
#[derive(Debug, Clone)]
pub struct Post {
    /// The call.
    pub call: Call,
    /// The request id in its path; empty for an init error.
    pub request_id: String,
    /// Header fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Trailer fields, names in lower case.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended before its framing says so.
    pub is_cut: bool,
}

impl Post {
    /// The first header field of a name (lower case).
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The first trailer field of a name (lower case).
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    posts: VecDeque<Post>,
    /// Bytes of the streamed response that is under way.
    streamed: Vec<u8>,
    /// Runtimes that wait in `next`.
    waiting: usize,
    connections: usize,
    answer_with: VecDeque<(u16, String)>,
    drop_after_post: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    fn wait<R>(&self, limit: Duration, mut take: impl FnMut(&mut State) -> Option<R>) -> Option<R> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(result) = take(&mut state) {
                drop(state);
                self.changed.notify_all();
                return Some(result);
            }
            let left = end.checked_duration_since(Instant::now())?;
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The server. Its threads end with their connections, or with the test process.
pub struct Server {
    endpoint: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start() -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared::default());
        let of_threads = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_threads.clone();
                shared.change(|state| state.connections += 1);
                std::thread::spawn(move || {
                    // A connection that breaks is the runtime's to notice.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Ok(Server { endpoint, shared })
    }

    /// `host:port`, for `AWS_LAMBDA_RUNTIME_API`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Queues an event.
    pub fn push(&self, event: Event) {
        self.shared.change(|state| state.events.push_back(event));
    }

    /// Takes the next complete post, waiting up to `limit`.
    pub fn post(&self, limit: Duration) -> Option<Post> {
        self.shared.wait(limit, |state| state.posts.pop_front())
    }

    /// Queues an event and waits for its post.
    pub fn invoke(&self, event: Event, limit: Duration) -> Option<Post> {
        self.push(event);
        self.post(limit)
    }

    /// Waits until `is_enough` holds for what has come of the streamed response under way.
    pub fn wait_streamed(
        &self,
        limit: Duration,
        mut is_enough: impl FnMut(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let take = |state: &mut State| is_enough(&state.streamed).then(|| state.streamed.clone());
        self.shared.wait(limit, take)
    }

    /// Waits until `count` runtimes wait in `next`.
    pub fn wait_waiting(&self, count: usize, limit: Duration) -> bool {
        self.shared.wait(limit, |state| (state.waiting >= count).then_some(())).is_some()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Answers the next post with another status and body than 202.
    pub fn answer_next_post_with(&self, status: u16, body: &str) {
        self.shared.change(|state| state.answer_with.push_back((status, body.to_owned())));
    }

    /// Closes the connection after the next post has been answered, without saying so.
    pub fn drop_connection_once(&self) {
        self.shared.change(|state| state.drop_after_post = true);
    }
}

type Fields = Vec<(String, String)>;

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let line = read_line(&mut reader)?;
        if line.is_empty() {
            return Ok(());
        }
        let fields = read_fields(&mut reader)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = path.strip_prefix("/2018-06-01/runtime/").unwrap_or("");
        if (method, path) == ("GET", "invocation/next") {
            answer_next(&mut writer, shared)?;
        } else if let Some((call, id)) = posted(method, path) {
            if field(&fields, "expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let (status, body) = take_post(&mut reader, shared, call, id, fields)?;
            write!(
                writer,
                "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
        } else {
            writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        }
        if method == "POST" && std::mem::take(&mut shared.lock().drop_after_post) {
            return Ok(());
        }
    }
}

fn posted<'a>(method: &str, path: &'a str) -> Option<(Call, &'a str)> {
    if method != "POST" {
        return None;
    }
    if path == "init/error" {
        return Some((Call::InitError, ""));
    }
    let (id, call) = path.strip_prefix("invocation/")?.split_once('/')?;
    match call {
        "response" => Some((Call::Response, id)),
        "error" => Some((Call::Error, id)),
        _ => None,
    }
}

fn answer_next(writer: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    shared.change(|state| state.waiting += 1);
    let event = shared.wait(Duration::from_secs(3600), |state| {
        let event = state.events.pop_front();
        state.waiting -= usize::from(event.is_some());
        event
    });
    let Some(event) = event else { return Ok(()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let deadline = (now + event.timeout).as_millis().to_string();
    let usual = [
        ("Lambda-Runtime-Aws-Request-Id", event.request_id.as_str()),
        ("Lambda-Runtime-Deadline-Ms", deadline.as_str()),
        (
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:us-east-1:000000000000:function:test",
        ),
        ("Content-Type", "application/json"),
    ];
    let mut answer = String::from("HTTP/1.1 200 OK\r\n");
    let replaced = |name: &str| event.fields.iter().any(|(other, _)| other == name);
    for (name, value) in usual.into_iter().filter(|(name, _)| !replaced(name)) {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in &event.fields {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str(&format!("Content-Length: {}\r\n\r\n", event.body.len()));
    let mut bytes = answer.into_bytes();
    bytes.extend_from_slice(&event.body);
    writer.write_all(&bytes)
}

fn take_post(
    reader: &mut impl BufRead,
    shared: &Shared,
    call: Call,
    id: &str,
    fields: Fields,
) -> io::Result<(u16, String)> {
    shared.change(|state| state.streamed.clear());
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    let read = if field(&fields, "transfer-encoding").is_some() {
        read_chunked(reader, shared, &mut body).map(|fields| trailers = fields)
    } else {
        let length = field(&fields, "content-length").and_then(|text| text.parse::<u64>().ok());
        let length = length.unwrap_or(0);
        reader.take(length).read_to_end(&mut body).and_then(|read| match read as u64 == length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    };
    let post =
        Post { call, request_id: id.to_owned(), fields, body, trailers, is_cut: read.is_err() };
    let answer = shared.change(|state| {
        state.posts.push_back(post);
        state.answer_with.pop_front()
    });
    read?;
    Ok(answer.unwrap_or_else(|| (202, "{\"status\":\"OK\"}\n".to_owned())))
}

fn read_chunked(
    reader: &mut impl BufRead,
    shared: &Shared,
    body: &mut Vec<u8>,
) -> io::Result<Fields> {
    loop {
        let size = u64::from_str_radix(&read_line(reader)?, 16)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if size == 0 {
            return read_fields(reader);
        }
        let from = body.len();
        if reader.take(size).read_to_end(body)? as u64 != size || !read_line(reader)?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        shared.change(|state| state.streamed.extend_from_slice(&body[from..]));
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

fn read_fields(reader: &mut impl BufRead) -> io::Result<Fields> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
