//! The runtime's state machine (behaviour specification §1.3).
//!
//! ```text
//!                     next                   event
//!   Started ───────────────────► Ready ─────────────────► Running ◄─┐ next: the same event
//!      │                           ▲                      │  │  └───┘
//!      │ init/error           next │             response │  │ error
//!      ▼                           │                      ▼  ▼
//!   InitError        RuntimeResponseSentState ◄── InvocationResponse, InvocationErrorResponse
//!
//!   reset: any state ──► Started, generation + 1
//! ```

use crate::event::Event;
use crate::refusal::Refusal;
use lambfold_types::{RequestId, ResponseSink};
use std::fmt;
use std::sync::Arc;

/// Where the runtime stands; the names are AWS's and appear in messages.
///
/// The states of SnapStart (`RestoreReady`, `Restoring`, `RuntimeRestoreErrorState`) come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The process runs and has not asked for anything.
    Started,
    /// It said that its init failed.
    InitError,
    /// It waits for an event.
    Ready,
    /// It has an event.
    Running,
    /// Its response is being read.
    InvocationResponse,
    /// Its error is being read.
    InvocationErrorResponse,
    /// Its answer is complete.
    RuntimeResponseSentState,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Names a `next` that waits; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// How an invocation is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Post {
    /// `…/response`
    Response,
    /// `…/error`
    Error,
}

/// A post that was let in; fenced by the generation in which it began.
#[derive(Debug)]
pub struct Posting {
    generation: u64,
    to: State,
    sink: Option<Arc<dyn ResponseSink>>,
}

impl Posting {
    /// True for a post to `init/error`.
    #[must_use]
    pub fn is_init_error(&self) -> bool {
        self.to == State::InitError
    }

    /// Where the response goes if it is streamed; `None`: it is collected.
    #[must_use]
    pub fn sink(&self) -> Option<Arc<dyn ResponseSink>> {
        self.sink.clone()
    }
}

/// What `next` gets; `P` is whatever wakes a `next` that waits.
#[derive(Debug)]
pub enum Next {
    /// It waits.
    Parked {
        /// Its name.
        ticket: Ticket,
        /// The state before: `Started` means that init is over, `RuntimeResponseSentState` that
        /// the invoke phase is.
        was: State,
    },
    /// It has an event at once.
    Event(Arc<Event>),
    /// It may not.
    Refused(Refusal),
}

/// An event for a `next` that waited.
#[derive(Debug)]
pub struct Handover<P> {
    /// Who waited.
    pub parked: P,
    /// What it gets.
    pub event: Arc<Event>,
}

/// An event was given to a runtime that is not idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the runtime takes no event in state {0}")]
pub struct NotReady(pub State);

/// The state machine of one runtime process after another. Sans-IO: calls in, effects out.
#[derive(Debug)]
pub struct Machine<P> {
    state: State,
    generation: u64,
    /// Outlives its event, so that a second answer is told apart from a stranger's id.
    current: Option<RequestId>,
    /// Present until the runtime begins to answer.
    event: Option<Arc<Event>>,
    /// The `next` that was woken last with the event.
    holder: Option<Ticket>,
    /// The newest is served first: older ones may be dead without our knowing.
    parked: Vec<(Ticket, P)>,
    tickets: u64,
}

impl<P> Default for Machine<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Machine<P> {
    /// A runtime that has just been started.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Started,
            generation: 0,
            current: None,
            event: None,
            holder: None,
            parked: Vec::new(),
            tickets: 0,
        }
    }

    /// Where the runtime stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How many `next` wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.parked.len()
    }

    /// `invocation/next`; `park` makes the waker when it must wait.
    pub fn next(&mut self, park: impl FnOnce() -> P) -> Next {
        match (self.state, &self.event) {
            (State::Ready | State::Running, Some(event)) => {
                let event = Arc::clone(event);
                self.state = State::Running;
                self.holder = None;
                Next::Event(event)
            }
            (State::Started | State::Ready | State::RuntimeResponseSentState, _) => {
                let was = std::mem::replace(&mut self.state, State::Ready);
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.parked.push((ticket, park()));
                Next::Parked { ticket, was }
            }
            (from, _) => Next::Refused(Refusal::Transition { from, to: State::Ready }),
        }
    }

    /// A `next` is gone. If it held the event and could not pass it on, another that waits gets
    /// it; if none waits, the next one that comes does.
    pub fn abandon(&mut self, ticket: Ticket) -> Option<Handover<P>> {
        self.parked.retain(|(parked, _)| *parked != ticket);
        if self.state == State::Running && self.holder == Some(ticket) {
            self.hand_over()
        } else {
            None
        }
    }

    /// Gives the runtime an event. `None`: nobody waits at this moment (its connection broke);
    /// the next `next` gets it.
    ///
    /// # Errors
    /// The runtime is not idle.
    pub fn invoke(&mut self, event: Event) -> Result<Option<Handover<P>>, NotReady> {
        if self.state != State::Ready || self.event.is_some() {
            return Err(NotReady(self.state));
        }
        self.current = Some(event.invocation.request_id);
        self.event = Some(Arc::new(event));
        Ok(self.hand_over())
    }

    fn hand_over(&mut self) -> Option<Handover<P>> {
        let event = self.event.as_ref()?;
        let (ticket, parked) = self.parked.pop()?;
        self.state = State::Running;
        self.holder = Some(ticket);
        Some(Handover { parked, event: Arc::clone(event) })
    }

    /// `invocation/{id}/response` or `…/error` begins: the id is checked before the state.
    ///
    /// # Errors
    /// [`Refusal::InvalidRequestId`] or [`Refusal::Transition`].
    pub fn post(&mut self, id: &str, post: Post) -> Result<Posting, Refusal> {
        let is_current = self.current.is_some_and(|current| {
            let mut text = [0; 36];
            &*current.0.as_hyphenated().encode_lower(&mut text) == id
        });
        if !is_current {
            return Err(Refusal::InvalidRequestId);
        }
        let to = match post {
            Post::Response => State::InvocationResponse,
            Post::Error => State::InvocationErrorResponse,
        };
        if self.state != State::Running {
            return Err(Refusal::Transition { from: self.state, to });
        }
        self.state = to;
        let sink = self.event.take().and_then(|event| event.invocation.sink.clone());
        self.holder = None;
        Ok(Posting { generation: self.generation, to, sink })
    }

    /// `init/error` begins.
    ///
    /// # Errors
    /// [`Refusal::Transition`].
    pub fn init_error(&mut self) -> Result<Posting, Refusal> {
        if self.state != State::Started {
            return Err(Refusal::Transition { from: self.state, to: State::InitError });
        }
        self.state = State::InitError;
        Ok(Posting { generation: self.generation, to: State::InitError, sink: None })
    }

    /// Whether a post still means anything.
    ///
    /// # Errors
    /// [`Refusal::Concurrent`] after a reset.
    pub fn check(&self, posting: &Posting) -> Result<(), Refusal> {
        if posting.generation == self.generation {
            Ok(())
        } else {
            Err(Refusal::Concurrent { from: self.state, to: posting.to })
        }
    }

    /// A post was read to its end (or to the limit); the runtime may ask for the next event. The
    /// state after `init/error` stays.
    ///
    /// # Errors
    /// [`Refusal::Concurrent`] after a reset.
    pub fn sent(&mut self, posting: &Posting) -> Result<(), Refusal> {
        self.check(posting)?;
        if !posting.is_init_error() {
            self.state = State::RuntimeResponseSentState;
        }
        Ok(())
    }

    /// The process is replaced: everything that the old one began is void. Who waited is to be
    /// told the refusal.
    #[must_use = "who waited must be told"]
    pub fn reset(&mut self) -> (Vec<P>, Refusal) {
        self.generation += 1;
        self.state = State::Started;
        self.current = None;
        self.event = None;
        self.holder = None;
        let parked = self.parked.drain(..).map(|(_, parked)| parked).collect();
        (parked, Refusal::Concurrent { from: State::Started, to: State::Ready })
    }
}

#[cfg(test)]
mod tests;
