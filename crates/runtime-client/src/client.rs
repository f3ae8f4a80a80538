use std::env;
use std::fmt::Write as _;

use crate::connection::{Connection, Repeat};
use crate::http::Response;
use crate::stream::ResponseStream;
use crate::{Error, FunctionError, Invocation};

const PREFIX: &str = "/2018-06-01/runtime";
/// The largest `AWS_LAMBDA_MAX_CONCURRENCY` that the platform has.
pub(crate) const MAX_WORKERS: usize = 1600;
const MAX_REFUSAL_BYTES: usize = 2048;

/// One worker's conversation with the Runtime API, over one kept-alive connection.
///
/// The order is `next`, then exactly one of `respond`, [`stream`](Client::stream) and `error`, then
/// `next` again. The platform holds the state and refuses any other order.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    user_agent: String,
}

impl Client {
    /// A client for the platform around this process. Connects at the first call.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] or [`Error::BadEndpoint`].
    pub fn from_env() -> Result<Client, Error> {
        Client::new(env::var("AWS_LAMBDA_RUNTIME_API").map_err(|_| Error::NoEndpoint)?)
    }

    /// A client for the Runtime API at `host:port`. Connects at the first call.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`].
    pub fn new(endpoint: impl Into<String>) -> Result<Client, Error> {
        let endpoint = endpoint.into();
        let is_valid = match endpoint.rsplit_once(':') {
            Some((host, port)) => {
                let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
                !host.is_empty() && host.bytes().all(is_host) && port.parse::<u16>().is_ok()
            }
            None => false,
        };
        if !is_valid {
            return Err(Error::BadEndpoint { value: endpoint });
        }
        Ok(Client {
            connection: Connection::new(endpoint),
            user_agent: concat!("lambfold-runtime-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// Sets the name under which the runtime introduces itself: one product token such as
    /// `my-runtime/1.0`. Anything that is not visible ASCII is dropped.
    pub fn with_user_agent(mut self, product: &str) -> Client {
        self.user_agent = product.chars().filter(char::is_ascii_graphic).collect();
        self
    }

    /// A client of the same kind with a connection of its own.
    pub(crate) fn another(&self) -> Result<Client, Error> {
        let client = Client::new(self.connection.endpoint())?;
        Ok(client.with_user_agent(&self.user_agent))
    }

    /// Waits for the next event, for as long as it takes: the platform may freeze the process in
    /// between, so there is no time limit. The first call tells the platform that init is over.
    ///
    /// # Errors
    /// Every error means that the runtime should exit.
    #[expect(
        clippy::should_implement_trait,
        reason = "the call's own name; it has no end to iterate to"
    )]
    pub fn next(&mut self) -> Result<Invocation, Error> {
        let head = format!(
            "GET {PREFIX}/invocation/next HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n\r\n",
            self.connection.endpoint(),
            self.user_agent
        );
        // Asking twice is harmless: a runtime that waits may reconnect, and one that has an event
        // gets the same event again.
        let response = self.connection.exchange("next", &head, &[], Repeat::Safe)?;
        if response.status != 200 {
            return Err(refusal("next", &response));
        }
        Invocation::from_response(response)
    }

    /// Answers an event. `content_type` is passed on where the caller can see it.
    ///
    /// # Errors
    /// See [`Error::is_about_this_event`] for those after which `next` may be called.
    pub fn respond(
        &mut self,
        request_id: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<(), Error> {
        let path = format!("/invocation/{request_id}/response");
        self.post("response", &path, content_type, "", body)
    }

    /// Begins a response whose parts reach the caller as they are written.
    ///
    /// # Errors
    /// If the request cannot be sent; nothing has been answered then.
    pub fn stream(
        &mut self,
        request_id: &str,
        content_type: &str,
    ) -> Result<ResponseStream<'_>, Error> {
        let mut head = self.post_head(&format!("/invocation/{request_id}/response"), content_type);
        head.push_str(
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\
             Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n",
        );
        ResponseStream::begin(&mut self.connection, &head)
    }

    /// Reports that an event failed.
    ///
    /// # Errors
    /// See [`Error::is_about_this_event`] for those after which `next` may be called.
    pub fn error(&mut self, request_id: &str, error: &FunctionError) -> Result<(), Error> {
        self.post_error("error", &format!("/invocation/{request_id}/error"), error)
    }

    /// Reports that the runtime cannot start. The process should exit with a non-zero code
    /// afterwards.
    ///
    /// # Errors
    /// If the report did not arrive.
    pub fn init_error(&mut self, error: &FunctionError) -> Result<(), Error> {
        self.post_error("init/error", "/init/error", error)
    }

    /// Reports that the runtime cannot start, and gives the error to end with: what hindered it, or
    /// why even that could not be reported.
    pub fn fail_init(&mut self, error: &FunctionError) -> Error {
        match self.init_error(error) {
            // Another worker was first with the same error.
            Ok(()) | Err(Error::Refused { status: 403, .. }) => Error::Init {
                error_type: error.error_type().to_owned(),
                message: error.message().to_owned(),
            },
            Err(error) => error,
        }
    }

    fn post_error(
        &mut self,
        call: &'static str,
        path: &str,
        error: &FunctionError,
    ) -> Result<(), Error> {
        let mut fields = format!("Lambda-Runtime-Function-Error-Type: {}\r\n", error.header_type());
        if let Some(cause) = error.header_cause() {
            let _ = write!(fields, "Lambda-Runtime-Function-XRay-Error-Cause: {cause}\r\n");
        }
        self.post(call, path, "application/json", &fields, error.body().as_bytes())
    }

    fn post_head(&self, path: &str, content_type: &str) -> String {
        // Content types come from functions; a header must not be able to add another.
        let content_type: String =
            content_type.chars().filter(|c| matches!(c, ' '..='~')).collect();
        format!(
            "POST {PREFIX}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nContent-Type: {content_type}\r\n",
            self.connection.endpoint(),
            self.user_agent,
        )
    }

    fn post(
        &mut self,
        call: &'static str,
        path: &str,
        content_type: &str,
        fields: &str,
        body: &[u8],
    ) -> Result<(), Error> {
        let mut head = self.post_head(path, content_type);
        let _ = write!(head, "{fields}Content-Length: {}\r\n\r\n", body.len());
        // Not repeated: the platform would refuse the second of two answers that both arrived.
        accepted(call, self.connection.exchange(call, &head, body, Repeat::Never)?)
    }
}

/// How many events the platform wants this process to handle at once
/// (`AWS_LAMBDA_MAX_CONCURRENCY`); 1 where it does not say. Each needs a [`Client`] of its own.
///
/// # Errors
/// [`Error::BadConcurrency`].
pub fn workers_from_env() -> Result<usize, Error> {
    match env::var("AWS_LAMBDA_MAX_CONCURRENCY") {
        Ok(value) if !value.is_empty() => parse_workers(value),
        _ => Ok(1),
    }
}

fn parse_workers(value: String) -> Result<usize, Error> {
    match value.parse() {
        Ok(count @ 1..=MAX_WORKERS) => Ok(count),
        _ => Err(Error::BadConcurrency { value }),
    }
}

pub(crate) fn accepted(call: &'static str, response: Response) -> Result<(), Error> {
    match response.status {
        200..=299 => Ok(()),
        _ => Err(refusal(call, &response)),
    }
}

fn refusal(call: &'static str, response: &Response) -> Error {
    let shown = &response.body[..response.body.len().min(MAX_REFUSAL_BYTES)];
    let body = String::from_utf8_lossy(shown).trim().to_owned();
    Error::Refused { call, status: response.status, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["127.0.0.1:9001", "169.254.100.1:9001", "localhost:1", "[::1]:9001"] {
            assert!(Client::new(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", ":9001", "http://a:1", "a:1/x", "a:99999", "a b:1", "a\r\n:1"]
        {
            assert!(matches!(Client::new(bad), Err(Error::BadEndpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn workers_have_limits() {
        let parse = |text: &str| parse_workers(text.to_owned());
        assert!(matches!(parse("1"), Ok(1)));
        assert!(matches!(parse("1600"), Ok(1600)));
        for bad in ["0", "1601", "-1", "many"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
