//! The extensions of one execution environment (behaviour specification §2): who they are, what
//! each of them waits for, and which of its calls are allowed.
//!
//! ```text
//!             register             event/next            event
//!   Started ───────────► Registered ─────────► Ready ───────────► Running
//!      │                     │ │                ▲ │                │ │
//!      │ cannot start        │ │ init/error     │ │     event/next │ │ exit/error
//!      ▼                     │ └──► InitError   └─┼────────────────┘ │
//!   LaunchError              └────────────────────┴──► ExitError ◄───┘
//!
//!   the process ends: any state but the three errors ──► Exited
//! ```

mod refusal;
mod request;

pub use refusal::ExtensionRefusal;
pub use request::Registration;

use crate::machine::Ticket;
use lambfold_types::RequestId;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Most extensions of one environment, internal ones included.
pub const EXTENSIONS: usize = 10;

/// Where an extension stands; the names are AWS's and appear in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtensionState {
    /// Its process was started.
    Started,
    /// It has registered.
    Registered,
    /// It waits for an event.
    Ready,
    /// It has an event.
    Running,
    /// It said that its init failed.
    InitError,
    /// It said that it has to exit.
    ExitError,
    /// It could not be started.
    LaunchError,
    /// Its process has ended.
    Exited,
}

impl fmt::Display for ExtensionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What extensions can ask to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Events {
    /// `INVOKE`
    pub invoke: bool,
    /// `SHUTDOWN`; external extensions only.
    pub shutdown: bool,
}

impl Events {
    /// Their names.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match (self.invoke, self.shutdown) {
            (true, true) => &["INVOKE", "SHUTDOWN"],
            (true, false) => &["INVOKE"],
            (false, true) => &["SHUTDOWN"],
            (false, false) => &[],
        }
    }
}

/// Why an environment is shut down or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownReason {
    /// Nobody needs it any more.
    Spindown,
    /// Its time was over.
    Timeout,
    /// Something in it failed.
    Failure,
}

/// What an extension is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "eventType", rename_all_fields = "camelCase")]
pub enum ExtensionEvent {
    /// An invocation begins.
    #[serde(rename = "INVOKE")]
    Invoke {
        /// When the function's time is over, milliseconds since the Unix epoch.
        deadline_ms: u64,
        /// Of the invocation.
        #[serde(serialize_with = "display")]
        request_id: RequestId,
        /// As the function was called.
        #[serde(serialize_with = "display")]
        invoked_function_arn: Arc<str>,
        /// Present when the invocation is traced.
        #[serde(skip_serializing_if = "Option::is_none")]
        tracing: Option<Tracing>,
    },
    /// The environment ends.
    #[serde(rename = "SHUTDOWN")]
    Shutdown {
        /// When every process is killed, milliseconds since the Unix epoch.
        deadline_ms: u64,
        /// Why.
        shutdown_reason: ShutdownReason,
    },
}

fn display<S: serde::Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A trace header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tracing {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "display")]
    value: Arc<str>,
}

impl Tracing {
    /// Of the value of an `X-Amzn-Trace-Id` header.
    #[must_use]
    pub fn new(value: Arc<str>) -> Self {
        Self { kind: "X-Amzn-Trace-Id", value }
    }
}

/// What an `event/next` that waited is told.
pub type ExtensionDelivery = Result<Arc<ExtensionEvent>, ExtensionRefusal>;

/// What `event/next` gets; `P` is whatever wakes one that waits.
#[derive(Debug)]
pub enum ExtensionNext {
    /// It waits.
    Parked(Ticket),
    /// It has an event at once.
    Event(Arc<ExtensionEvent>),
}

/// Which of its errors an extension reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtensionError {
    /// `init/error`
    Init,
    /// `exit/error`
    Exit,
}

/// An extension as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionInfo {
    /// Its name.
    pub name: Arc<str>,
    /// A process of its own, or a part of the runtime's.
    pub external: bool,
    /// Where it stands.
    pub state: ExtensionState,
    /// What it is told of.
    pub events: Events,
    /// What it reported, or the platform's own name for what became of it.
    pub error_type: Option<Box<str>>,
}

#[derive(Debug)]
struct Extension<P> {
    info: ExtensionInfo,
    id: Option<Uuid>,
    parked: Option<(Ticket, P)>,
    /// Given with its next `event/next`: it was busy, or its connection had broken.
    pending: Option<Arc<ExtensionEvent>>,
    /// The `event/next` that was woken last, and what it was given.
    held: Option<(Ticket, Arc<ExtensionEvent>)>,
}

impl<P> Extension<P> {
    fn alive(&self) -> bool {
        use ExtensionState::{Ready, Registered, Running, Started};
        matches!(self.info.state, Started | Registered | Ready | Running)
    }

    fn give(&mut self, event: &Arc<ExtensionEvent>) -> Option<P> {
        if let Some((ticket, parked)) = self.parked.take() {
            self.info.state = ExtensionState::Running;
            self.held = Some((ticket, Arc::clone(event)));
            return Some(parked);
        }
        self.pending = Some(Arc::clone(event));
        None
    }

    fn refuse(&self, to: ExtensionState) -> ExtensionRefusal {
        ExtensionRefusal::Transition {
            from: self.info.state,
            to,
            extension: self.id.map_or_else(|| self.info.name.to_string(), |id| id.to_string()),
        }
    }
}

/// The extensions of one set of processes after another. Sans-IO: calls in, effects out.
#[derive(Debug)]
pub struct Extensions<P> {
    list: Vec<Extension<P>>,
    /// Internal extensions may register.
    open: bool,
    tickets: u64,
}

impl<P> Default for Extensions<P> {
    fn default() -> Self {
        Self { list: Vec::new(), open: true, tickets: 0 }
    }
}

impl<P> Extensions<P> {
    /// No extension yet; internal ones may register.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True when none is known, as for most functions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Every extension, external ones first.
    pub fn iter(&self) -> impl Iterator<Item = &ExtensionInfo> {
        self.list.iter().map(|extension| &extension.info)
    }

    /// The processes of these external extensions are being started.
    pub fn launch<'a>(&mut self, names: impl IntoIterator<Item = &'a Arc<str>>) {
        self.list.extend(names.into_iter().map(|name| Extension {
            info: ExtensionInfo {
                name: Arc::clone(name),
                external: true,
                state: ExtensionState::Started,
                events: Events::default(),
                error_type: None,
            },
            id: None,
            parked: None,
            pending: None,
            held: None,
        }));
    }

    /// An external extension could not be started.
    pub fn launch_failed(&mut self, name: &str, error_type: &str) {
        if let Some(extension) = self.external(name) {
            extension.info.state = ExtensionState::LaunchError;
            extension.info.error_type = Some(error_type.into());
        }
    }

    fn external(&mut self, name: &str) -> Option<&mut Extension<P>> {
        self.list.iter_mut().find(|e| e.info.external && &*e.info.name == name)
    }

    /// `register`; `id` is what it is to be known by.
    ///
    /// # Errors
    /// [`ExtensionRefusal`], as §2.3 has it.
    pub fn register(
        &mut self,
        registration: &Registration,
        id: Uuid,
    ) -> Result<Uuid, ExtensionRefusal> {
        if let Some(extension) = self.external(&registration.name) {
            let events = registration.events(true)?;
            if extension.info.state != ExtensionState::Started {
                // Named by its name: it does not know its identifier yet.
                return Err(ExtensionRefusal::Transition {
                    from: extension.info.state,
                    to: ExtensionState::Registered,
                    extension: registration.name.to_string(),
                });
            }
            extension.info.state = ExtensionState::Registered;
            extension.info.events = events;
            extension.id = Some(id);
            return Ok(id);
        }
        if !self.open {
            return Err(ExtensionRefusal::RegistrationClosed);
        }
        if self.list.iter().any(|e| e.info.name == registration.name) {
            return Err(ExtensionRefusal::NameTaken);
        }
        if self.list.len() >= EXTENSIONS {
            return Err(ExtensionRefusal::TooMany);
        }
        let events = registration.events(false)?;
        self.list.push(Extension {
            info: ExtensionInfo {
                name: Arc::clone(&registration.name),
                external: false,
                state: ExtensionState::Registered,
                events,
                error_type: None,
            },
            id: Some(id),
            parked: None,
            pending: None,
            held: None,
        });
        Ok(id)
    }

    /// The runtime asked for its first event: no internal extension can come any more.
    pub fn close(&mut self) {
        self.open = false;
    }

    fn by_id(&mut self, id: Uuid) -> Option<&mut Extension<P>> {
        self.list.iter_mut().find(|extension| extension.id == Some(id))
    }

    /// The name of the extension that is known by this identifier.
    #[must_use]
    pub fn name(&self, id: Uuid) -> Option<&Arc<str>> {
        self.list.iter().find(|e| e.id == Some(id)).map(|e| &e.info.name)
    }

    /// `event/next`; `park` makes the waker when it must wait.
    ///
    /// # Errors
    /// [`ExtensionRefusal::UnknownToNext`] or [`ExtensionRefusal::Transition`].
    pub fn next(
        &mut self,
        id: Uuid,
        park: impl FnOnce() -> P,
    ) -> Result<ExtensionNext, ExtensionRefusal> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let extension = self.by_id(id).ok_or(ExtensionRefusal::UnknownToNext(id))?;
        match extension.info.state {
            ExtensionState::Registered | ExtensionState::Running => {}
            // Its connection broke, or what it was given never arrived.
            ExtensionState::Ready if extension.parked.is_none() => {}
            _ => return Err(extension.refuse(ExtensionState::Ready)),
        }
        extension.held = None;
        if let Some(event) = extension.pending.take() {
            extension.info.state = ExtensionState::Running;
            return Ok(ExtensionNext::Event(event));
        }
        extension.info.state = ExtensionState::Ready;
        extension.parked = Some((ticket, park()));
        Ok(ExtensionNext::Parked(ticket))
    }

    /// An `event/next` that waited is gone. If it was given an event and could not pass it on, the
    /// next one gets it.
    pub fn abandon(&mut self, id: Uuid, ticket: Ticket) {
        let Some(extension) = self.by_id(id) else { return };
        if extension.parked.as_ref().is_some_and(|(parked, _)| *parked == ticket) {
            extension.parked = None;
        } else if extension.info.state == ExtensionState::Running
            && let Some((_, event)) = extension.held.take_if(|(held, _)| *held == ticket)
        {
            extension.info.state = ExtensionState::Ready;
            extension.pending = extension.pending.take().or(Some(event));
        }
    }

    /// `init/error` or `exit/error`. True for the first report of this extension; repeats change
    /// nothing.
    ///
    /// # Errors
    /// [`ExtensionRefusal::UnknownIdentifier`] or [`ExtensionRefusal::Transition`].
    pub fn error(
        &mut self,
        id: Uuid,
        error: ExtensionError,
        error_type: &str,
    ) -> Result<bool, ExtensionRefusal> {
        use ExtensionState::{ExitError, InitError, Ready, Registered, Running};
        let extension = self.by_id(id).ok_or(ExtensionRefusal::UnknownIdentifier)?;
        let to = match error {
            ExtensionError::Init => InitError,
            ExtensionError::Exit => ExitError,
        };
        match (extension.info.state, to) {
            (from, to) if from == to => return Ok(false),
            (Registered, _) | (Ready | Running, ExitError) => {}
            _ => return Err(extension.refuse(to)),
        }
        extension.info.state = to;
        extension.info.error_type = Some(error_type.into());
        Ok(true)
    }

    /// The process of an external extension has ended. What it announced stays.
    pub fn exited(&mut self, name: &str) {
        if let Some(extension) = self.external(name)
            && extension.alive()
        {
            extension.info.state = ExtensionState::Exited;
        }
    }

    /// Every external extension has registered: the runtime may start.
    #[must_use]
    pub fn all_registered(&self) -> bool {
        self.list.iter().all(|extension| extension.id.is_some())
    }

    /// Every extension waits for an event: from their side, init is over.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.list.iter().all(|extension| extension.info.state == ExtensionState::Ready)
    }

    /// Every extension that was told of the invocation waits again.
    #[must_use]
    pub fn invoke_done(&self) -> bool {
        self.list
            .iter()
            .filter(|e| e.info.events.invoke)
            .all(|e| e.info.state == ExtensionState::Ready && e.pending.is_none())
    }

    /// Tells every extension that asked for it; returns those that wait.
    pub fn invoke(&mut self, event: &Arc<ExtensionEvent>) -> Vec<P> {
        self.list
            .iter_mut()
            .filter(|e| e.info.events.invoke && e.alive())
            .filter_map(|extension| extension.give(event))
            .collect()
    }

    /// Tells one external extension that it ends, if it asked for that and can be told. The event
    /// takes the place of any other that it has not got. `None`: it is not told.
    pub fn shutdown(&mut self, name: &str, event: &Arc<ExtensionEvent>) -> Option<Option<P>> {
        let extension = self.external(name)?;
        let told = extension.info.events.shutdown && extension.alive() && extension.id.is_some();
        told.then(|| extension.give(event))
    }

    /// The processes are replaced: forgets every extension. Who waited is to be told.
    #[must_use = "who waited must be told"]
    pub fn reset(&mut self) -> Vec<P> {
        self.open = true;
        let parked = self.list.drain(..).filter_map(|extension| extension.parked);
        parked.map(|(_, parked)| parked).collect()
    }
}

#[cfg(test)]
mod tests;
