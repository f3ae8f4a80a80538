//! `lambfold dev`: a folder as a function with an address, reloaded at each change.
//!
//! ```text
//! watch ──► this thread: pack → publish a version → provision it → when it is ready, switch ──► relay
//! browser ──► front ──► relay: event → invoke the version → response      logs ──► screen
//! ```
//! A version is what requests are bound to: those under way stay with theirs, and it is deleted
//! when the last of them is answered. All of it goes through the AWS API.

mod deployment;
mod inputs;
mod lines;
mod page;
mod relay;
mod screen;
mod watch;

use self::deployment::{Deployment, Readiness};
use self::inputs::Inputs;
use self::lines::Lines;
use self::relay::{Relay, Serving, Version};
use self::screen::Screen;
use self::watch::{Changed, Watch};
use super::{events, shared};
use crate::args::{Dev, HttpFormat};
use crate::client::{Client, Endpoint, Request, Service};
use crate::failure::{Exit, Failure};
use crate::{output, serve};
use lambfold_events::http;
use lambfold_front::Front;
use lambfold_server::Server;
use lambfold_types::limits::SYNC_REQUEST_BYTES;
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Where a function is looked for in a browser, unless the port is taken.
const PORT: u16 = 3000;
/// Further ports that are tried then.
const MORE_PORTS: u16 = 20;
/// Between two looks whether a version is ready.
const LOOK: Duration = Duration::from_millis(3);
/// Between two looks at versions that are on their way out.
const TIDY: Duration = Duration::from_millis(300);
/// How long a change that cannot be deployed may go on before that is said.
const SETTLE: Duration = Duration::from_millis(60);
/// How long requests under way may take when it ends.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Exit code after a second signal, as shells give it to a program that SIGINT ended.
const SECOND_SIGNAL: i32 = 130;

/// What the main thread is told.
enum Message {
    Changed(Changed),
    WatchFailed(Failure),
    Line(String),
    Stop,
}

pub(crate) fn run(args: &Dev) -> Result<Exit, Failure> {
    if !args.dir.is_dir() {
        return Err(Failure::usage(format!("{} is not a folder", args.dir.display()))
            .hint("make one that works at once: lambfold init bash DIR"));
    }
    let event = args.event.as_deref().map(read_event).transpose()?;
    let mut inputs = Inputs::new(args)?;
    let listener = listen(args.port)?;
    let (server, client) = find_server(args)?;
    let (client, screen) = (Arc::new(client), Arc::new(Screen::new(args.printing.format)));
    let (sender, messages) = channel();

    let mut deployment = Deployment::new(&client, args, &inputs)?;
    let lines = Arc::new(Lines::start(&client, deployment.name(), screen.clone()));
    let relay = Relay::new(&client, deployment.name(), format_of(args.http), lines.clone());
    let relay = Arc::new(relay);
    let started = |error: std::io::Error| Failure::failed("could not serve").cause(&error);
    let front = Front::start(listener, SYNC_REQUEST_BYTES, relay.clone()).map_err(started)?;
    let (stop, is_second) = (sender.clone(), AtomicBool::new(false));
    let stopped = move || {
        // Whoever asks twice does not want to wait for the requests under way.
        if is_second.swap(true, Ordering::Relaxed) {
            std::process::exit(SECOND_SIGNAL);
        }
        let _ = stop.send(Message::Stop);
    };
    front.on_signal(stopped).map_err(started)?;
    watch(&inputs, &sender)?;
    read_keys(&sender);

    let mut session = Session {
        relay: &relay,
        screen: &screen,
        lines: &lines,
        event,
        messages,
        waiting: Waiting::default(),
        leaving: Vec::new(),
        is_shown: false,
        url: format!("http://{}/", front.address()),
        endpoint: client.endpoint().to_string(),
    };
    let ended = session.run(&mut inputs, &mut deployment);
    front.stop(LAST_REQUESTS);
    lines.stop();
    drop(front);
    // With a server of one's own everything goes with it.
    if server.is_none() {
        deployment.delete();
    }
    drop(server);
    ended.map(|()| Exit::Done)
}

fn format_of(format: HttpFormat) -> http::Format {
    match format {
        HttpFormat::ApiGatewayV2 => http::Format::ApiGatewayV2,
        HttpFormat::ApiGatewayProxy => http::Format::ApiGatewayProxy,
        HttpFormat::FunctionUrl => http::Format::FunctionUrl,
        HttpFormat::Alb => http::Format::Alb,
    }
}

/// A sample's name, a file, or JSON.
fn read_event(text: &str) -> Result<Value, Failure> {
    let wrong = |error: &serde_json::Error| {
        Failure::usage("--event is not JSON")
            .cause(error)
            .hint("a sample by its name: lambfold events list; a file: --event @FILE")
    };
    if let Some(path) = text.strip_prefix('@') {
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::failed(format!("could not read {path}")).cause(&error))?;
        return serde_json::from_slice(&bytes).map_err(|error| wrong(&error));
    }
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_alphabetic());
    if is_name && !["true", "false", "null"].contains(&text) {
        return events::event(text, &[]);
    }
    serde_json::from_str(text).map_err(|error| wrong(&error))
}

fn listen(port: Option<u16>) -> Result<TcpListener, Failure> {
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    let first = port.unwrap_or(PORT);
    let mut bound = bind(first);
    if port.is_none() {
        for next in 1..=MORE_PORTS {
            match &bound {
                Err(error) if error.kind() == ErrorKind::AddrInUse => bound = bind(PORT + next),
                _ => break,
            }
        }
    }
    bound.map_err(|error| {
        Failure::failed(format!("could not listen on 127.0.0.1:{first}"))
            .cause(&error)
            .hint("--port 0 takes a free port")
    })
}

/// The server that is named, else one that answers at the default address, else one of this
/// command's own, which ends with it.
fn find_server(args: &Dev) -> Result<(Option<Server>, Client), Failure> {
    if !args.ephemeral {
        let client = shared::connect(&args.connection)?;
        let alive = client.send(Request::new(Service::Lambda, "GET", "/health/live"));
        match alive {
            Ok(answer) if answer.body == b"live\n" => return Ok((None, client)),
            Ok(_) if shared::is_named(&args.connection) => {
                return Err(Failure::failed(format!(
                    "{} is no lambfold server",
                    client.endpoint()
                )));
            }
            Err(error) if shared::is_named(&args.connection) => {
                return Err(shared::explain(&error)
                    .hint("or let this command run a server of its own: --ephemeral"));
            }
            _ => {}
        }
    }
    let server = serve::own()?;
    if let [first, others @ ..] = server.notes() {
        output::warn(first);
        if !others.is_empty() {
            output::warn(&format!("and {} more of this kind; see: lambfold doctor", others.len()));
        }
    }
    let endpoint = Endpoint::parse(&format!("http://{}", server.address()))
        .map_err(|error| Failure::from_error(&error))?;
    let region = shared::region(&args.connection)?;
    Ok((Some(server), Client::new(endpoint, region.as_str().to_owned())))
}

fn watch(inputs: &Inputs, sender: &Sender<Message>) -> Result<(), Failure> {
    let explain = |error: watch::WatchError| Failure::from_error(&error);
    let mut watch = Watch::new(inputs.watched()).map_err(explain)?;
    let sender = sender.clone();
    std::thread::spawn(move || {
        loop {
            let (message, is_last) = match watch.next() {
                Ok(changed) => (Message::Changed(changed), false),
                Err(error) => (Message::WatchFailed(explain(error)), true),
            };
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    });
    Ok(())
}

/// Lines that are typed. Nothing is read where nobody types.
fn read_keys(sender: &Sender<Message>) {
    if !std::io::stdin().is_terminal() {
        return;
    }
    let sender = sender.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(Message::Line(line)).is_err() {
                return;
            }
        }
    });
}

/// Messages that have come and are not dealt with yet.
#[derive(Default)]
struct Waiting {
    changed: Option<Changed>,
    lines: Vec<String>,
    failure: Option<Failure>,
    stop: bool,
}

struct Session<'a> {
    relay: &'a Arc<Relay>,
    screen: &'a Screen,
    lines: &'a Lines,
    event: Option<Value>,
    messages: Receiver<Message>,
    waiting: Waiting,
    /// Versions that take no new requests.
    leaving: Vec<Arc<Version>>,
    /// Whether the address has been printed.
    is_shown: bool,
    url: String,
    endpoint: String,
}

impl Session<'_> {
    fn run(&mut self, inputs: &mut Inputs, deployment: &mut Deployment) -> Result<(), Failure> {
        let all = (0..inputs.watched().len()).collect();
        self.waiting.changed = Some(Changed { since: Instant::now(), which: all });
        loop {
            if let Some(failure) = self.waiting.failure.take() {
                return Err(failure);
            }
            if self.waiting.stop || self.screen.is_closed() {
                // The terminal has written ^C into the line.
                if std::io::stderr().is_terminal() {
                    output::talk("");
                }
                return Ok(());
            }
            if let Some(changed) = self.waiting.changed.take() {
                self.reload(&changed, inputs, deployment);
                continue;
            }
            for line in std::mem::take(&mut self.waiting.lines) {
                self.typed(&line);
            }
            self.tidy(deployment);
            self.wait(if self.leaving.is_empty() { Duration::from_secs(1) } else { TIDY });
        }
    }

    /// Takes in messages, for so long at most until there is one.
    fn wait(&mut self, patience: Duration) {
        match self.messages.recv_timeout(patience) {
            Ok(Message::Changed(changed)) => {
                let since = self.waiting.changed.as_ref().map_or(changed.since, |was| was.since);
                let mut which = changed.which;
                which.extend(self.waiting.changed.take().into_iter().flat_map(|was| was.which));
                self.waiting.changed = Some(Changed { since, which });
            }
            Ok(Message::WatchFailed(failure)) => self.waiting.failure = Some(failure),
            Ok(Message::Line(line)) => self.waiting.lines.push(line),
            Ok(Message::Stop) => self.waiting.stop = true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn is_interrupted(&self) -> bool {
        self.waiting.stop || self.waiting.changed.is_some() || self.waiting.failure.is_some()
    }

    /// What changed becomes a version that takes the requests when it is ready. What cannot be
    /// one is shown, on the terminal and as the answer to requests.
    fn reload(&mut self, changed: &Changed, inputs: &mut Inputs, deployment: &mut Deployment) {
        let published = match inputs.read(&changed.which, deployment) {
            Ok(false) if self.is_shown && !self.relay.is_broken() => return,
            Ok(_) => deployment.publish(inputs),
            Err(failure) => Err(failure),
        };
        let number = match published {
            Ok(number) => number,
            Err(failure) => {
                // A file that goes while it is read is one of a change that is not over.
                self.wait(SETTLE);
                if self.waiting.changed.is_some() {
                    return self.again(changed, inputs);
                }
                self.screen.failure(&failure);
                self.switch(Serving::Broken(Arc::new(failure)));
                return self.show(deployment);
            }
        };
        // The same content again may be the version that was on its way out.
        let version = match self.leaving.iter().position(|version| version.number == number) {
            Some(place) => self.leaving.remove(place),
            None => Arc::new(Version::new(number)),
        };
        let readiness = loop {
            match deployment.readiness(&version.number) {
                Ok(Readiness::Pending) => self.wait(LOOK),
                Ok(known) => break known,
                Err(failure) => {
                    self.screen.failure(&failure);
                    break Readiness::Unknown;
                }
            }
            if self.is_interrupted() {
                // What has changed again meanwhile comes first; nobody has seen this version.
                self.leaving.push(version);
                return self.again(changed, inputs);
            }
        };
        version.set_warm(readiness == Readiness::Ready);
        self.switch(Serving::Version(version.clone()));
        if self.is_shown {
            self.screen.reloaded(
                &version.number,
                changed.since.elapsed(),
                readiness == Readiness::Ready,
            );
        }
        match &readiness {
            Readiness::Failed(reason) => {
                self.screen.failed_init(reason, &deployment.diagnosis(&version.number));
            }
            Readiness::Cold(why) => self.screen.cold(why),
            Readiness::Ready | Readiness::Pending | Readiness::Unknown => {}
        }
        self.show(deployment);
        self.send_event(version);
    }

    /// Leaves what is half done to the next round.
    fn again(&mut self, changed: &Changed, inputs: &mut Inputs) {
        let waiting = self.waiting.changed.get_or_insert_with(|| changed.clone());
        waiting.which.extend(changed.which.iter().copied());
        inputs.forget();
    }

    fn switch(&mut self, to: Serving) {
        let was = self.relay.switch(to);
        if let Serving::Version(version) = was {
            self.leaving.push(version);
        }
    }

    fn show(&mut self, deployment: &Deployment) {
        if !std::mem::replace(&mut self.is_shown, true) {
            self.screen.ready(&self.url, deployment.name(), &self.endpoint, self.event.is_some());
        }
    }

    /// Versions whose last request is answered go.
    fn tidy(&mut self, deployment: &Deployment) {
        self.leaving.retain(|version| {
            let is_idle = Arc::strong_count(version) == 1;
            if is_idle {
                deployment.delete_version(&version.number);
            }
            !is_idle
        });
    }

    fn typed(&mut self, line: &str) {
        match line.trim() {
            "q" | "quit" | "exit" => self.waiting.stop = true,
            "" if self.event.is_some() => {
                if let Some(version) = self.relay.version() {
                    self.send_event(version);
                }
            }
            "" => output::talk(&format!("serving {}", self.url)),
            _ => output::hint("Enter sends the event of --event again, q ends"),
        }
    }

    /// Behind this thread's back: a slow function must not hold up the next change.
    fn send_event(&self, version: Arc<Version>) {
        if let Some(event) = self.event.clone() {
            let (relay, lines) = (self.relay.clone(), self.lines.sender());
            std::thread::spawn(move || relay.send(&version, &event, &lines));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_names_files_or_json() {
        assert_eq!(read_event("hello-world").expect("a sample")["key1"], "value1");
        assert_eq!(read_event("{\"a\":1}").expect("JSON")["a"], 1);
        assert_eq!(read_event("true").expect("JSON"), true);
        assert_eq!(read_event("17").expect("JSON"), 17);
        for text in ["no-such-event", "{a}", "", "@/nonexistent"] {
            assert!(read_event(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_that_is_asked_for_is_that_port() {
        let taken = listen(Some(0)).expect("a port");
        let port = taken.local_addr().expect("address").port();
        let failure = listen(Some(port)).expect_err("taken");
        assert_eq!(failure.exit(), Exit::Failed);
    }
}
