//! What extensions ask for.

use super::Core;
use crate::context::Context;
use crate::fault::Fault;
use crate::phase::{Effects, Phase, StopStep};
use lambfold_logs::PlatformEvent;
use lambfold_runtime_api::{
    Event, ExtensionError, ExtensionEvent, ExtensionNext, ExtensionRefusal, ExtensionReply, Outlet,
    Registered, Registration, SubscribeError, Subscription, SubscriptionRefusal, TelemetryApi,
    Ticket, Tracing,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// How long an extension that reported an error may take to exit.
const EXIT_LIMIT: Duration = Duration::from_millis(500);

impl Core {
    /// Nothing of old extensions counts while there are no new ones; those that are being shut
    /// down still count.
    fn has_extensions(&self) -> bool {
        match &self.stop {
            Some(stop) => stop.step != StopStep::Kill,
            None => self.has_runtime(),
        }
    }

    pub(crate) fn register(
        &mut self,
        ctx: &Context,
        registration: &Registration,
        fx: &mut Effects,
    ) -> Result<Registered, ExtensionRefusal> {
        if !self.has_extensions() || self.stop.is_some() {
            return Err(ExtensionRefusal::RegistrationClosed);
        }
        let id = self.extensions.register(registration, Uuid::new_v4())?;
        if !self.booted && self.extensions.all_registered() {
            self.start_runtime(ctx, fx);
        }
        let version = &ctx.version;
        let account = || version.scope.account.as_str().to_owned();
        Ok(Registered {
            id,
            function_name: version.name.as_str().to_owned(),
            function_version: version.version.to_string(),
            handler: version.handler.clone(),
            account_id: registration.wants_account.then(account),
        })
    }

    pub(crate) fn extension_next(
        &mut self,
        ctx: &Context,
        id: Uuid,
        fx: &mut Effects,
    ) -> ExtensionReply {
        if !self.has_extensions() {
            return ExtensionReply::Now(Err(ExtensionRefusal::Reset));
        }
        let (sender, receiver) = oneshot::channel();
        match self.extensions.next(id, || sender) {
            Err(refusal) => ExtensionReply::Now(Err(refusal)),
            Ok(ExtensionNext::Event(event)) => ExtensionReply::Now(Ok(event)),
            Ok(ExtensionNext::Parked(ticket)) => {
                self.try_finish_init(ctx, fx);
                self.try_finish_invoke(ctx, fx);
                ExtensionReply::Wait(ticket, receiver)
            }
        }
    }

    pub(crate) fn extension_abandon(&mut self, id: Uuid, ticket: Ticket) {
        self.extensions.abandon(id, ticket);
    }

    pub(super) fn tell_invoke(&mut self, event: &Event, fx: &mut Effects) {
        let invocation = &event.invocation;
        let trace = invocation.trace_id.clone().filter(|trace| !trace.is_empty());
        let told = Arc::new(ExtensionEvent::Invoke {
            deadline_ms: event.deadline_ms,
            request_id: invocation.request_id,
            invoked_function_arn: Arc::clone(&invocation.invoked_function_arn),
            tracing: trace.map(Tracing::new),
        });
        let waiting = self.extensions.invoke(&told);
        fx.tell.extend(waiting.into_iter().map(|parked| (parked, Ok(Arc::clone(&told)))));
    }

    /// The extension is given a moment to exit, so that its status can be told; an internal one
    /// would take the runtime with it.
    pub(crate) fn extension_error(
        &mut self,
        ctx: &Context,
        id: Uuid,
        error: ExtensionError,
        error_type: &str,
        fx: &mut Effects,
    ) -> Result<(), ExtensionRefusal> {
        if !self.has_extensions() {
            return Err(ExtensionRefusal::Reset);
        }
        if !self.extensions.error(id, error, error_type)? || self.stop.is_some() {
            return Ok(());
        }
        let Some(name) = self.extensions.name(id).cloned() else { return Ok(()) };
        let external = self.guests.iter().any(|guest| guest.alive && guest.name == name);
        let fault = Fault::Extension { name, announced: Some(error), status: None };
        if external {
            self.announced.get_or_insert(fault);
            let by = ctx.now().instant + EXIT_LIMIT;
            self.exit_by = Some(self.exit_by.map_or(by, |earlier| earlier.min(by)));
            fx.wake |= self.armed.is_none_or(|armed| armed > by);
        } else {
            self.fail(ctx, fault, fx);
        }
        Ok(())
    }

    /// `start` begins to deliver to a new subscriber.
    pub(crate) fn subscribe(
        &mut self,
        ctx: &Context,
        id: Uuid,
        subscription: Result<Subscription, SubscriptionRefusal>,
        start: impl FnOnce(Arc<Outlet>) -> AbortHandle,
    ) -> Result<(), SubscribeError> {
        let name = self.extensions.name(id).filter(|_| self.has_extensions()).cloned();
        let name = name.ok_or(SubscribeError::Extension(ExtensionRefusal::UnknownIdentifier))?;
        let subscription = subscription.map_err(SubscribeError::Subscription)?;
        let (api, types) = (subscription.api, subscription.types.names());
        let in_init = match &self.phase {
            Phase::Init(_) => true,
            Phase::Invoke(invoke) => matches!(invoke.stage, crate::phase::Stage::Init { .. }),
            _ => false,
        };
        let closed = SubscribeError::Subscription(SubscriptionRefusal::Closed(api));
        let Some(relay) = self.output.telemetry().filter(|_| in_init) else { return Err(closed) };
        let added = relay.subscribe(Instant::now(), &name, subscription);
        if let Some(outlet) = added.map_err(SubscribeError::Subscription)? {
            relay.started(start(outlet));
            let legacy = matches!(api, TelemetryApi::Logs(_));
            let event = PlatformEvent::Subscription { legacy, name: &name, types: &types };
            self.output.platform(ctx.moment(), &event);
        }
        Ok(())
    }
}
