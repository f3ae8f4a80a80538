//! The Extensions API and the subscriptions of the Telemetry API, as HTTP.

use super::answer::{Reply, accepted, json};
use super::body;
use crate::extension::{
    ExtensionDelivery, ExtensionError, ExtensionEvent, ExtensionRefusal, Registration,
};
use crate::host::{ExtensionReply, Host, SubscribeError};
use crate::machine::Ticket;
use crate::telemetry::Subscription;
use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use serde::Serialize;
use uuid::Uuid;

const NAME: &str = "lambda-extension-name";
const FEATURES: &str = "lambda-extension-accept-feature";
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const EVENT_IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");
const ERROR_TYPE: &str = "lambda-extension-function-error-type";
/// Most that is read of a registration or a subscription, bytes.
const BODY_BYTES: usize = 64 << 10;

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Who asks.
pub(super) fn identifier(headers: &HeaderMap) -> Result<Uuid, ExtensionRefusal> {
    let value = headers.get(IDENTIFIER).ok_or(ExtensionRefusal::MissingIdentifier)?;
    Uuid::try_parse_ascii(value.as_bytes()).map_err(|_| ExtensionRefusal::InvalidIdentifier)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegisterAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    function_name: String,
    function_version: String,
    handler: String,
}

pub(super) async fn register<H, B>(host: &H, headers: &HeaderMap, body: &mut B) -> Reply
where
    H: Host,
    B: Body<Data = Bytes> + Unpin,
{
    let read = body::collect(body, BODY_BYTES).await;
    let Ok(collected) = read else {
        body::drain(body).await;
        let text = format!("the body is cut off or larger than {BODY_BYTES} bytes");
        return refuse(&ExtensionRefusal::InvalidFormat(text.into()));
    };
    let registered =
        Registration::parse(text(headers, NAME), text(headers, FEATURES), &collected.bytes)
            .and_then(|registration| host.register(&registration));
    let registered = match registered {
        Ok(registered) => registered,
        Err(refusal) => return refuse(&refusal),
    };
    let mut reply = document(
        StatusCode::OK,
        &RegisterAnswer {
            account_id: registered.account_id,
            function_name: registered.function_name,
            function_version: registered.function_version,
            handler: registered.handler,
        },
    );
    reply.headers_mut().insert(IDENTIFIER, uuid_value(registered.id));
    reply
}

pub(super) async fn next<H: Host>(host: &H, id: Result<Uuid, ExtensionRefusal>) -> Reply {
    let id = match id {
        Ok(id) => id,
        Err(refusal) => return refuse(&refusal),
    };
    let delivery = match host.extension_next(id) {
        ExtensionReply::Now(delivery) => delivery,
        ExtensionReply::Wait(ticket, waiting) => {
            let mut guard = Waiting { host, id, ticket: Some(ticket) };
            let delivery = waiting.await.unwrap_or(Err(ExtensionRefusal::Reset));
            guard.ticket = None;
            delivery
        }
    };
    event_reply(delivery)
}

fn event_reply(delivery: ExtensionDelivery) -> Reply {
    match delivery {
        Ok(event) => {
            let mut reply = document(StatusCode::OK, &*event);
            if let ExtensionEvent::Invoke { .. } = *event {
                reply.headers_mut().insert(EVENT_IDENTIFIER, uuid_value(Uuid::new_v4()));
            }
            reply
        }
        Err(refusal) => refuse(&refusal),
    }
}

/// Tells the host when an `event/next` ends before it was answered: its connection broke.
struct Waiting<'a, H: Host> {
    host: &'a H,
    id: Uuid,
    ticket: Option<Ticket>,
}

impl<H: Host> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.host.extension_abandon(self.id, ticket);
        }
    }
}

pub(super) fn error<H: Host>(host: &H, error: ExtensionError, headers: &HeaderMap) -> Reply {
    let done = identifier(headers).and_then(|id| {
        let error_type = text(headers, ERROR_TYPE);
        if error_type.is_empty() {
            return Err(ExtensionRefusal::MissingErrorType);
        }
        host.extension_error(id, error, error_type)
    });
    match done {
        Ok(()) => accepted(),
        Err(refusal) => refuse(&refusal),
    }
}

pub(super) async fn subscribe<H, B>(
    host: &H,
    legacy: bool,
    headers: &HeaderMap,
    body: &mut B,
) -> Reply
where
    H: Host,
    B: Body<Data = Bytes> + Unpin,
{
    let id = identifier(headers);
    let read = body::collect(body, BODY_BYTES).await;
    if read.is_err() {
        body::drain(body).await;
    }
    let bytes = read.map(|collected| collected.bytes).unwrap_or_default();
    let done = id
        .map_err(SubscribeError::Extension)
        .and_then(|id| host.subscribe(id, Subscription::parse(legacy, &bytes)));
    match done {
        Ok(()) => json(StatusCode::OK, Bytes::from_static(b"\"OK\"")),
        Err(SubscribeError::Extension(refusal)) => refuse(&refusal),
        Err(SubscribeError::Subscription(refusal)) => document(
            refusal.status(),
            &ErrorBody { error_message: &refusal.message(), error_type: refusal.error_type() },
        ),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error_message: &'a str,
    error_type: &'a str,
}

fn refuse(refusal: &ExtensionRefusal) -> Reply {
    let body = ErrorBody { error_message: &refusal.message(), error_type: refusal.error_type() };
    document(StatusCode::FORBIDDEN, &body)
}

fn document(status: StatusCode, body: &impl Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            json(status, bytes.into())
        }
        Err(error) => {
            tracing::error!(%error, "cannot write an answer to an extension");
            json(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new())
        }
    }
}

fn uuid_value(id: Uuid) -> HeaderValue {
    // 36 hexadecimal digits and hyphens are a header value.
    HeaderValue::from_str(&id.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
