//! What stands between the browser and the server: it serves the page that attacks, passes on
//! every other request as it came (or without its wall), and keeps what the browser sent and what the server answered.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request that the browser sent to the server, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The attempt's name; empty when the browser asked for itself.
    pub(super) via: String,
    pub(super) method: String,
    pub(super) origin: Option<String>,
    /// `Sec-Fetch-Site`
    pub(super) site: Option<String>,
    pub(super) status: u16,
}

/// A listener on a free port of 127.0.0.1.
#[derive(Debug)]
pub(super) struct Front {
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    /// Host and port of the server.
    server: String,
    /// Headers that are not passed on.
    hidden: &'static [&'static str],
    /// The code that the page puts into functions, a zip in base64.
    zip: String,
    requests: Mutex<Vec<Request>>,
    report: Mutex<Option<Value>>,
    is_over: AtomicBool,
}

impl Front {
    pub(super) fn start(server: &str, zip: &str) -> Self {
        Self::hiding(&["connection"], server, zip)
    }

    /// One that takes away what tells the server of foreign pages.
    pub(super) fn without_wall(server: &str, zip: &str) -> Self {
        Self::hiding(&["connection", "origin", "sec-fetch-site"], server, zip)
    }

    fn hiding(hidden: &'static [&'static str], server: &str, zip: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            port: listener.local_addr().unwrap().port(),
            server: server.strip_prefix("http://").unwrap().to_owned(),
            hidden,
            zip: zip.to_owned(),
            requests: Mutex::default(),
            report: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let listening = {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if shared.is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let shared = shared.clone();
                    // It ends with the browser, which holds the other end of its connection.
                    std::thread::spawn(move || shared.serve(stream));
                }
            })
        };
        Self { shared, listening: Some(listening) }
    }

    /// This listener by a name of its address.
    pub(super) fn url(&self, host: &str) -> String {
        format!("http://{host}:{}", self.shared.port)
    }

    /// What was passed on to the server until now.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// What the page could read, by attempt.
    pub(super) fn report(&self) -> Option<Value> {
        self.shared.report.lock().unwrap().clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.shared.port));
        let _ = self.listening.take().unwrap().join();
    }
}

impl Shared {
    /// One request of a connection. Browsers open some that they never use.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let find = |name| headers.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
        let length = find("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = match path.strip_prefix("/page/") {
            Some(path) => self.page(path, &body),
            None => {
                let head = line
                    + &headers
                        .iter()
                        .filter(|(name, _)| !self.hidden.contains(&name.as_str()))
                        .map(|(name, value)| format!("{name}: {value}\r\n"))
                        .collect::<String>();
                let answer = self.pass_on(&head, &body);
                let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
                let via = path.split_once("via=").map_or("", |(_, via)| via).to_owned();
                let (origin, site) = (find("origin"), find("sec-fetch-site"));
                let request = Request { via, method, origin, site, status };
                self.requests.lock().unwrap().push(request);
                answer
            }
        };
        reader.get_mut().write_all(&answer).ok()
    }

    fn pass_on(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let mut server = TcpStream::connect(&self.server).unwrap();
        server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
        server.write_all(body).unwrap();
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).unwrap();
        answer
    }

    /// The page's own server.
    fn page(&self, path: &str, body: &[u8]) -> Vec<u8> {
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let (head, body) = match name {
            "open" | "opaque" => {
                let target = query.strip_prefix("target=").unwrap();
                // The page of a sandbox has an origin that is nobody's: `null`.
                let sandbox = if name == "opaque" {
                    "content-security-policy: sandbox allow-scripts allow-forms\r\n"
                } else {
                    ""
                };
                let head = format!(
                    "200 OK\r\ncontent-type: text/html\r\n{sandbox}\
                     content-security-policy-report-only: media-src 'none'; \
                     report-uri {target}/2015-03-31/functions/victim/versions?via=policy"
                );
                let script = include_str!("page.js");
                let zip = &self.zip;
                (head, format!("<body><script data-zip=\"{zip}\">{script}</script></body>"))
            }
            "redirect" => {
                let to = query.strip_prefix("to=").unwrap();
                (format!("307 Temporary Redirect\r\nlocation: {to}"), String::new())
            }
            "report" => {
                *self.report.lock().unwrap() = Some(serde_json::from_slice(body).unwrap());
                ("204 No Content".to_owned(), String::new())
            }
            _ => ("404 Not Found".to_owned(), String::new()),
        };
        let length = body.len();
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes()
    }
}
