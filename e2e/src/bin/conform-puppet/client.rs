//! HTTP by hand, with the mistakes that are made by hand.

use crate::function::Invocation;
use crate::has;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One worker's conversation.
pub(crate) struct Client {
    api: String,
    connection: Option<Connection>,
}

struct Connection {
    reader: BufReader<TcpStream>,
    /// Requests that were answered on it.
    used: usize,
}

/// The answer to a post.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    pub(crate) status: u16,
    /// It came with `Connection: close`.
    pub(crate) closed: bool,
    /// Not everything could be written.
    pub(crate) broken: bool,
}

struct Message {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

fn give_up() -> ! {
    std::process::exit(1)
}

fn broken<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap_or_else(|_| give_up());
        if has("environment-address") {
            api = "169.254.100.1:9001".to_owned();
        }
        Self { api, connection: None }
    }

    /// A `next` that has been sent; nobody reads the answer.
    pub(crate) fn ask(mut self) -> Asked {
        let head = self.get();
        let connection = self.connect();
        let _ = connection.reader.get_mut().write_all(head.as_bytes());
        Asked(self.connection)
    }

    fn get(&self) -> String {
        let query = if has("next-request-line") { "?wait=1" } else { "" };
        let mut head = format!("GET /2018-06-01/runtime/invocation/next{query} HTTP/1.1\r\n");
        if !has("next-host") {
            head.push_str(&format!("Host: {}\r\n", self.api));
        }
        if has("next-no-body") {
            head.push_str("Content-Length: 2\r\n\r\n{}");
        } else {
            head.push_str("\r\n");
        }
        head
    }

    fn connect(&mut self) -> &mut Connection {
        let api = self.api.clone();
        self.connection.get_or_insert_with(|| {
            let stream = TcpStream::connect(api).unwrap_or_else(|_| give_up());
            let _ = stream.set_nodelay(true);
            Connection { reader: BufReader::with_capacity(64 << 10, stream), used: 0 }
        })
    }

    /// The next event; ends the process where that is what a runtime does.
    pub(crate) fn next(&mut self, concurrent: bool) -> Invocation {
        loop {
            match self.try_next(concurrent) {
                Ok(message) if message.status == 200 => {
                    let id = message.header("lambda-runtime-aws-request-id").unwrap_or_default();
                    let id = id.to_owned();
                    return Invocation { id, headers: message.headers, body: message.body };
                }
                Ok(message) => match message.status {
                    403 if has("next-403") => {}
                    500 if has("next-500") => std::thread::sleep(Duration::from_millis(100)),
                    _ => give_up(),
                },
                Err(error) if error.kind() == io::ErrorKind::InvalidData => give_up(),
                Err(_) => {
                    // Asking twice is harmless.
                    let used = self.connection.take().map_or(0, |connection| connection.used);
                    if used == 0 && has("next-reset") {
                        std::thread::sleep(Duration::from_secs(3600));
                    }
                    if used > 0 && has("connection-dropped") {
                        give_up();
                    }
                }
            }
        }
    }

    fn try_next(&mut self, concurrent: bool) -> io::Result<Message> {
        let head = self.get();
        let connection = self.connect();
        connection.reader.get_mut().write_all(head.as_bytes())?;
        if has("next-idle") {
            let limit = Some(Duration::from_millis(2500));
            connection.reader.get_ref().set_read_timeout(limit)?;
        }
        let mut beside = None;
        if has("next-alone") && !concurrent {
            let stream = self.connect().reader.get_ref().try_clone()?;
            stream.set_read_timeout(Some(Duration::from_millis(300)))?;
            let waited = stream.peek(&mut [0]);
            stream.set_read_timeout(None)?;
            if waited.is_err() {
                beside = Some(Client { api: self.api.clone(), connection: None }.ask());
            }
        }
        let message = self.receive(false);
        if message.is_ok() && has("next-idle") {
            self.connect().reader.get_ref().set_read_timeout(None)?;
        }
        drop(beside);
        message
    }

    /// Posts, on a new connection where the old one is dead.
    pub(crate) fn post(&mut self, path: &str, body: &[u8], is_error: bool) -> Posted {
        let kind = match is_error && !has("error-header") {
            true => "Lambda-Runtime-Function-Error-Type: Puppet.Error\r\n",
            false if is_error && path == "init/error" => {
                "Lambda-Runtime-Function-Error-Type: Puppet.Init\r\n"
            }
            false => "",
        };
        let both = has("response-framing") && path.contains("/response");
        let mut head = format!(
            "POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{kind}Content-Length: {}\r\n",
            self.api,
            body.len()
        );
        if both {
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
        head.push_str("\r\n");
        let chunked;
        let body = if both {
            let head = format!("{:x}\r\n", body.len()).into_bytes();
            chunked = [&head, body, b"\r\n0\r\n\r\n"].concat();
            if body.is_empty() { &b"0\r\n\r\n"[..] } else { &chunked }
        } else {
            body
        };
        for _ in 0..3 {
            let connection = self.connect();
            let used = connection.used;
            let stream = connection.reader.get_mut();
            let sent = stream.write_all(head.as_bytes()).and_then(|()| write(stream, body));
            // An answer may have come before everything was sent.
            match self.receive(true) {
                Ok(message) => {
                    let closed = message.closes();
                    if sent.is_err() {
                        self.connection = None;
                    }
                    return Posted { status: message.status, closed, broken: sent.is_err() };
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => give_up(),
                Err(_) => self.connection = None,
            }
            if sent.is_err() && body.len() > 1 << 20 {
                // It was refused, and the answer was lost with its connection.
                return Posted { status: 0, closed: true, broken: true };
            }
            if used == 0 {
                break;
            }
        }
        give_up()
    }

    pub(crate) fn stream(
        &mut self,
        path: &str,
        parts: &[String],
        delay: Duration,
        error: Option<&str>,
    ) {
        let mut head = format!(
            "POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n",
            self.api
        );
        if !has("stream-mode") {
            head.push_str("Lambda-Runtime-Function-Response-Mode: streaming\r\n");
        }
        if !has("stream-declared") {
            head.push_str("Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n");
        }
        head.push_str("\r\n");
        let mut late = Vec::new();
        let connection = self.connect();
        let stream = connection.reader.get_mut();
        let _ = stream.write_all(head.as_bytes());
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                std::thread::sleep(delay);
            }
            let chunk = if part.is_empty() {
                if has("stream-empty-part") { "0\r\n\r\n".to_owned() } else { String::new() }
            } else {
                format!("{:x}\r\n{part}\r\n", part.len())
            };
            if has("stream-in-time") {
                late.extend_from_slice(chunk.as_bytes());
            } else {
                let _ = stream.write_all(chunk.as_bytes());
            }
        }
        late.extend_from_slice(b"0\r\n");
        if let Some(error) = error.filter(|_| !has("stream-error")) {
            let encoded = STANDARD.encode(error);
            late.extend_from_slice(
                format!("Lambda-Runtime-Function-Error-Type: Puppet.Asked\r\nLambda-Runtime-Function-Error-Body: {encoded}\r\n")
                    .as_bytes(),
            );
        }
        late.extend_from_slice(b"\r\n");
        let _ = stream.write_all(&late);
        if self.receive(true).is_err() {
            give_up();
        }
    }

    fn receive(&mut self, is_post: bool) -> io::Result<Message> {
        let connection = self.connect();
        let message = read(&mut connection.reader, is_post)?;
        connection.used += 1;
        let no_length = message.header("content-length").is_none()
            && message.header("transfer-encoding").is_none();
        if message.closes() && has("connection-close") && !no_length && message.status < 400 {
            // As if nothing had been said: the next call finds the connection dead.
            let mut stream = connection.reader.get_ref();
            let _ = stream.read(&mut [0; 1]);
            give_up();
        }
        if message.closes() {
            self.connection = None;
        }
        Ok(message)
    }
}

/// Writes it all; where that is the fault, an answer that comes meanwhile is a failure.
fn write(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    if !has("response-413-early") {
        return stream.write_all(body);
    }
    for (at, piece) in body.chunks(256 << 10).enumerate() {
        // What comes after the last byte is in time.
        if at > 0 && body.len() > 1 << 20 {
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            if stream.peek(&mut [0]).is_ok() {
                give_up();
            }
            stream.set_read_timeout(None)?;
        }
        stream.write_all(piece)?;
    }
    Ok(())
}

/// A `next` without a reader.
pub(crate) struct Asked(Option<Connection>);

impl Asked {
    /// Waits until something was said, and hangs up.
    pub(crate) fn first_byte(self) {
        if let Some(mut connection) = self.0 {
            let _ = connection.reader.get_mut().read(&mut [0]);
        }
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if has("header-long") && line.len() > 2048 {
        return broken("a long line");
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

fn read(reader: &mut BufReader<TcpStream>, is_post: bool) -> io::Result<Message> {
    if has("dribble") {
        // As if one read gave everything.
        let first = reader.fill_buf()?;
        if first.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !first.windows(4).any(|window| window == b"\r\n\r\n") {
            return broken("half a head");
        }
    }
    let mut status = line(reader)?;
    if status.starts_with("HTTP/1.1 100") {
        while !line(reader)?.is_empty() {}
        status = line(reader)?;
    }
    let mut words = status.splitn(3, ' ');
    let (Some(version), Some(code)) = (words.next(), words.next()) else {
        return broken("no status line");
    };
    let (true, Ok(code)) = (version.starts_with("HTTP/1."), code.parse::<u16>()) else {
        return broken("no status line");
    };
    if has("status-reason") && code == 200 && words.next() != Some("OK") {
        return broken("not OK");
    }
    let headers = headers(reader)?;
    let mut message = Message { status: code, headers, body: Vec::new() };
    let chunked = message.header("transfer-encoding").is_some();
    if chunked && !(is_post && has("accepted-chunked")) {
        message.body = chunks(reader)?;
    } else if let Some(length) = message.header("content-length") {
        let Ok(length) = length.trim().parse() else { return broken("no length") };
        message.body = vec![0; length];
        reader.read_exact(&mut message.body)?;
    } else if !chunked && !has("until-close") {
        reader.read_to_end(&mut message.body)?;
    }
    if has("accepted-empty") && is_post && message.body.is_empty() {
        return broken("no body");
    }
    Ok(message)
}

fn headers(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    let mut over = false;
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let separator = if has("header-space") { ": " } else { ":" };
        let Some((name, value)) = line.split_once(separator) else { continue };
        let ignored = match crate::fault() {
            "header-lower" => !name.contains(|c: char| c.is_ascii_uppercase()) && name != "host",
            "header-upper" => !name.contains(|c: char| c.is_ascii_lowercase()),
            "header-order" => over,
            _ => false,
        };
        over |= name.eq_ignore_ascii_case("content-length");
        if !ignored || is_framing(name) {
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if has("header-many") && headers.len() > 32 {
            return broken("too many headers");
        }
    }
}

/// Without these nothing can be read, which would be another mistake.
fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "connection"]
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
}

fn chunks(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?;
        let digits = match size.split_once(';') {
            Some(_) if has("chunk-extension") => return broken("an extension"),
            Some((digits, _)) => digits,
            None => &size,
        };
        let radix = if has("chunked") { 10 } else { 16 };
        let Ok(size) = usize::from_str_radix(digits.trim(), radix) else {
            return broken("no size of a chunk");
        };
        if size == 0 {
            break;
        }
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        line(reader)?;
    }
    while !line(reader)?.is_empty() {
        if has("chunk-trailers") {
            break;
        }
    }
    Ok(body)
}
