//! Calls that are disturbed on purpose, on both ways through the shell.

use crate::event::Delivery;
use crate::host::{Call, Disturbance, Host};
use crate::refusal::Refusal;
use std::io;
use tokio::net::TcpStream;

/// The connection of this call is to be reset.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
pub(super) struct Reset;

impl Reset {
    /// For the short way, whose errors are the connection's.
    pub(super) fn error() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionReset, Reset)
    }

    /// Whether an error of the short way is this.
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Reset>())
    }
}

/// What is left of a delivery.
///
/// # Errors
/// The connection is to be reset.
pub(super) async fn delivery<H: Host>(host: &H, delivery: Delivery) -> Result<Delivery, Reset> {
    if delivery.is_err() {
        return Ok(delivery);
    }
    match host.disturbance(Call::Next) {
        None => Ok(delivery),
        Some(Disturbance::Error) => Ok(Err(Refusal::Internal)),
        Some(Disturbance::Reset) => Err(Reset),
        Some(Disturbance::Delay(delay)) => {
            let generation = host.generation();
            tokio::time::sleep(delay).await;
            // Its process was given up meanwhile.
            let stale = host.generation() != generation;
            Ok(if stale { Err(Refusal::Internal) } else { delivery })
        }
    }
}

/// Whether a response, or an error, is let in.
///
/// # Errors
/// The connection is to be reset.
pub(super) async fn post<H: Host>(host: &H) -> Result<Result<(), Refusal>, Reset> {
    match host.disturbance(Call::Response) {
        None => Ok(Ok(())),
        Some(Disturbance::Error) => Ok(Err(Refusal::Internal)),
        Some(Disturbance::Reset) => Err(Reset),
        Some(Disturbance::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(Ok(()))
        }
    }
}

/// Makes the end of a connection a reset.
pub(super) fn reset(stream: &TcpStream) {
    // Where it cannot be had the peer sees an ordinary end.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
