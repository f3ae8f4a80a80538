//! The short way: `next`, and posts of a buffered answer or an error, when they come as plain
//! requests. What any other request is, and what it is answered, is the other modules' to say.

use super::answer::{self, Accepted, Waiting};
use super::disturb::{self, Reset};
use super::route::{Route, route};
use crate::event::Delivery;
use crate::host::{Caller, Host, NextReply};
use crate::machine::Post;
use crate::refusal::Refusal;
use bytes::Bytes;
use lambfold_http1::{Connection, Fields, Head, Method, Parts};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

fn route_of<'a>(head: &Head<'a>) -> Route<'a> {
    let method = match head.method() {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
    };
    route(&method, head.path_and_query().0)
}

/// Whether a request is answered here.
pub(super) fn wants(head: &Head<'_>) -> bool {
    match route_of(head) {
        Route::Next => true,
        Route::Post(_, Post::Error) => true,
        Route::Post(_, Post::Response) => head.field(answer::RESPONSE_MODE).is_none(),
        _ => false,
    }
}

/// Answers the request that has come.
///
/// # Errors
/// The connection is broken.
pub(super) async fn answer<H, S>(host: &H, connection: &mut Connection<S>) -> io::Result<()>
where
    H: Host,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Parts { head, body, mut peer } = connection.parts();
    match route_of(&head) {
        Route::Post(id, post) => {
            let let_in = disturb::post(host).await.map_err(|_| Reset::error())?;
            let result = let_in.and_then(|()| host.begin_post(id, post)).and_then(|posting| {
                let body = Bytes::copy_from_slice(body);
                host.finish(posting, answer::posted(post, &head, body))
            });
            match result {
                Ok(()) => json(connection, Accepted::STATUS, Accepted::BODY).await,
                Err(refusal) => refuse(connection, refusal).await,
            }
        }
        _ => {
            let delivery = match host.next(Caller::new(&head)) {
                NextReply::Now(delivery) => delivery,
                NextReply::Wait(ticket, waiting) => {
                    let mut guard = Waiting::new(host, ticket);
                    let delivery = tokio::select! {
                        biased;
                        delivery = waiting => delivery.unwrap_or(Err(Refusal::Internal)),
                        () = peer.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
                    };
                    guard.is_over();
                    delivery
                }
            };
            let disturbed = tokio::select! {
                biased;
                delivery = disturb::delivery(host, delivery) => delivery,
                () = peer.gone() => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            deliver(connection, disturbed.map_err(|_| Reset::error())?).await
        }
    }
}

async fn deliver<S>(connection: &mut Connection<S>, delivery: Delivery) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match delivery {
        Ok(event) => {
            let payload = &event.invocation.payload;
            connection.answer("200 OK", |draft| event.write(draft), payload, false).await
        }
        Err(refusal) => refuse(connection, refusal).await,
    }
}

async fn refuse<S>(connection: &mut Connection<S>, refusal: Refusal) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    json(connection, &refusal.status().to_string(), &answer::refusal_body(refusal)).await
}

async fn json<S>(connection: &mut Connection<S>, status: &str, body: &str) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let write = |draft: &mut lambfold_http1::Draft<'_>| {
        draft.field("Content-Type", "application/json");
    };
    connection.answer(status, write, body.as_bytes(), false).await
}
