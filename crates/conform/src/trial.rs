//! One case against one freshly started bootstrap: the helpers that cases are written with.
//!
//! The host here is lenient: it understands what is nearly right and goes on, so that a mistake
//! fails the case that asks for it and no other.

use crate::answer::{After, Answer, Segment};
use crate::guest::{End, Guest};
use crate::host::{ConnectionId, Host, Incoming};
use crate::run::{Settings, Shared};
use crate::wire::Head;
use lambfold_sandbox::ExitStatus;
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most requests that are remembered.
const HEADS: usize = 100;

/// Why a case ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is not so; a sentence says what was seen.
    Fail(String),
    /// The question does not arise.
    NotApplicable(String),
    /// The kit could not ask.
    Broken(String),
}

/// A step of a case.
pub(crate) type Step<T> = Result<T, Stop>;

pub(crate) fn fail<T>(what: impl Into<String>) -> Step<T> {
    Err(Stop::Fail(what.into()))
}

pub(crate) fn not_applicable<T>(why: impl Into<String>) -> Step<T> {
    Err(Stop::NotApplicable(why.into()))
}

/// Which call of the Runtime API a request is, leniently read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Next,
    Response(String),
    Error(String),
    InitError,
    Other,
}

fn call_of(head: &Head) -> Call {
    let path = head.target.split('?').next().unwrap_or_default().trim_end_matches('/');
    let Some(path) = path.strip_prefix("/2018-06-01/runtime/") else { return Call::Other };
    match path.split('/').collect::<Vec<_>>()[..] {
        ["invocation", "next"] => Call::Next,
        ["invocation", id, "response"] => Call::Response(id.to_owned()),
        ["invocation", id, "error"] => Call::Error(id.to_owned()),
        ["init", "error"] => Call::InitError,
        _ => Call::Other,
    }
}

/// An event and how it is put on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) answer: Answer,
}

/// What the host says in every event, beyond its id.
pub(crate) const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:conform";
pub(crate) const TRACE: &str =
    "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0";

impl Event {
    pub(crate) fn new(body: &[u8]) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        let deadline = epoch_ms() + 30_000;
        let headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", &id),
            ("Lambda-Runtime-Deadline-Ms", &deadline.to_string()),
            ("Lambda-Runtime-Invoked-Function-Arn", ARN),
            ("Lambda-Runtime-Trace-Id", TRACE),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = Answer::new(200, headers.to_vec(), body);
        Self { id, answer }
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::new(value.to_string().as_bytes())
    }

    /// With a header set, or without it where there is no value.
    pub(crate) fn header(mut self, name: &str, value: Option<&str>) -> Self {
        self.answer.headers.retain(|(given, _)| !given.eq_ignore_ascii_case(name));
        if let Some(value) = value {
            self.answer.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn id(mut self, id: &str) -> Self {
        self = self.header("Lambda-Runtime-Aws-Request-Id", Some(id));
        self.id = id.to_owned();
        self
    }

    pub(crate) fn wire(mut self, change: impl FnOnce(&mut Answer)) -> Self {
        change(&mut self.answer);
        self
    }
}

pub(crate) fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a bootstrap made of an event.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) incoming: Incoming,
    pub(crate) id: String,
    pub(crate) is_error: bool,
}

impl Outcome {
    pub(crate) fn body(&self) -> &[u8] {
        &self.incoming.request.body
    }

    pub(crate) fn head(&self) -> &Head {
        &self.incoming.request.head
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body()).ok()
    }

    /// Its beginning, for people.
    pub(crate) fn shown(&self) -> String {
        shown(self.body())
    }
}

/// The beginning of some bytes, for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 120;
    let text: String = String::from_utf8_lossy(bytes).chars().take(SHOWN).collect();
    let more = if bytes.len() > text.len() { "…" } else { "" };
    format!("{} bytes: {text:?}{more}", bytes.len())
}

/// A case in progress.
pub(crate) struct Trial<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) shared: &'a Shared,
    pub(crate) host: Host,
    pub(crate) guest: Guest,
    /// The first requests, oldest first.
    pub(crate) heads: Vec<(Call, Head)>,
    /// `next` calls without an answer.
    waiting: VecDeque<Incoming>,
    /// Posts that nobody has answered.
    posts: VecDeque<(Call, Incoming)>,
    /// Events that were given and not answered.
    outstanding: Vec<(Event, ConnectionId)>,
    /// In lower case.
    answered: HashSet<String>,
    /// Posts for events that had been answered.
    pub(crate) repeated: Vec<Call>,
    /// `next` calls that came before the event was answered.
    pub(crate) early_next: usize,
    /// Whether several events may be under way.
    pub(crate) concurrent: bool,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        shared: &'a Shared,
        host: Host,
        guest: Guest,
    ) -> Self {
        Self {
            settings,
            shared,
            host,
            guest,
            heads: Vec::new(),
            waiting: VecDeque::new(),
            posts: VecDeque::new(),
            outstanding: Vec::new(),
            answered: HashSet::new(),
            repeated: Vec::new(),
            early_next: 0,
            concurrent: false,
        }
    }

    /// Lets everybody do what they can until something happens, at most until `until`.
    pub(crate) fn turn(&mut self, until: Instant) -> Step<()> {
        let happened = self.host.turn(&self.guest.descriptors(), until);
        let happened = happened.map_err(|error| Stop::Broken(format!("poll: {error}")))?;
        if happened {
            self.guest.pump();
        }
        while let Some(incoming) = self.host.arrived.pop_front() {
            self.sort(incoming);
        }
        Ok(())
    }

    fn sort(&mut self, incoming: Incoming) {
        let call = call_of(&incoming.request.head);
        if self.heads.len() < HEADS {
            self.heads.push((call.clone(), incoming.request.head.clone()));
        }
        match &call {
            Call::Next if !self.concurrent && !self.outstanding.is_empty() => {
                // The service gives the same event again.
                self.early_next += 1;
                if let Some((event, _)) = self.outstanding.last() {
                    let segments = event.answer.segments();
                    self.host.send(incoming.connection, segments);
                }
            }
            Call::Next => self.waiting.push_back(incoming),
            Call::Response(id) | Call::Error(id) if self.was_answered(id) => {
                self.repeated.push(call);
                self.reply(
                    incoming.connection,
                    &Answer::refused(400, "InvalidRequestID", "Invalid request ID"),
                );
            }
            Call::Response(_) | Call::Error(_) | Call::InitError => {
                self.posts.push_back((call, incoming));
            }
            Call::Other => {
                let path = incoming.request.head.target.clone();
                self.reply(incoming.connection, &Answer::refused(404, "NotFound", &path));
            }
        }
    }

    fn was_answered(&self, id: &str) -> bool {
        self.answered.contains(&id.to_ascii_lowercase())
    }

    pub(crate) fn reply(&mut self, connection: ConnectionId, answer: &Answer) {
        self.host.send(connection, answer.segments());
    }

    /// Waits until `look` finds something, at most as long as the settings allow for anything.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Step<T> {
        self.wait_for(what, self.settings.patience, look)
    }

    /// Waits until `look` finds something. Fails when the bootstrap ends before.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Step<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(why) = &self.host.malformed {
                return fail(format!("it sent what is no HTTP request: {why}"));
            }
            if let Some(end) = self.guest.end.clone() {
                // What it said before it ended may still be in the sockets.
                let now = Instant::now();
                self.turn(now)?;
                return match look(self) {
                    Some(found) => Ok(found),
                    None => fail(format!("{} before {what}{}", ended(&end), self.last_output())),
                };
            }
            let now = Instant::now();
            if now >= deadline {
                let seconds = patience.as_secs_f32();
                return fail(format!(
                    "waited {seconds:.1} s in vain for {what}{}",
                    self.last_output()
                ));
            }
            self.turn(deadline)?;
        }
    }

    /// Lets time pass, and everybody do what they can.
    pub(crate) fn pass(&mut self, time: Duration) -> Step<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && self.guest.end.is_none() {
            self.turn(deadline)?;
        }
        Ok(())
    }

    fn last_output(&self) -> String {
        let text = String::from_utf8_lossy(&self.guest.output);
        let last: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        match last.last() {
            Some(line) => {
                format!("; its last output: {}", line.chars().take(300).collect::<String>())
            }
            None => String::new(),
        }
    }

    /// Whether this is in the bootstrap's output.
    pub(crate) fn printed(&self, text: &[u8]) -> bool {
        self.guest.output.windows(text.len()).any(|window| window == text)
    }

    /// A `next` that somebody waits for.
    pub(crate) fn next(&mut self) -> Step<ConnectionId> {
        self.wait("the bootstrap to ask for the next event", Self::open_next)
    }

    pub(crate) fn open_next(&mut self) -> Option<ConnectionId> {
        while let Some(incoming) = self.waiting.pop_front() {
            if self.host.is_open(incoming.connection) {
                return Some(incoming.connection);
            }
        }
        None
    }

    /// `next` calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().filter(|incoming| self.host.is_open(incoming.connection)).count()
    }

    /// Answers a `next` with an event.
    pub(crate) fn give_to(&mut self, connection: ConnectionId, event: Event) {
        self.reply(connection, &event.answer);
        self.outstanding.push((event, connection));
    }

    /// Waits for a `next` and answers it with an event.
    pub(crate) fn give(&mut self, event: Event) -> Step<()> {
        let connection = self.next()?;
        self.give_to(connection, event);
        Ok(())
    }

    /// What became of the event; to be answered by [`Trial::accept`] or a [`Trial::refuse`].
    pub(crate) fn outcome(&mut self) -> Step<Outcome> {
        self.wait("the response", Self::posted)
    }

    pub(crate) fn posted(&mut self) -> Option<Outcome> {
        let at = self.posts.iter().position(|(call, _)| *call != Call::InitError)?;
        let (call, incoming) = self.posts.remove(at)?;
        match call {
            Call::Response(id) => Some(Outcome { incoming, id, is_error: false }),
            Call::Error(id) => Some(Outcome { incoming, id, is_error: true }),
            _ => None,
        }
    }

    /// A post to `init/error` that nobody has answered.
    pub(crate) fn init_error(&mut self) -> Option<Incoming> {
        let at = self.posts.iter().position(|(call, _)| *call == Call::InitError)?;
        self.posts.remove(at).map(|(_, incoming)| incoming)
    }

    pub(crate) fn accept(&mut self, outcome: &Outcome) {
        self.conclude(outcome, &Answer::accepted());
    }

    /// Answers a post; the event is done with.
    pub(crate) fn conclude(&mut self, outcome: &Outcome, answer: &Answer) {
        self.forget(&outcome.id);
        self.reply(outcome.incoming.connection, answer);
    }

    /// The event of this id is done with, whatever is posted for it.
    pub(crate) fn forget(&mut self, id: &str) {
        let before = self.outstanding.len();
        self.outstanding.retain(|(event, _)| !event.id.eq_ignore_ascii_case(id));
        if self.outstanding.len() == before {
            // A wrong id: in most cases of no interest, and there is only one event it can mean.
            self.outstanding.clear();
        }
        self.answered.insert(id.to_ascii_lowercase());
    }

    /// Resets the connection that an event went to, or a `next` waits on.
    pub(crate) fn reset(&mut self, connection: ConnectionId) {
        self.host.send(connection, vec![Segment::Reset]);
    }

    /// Gives an event and accepts what comes of it.
    pub(crate) fn exchange(&mut self, event: Event) -> Step<Outcome> {
        let id = event.id.clone();
        self.give(event)?;
        let outcome = self.outcome()?;
        self.accept(&outcome);
        if !outcome.id.eq_ignore_ascii_case(&id) {
            return fail(format!(
                "the answer is for the id {:?}, the event had {id:?}",
                outcome.id
            ));
        }
        Ok(outcome)
    }

    /// Gives an event and expects it back.
    pub(crate) fn echo(&mut self, event: Event) -> Step<Outcome> {
        let body = event.answer.body.clone();
        let outcome = self.exchange(event)?;
        same(&outcome, &body)?;
        Ok(outcome)
    }

    /// The bootstrap still serves events.
    pub(crate) fn lives_on(&mut self, after: &str) -> Step<()> {
        let event = Event::json(&serde_json::json!({ "after": after }));
        self.echo(event).map(|_| ()).map_err(|stop| match stop {
            Stop::Fail(what) => Stop::Fail(format!("after {after}: {what}")),
            other => other,
        })
    }

    /// Asks the function for something beyond an echo. Not applicable where it only sends the
    /// event back.
    pub(crate) fn word(&mut self, event: Event) -> Step<Outcome> {
        let sent: Option<Value> = serde_json::from_slice(&event.answer.body).ok();
        self.give(event)?;
        let outcome = self.outcome()?;
        if !outcome.is_error && outcome.json() == sent {
            self.accept(&outcome);
            let word = sent.and_then(|sent| sent["conform"].as_str().map(str::to_owned));
            return not_applicable(format!(
                "the function sends the event back: it does not know \"conform\": {:?}",
                word.unwrap_or_default()
            ));
        }
        Ok(outcome)
    }

    /// Waits for the bootstrap's end.
    pub(crate) fn end(&mut self, what: &str, patience: Duration) -> Step<ExitStatus> {
        let end = self.wait_for(what, patience, |trial| trial.guest.end.clone())?;
        match end {
            End::Exited(status) => Ok(status),
            End::NotStarted(why) => fail(why),
        }
    }
}

fn ended(end: &End) -> String {
    match end {
        End::Exited(ExitStatus::Code(code)) => format!("the bootstrap exited with {code}"),
        End::Exited(ExitStatus::Signal(signal)) => {
            format!("the bootstrap was ended by signal {signal}")
        }
        End::NotStarted(why) => why.clone(),
    }
}

/// The response is the event, byte by byte or as JSON.
pub(crate) fn same(outcome: &Outcome, body: &[u8]) -> Step<()> {
    if outcome.is_error {
        return fail(format!("the event was answered by an error of {}", outcome.shown()));
    }
    if outcome.body() == body {
        return Ok(());
    }
    let sent: Option<Value> = serde_json::from_slice(body).ok();
    if sent.is_some() && outcome.json() == sent {
        return Ok(());
    }
    fail(format!("an event of {} came back as {}", shown(body), outcome.shown()))
}

/// An event answer that closes its connection without a word.
pub(crate) fn dropped(mut answer: Answer) -> Answer {
    answer.after = After::Dropped;
    answer
}
