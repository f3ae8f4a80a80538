//! A blocking client of the AWS API over plain HTTP: signs, sends, and turns the service's
//! answers into values or [`ClientError`]s. Knows no command.

mod endpoint;
mod sigv4;

pub(crate) use endpoint::Endpoint;
pub(crate) use sigv4::encode;

use crate::output::Progress;
use sigv4::{Credentials, Signable};
use std::io::{Cursor, Read, Seek};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;
use ureq::http;

/// Largest answer that is read: a response of 6 MiB with room for its envelope, bytes.
const ANSWER_BYTES: u64 = 64 * 1_048_576;
/// A server on the way to the answer of anything but an invocation, seconds.
const ANSWER_S: u64 = 120;
/// What `lambfold env` prints and an unconfigured client signs with: any two strings do where
/// the server asks for no credentials.
pub(crate) const ANY_KEY: &str = "lambfold";

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("endpoint {text:?} is not of the form http://HOST:PORT")]
    InvalidEndpoint { text: String },
    #[error("endpoint {text:?} is https, which this client does not speak")]
    Https { text: String },
    #[error("could not connect to {endpoint}")]
    Connect { endpoint: Endpoint, source: Box<ureq::Error> },
    #[error("the exchange with {endpoint} broke off")]
    Broken { endpoint: Endpoint, source: Box<ureq::Error> },
    #[error("could not read the upload")]
    Upload { source: std::io::Error },
    #[error("{message} ({code}, HTTP status {status})")]
    Service { status: u16, code: String, message: String },
    #[error("{endpoint} answered something that is not of the AWS API: {what}")]
    NotTheApi { endpoint: Endpoint, what: String },
}

impl ClientError {
    /// Whether the service said no with this exception.
    pub(crate) fn is(&self, exception: &str) -> bool {
        matches!(self, Self::Service { code, .. } if code == exception)
    }
}

/// Which service's name a request is signed for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    Lambda,
    Logs,
}

impl Service {
    fn signing_name(self) -> &'static str {
        match self {
            Self::Lambda => "lambda",
            Self::Logs => "logs",
        }
    }
}

/// What is sent.
pub(crate) enum Body {
    Empty,
    Bytes(Vec<u8>),
    /// From its beginning to its end.
    File(std::fs::File),
}

/// A request before it is signed.
pub(crate) struct Request {
    service: Service,
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Body,
    patient: bool,
}

impl Request {
    /// `path` is percent-encoded.
    pub(crate) fn new(service: Service, method: &'static str, path: impl Into<String>) -> Self {
        Self {
            service,
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Body::Empty,
            patient: false,
        }
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// `name` in lower case.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json")
            .body(Body::Bytes(value.to_string().into_bytes()))
    }

    /// Waits for the answer without limit: the server bounds an invocation, not the client.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }
}

/// A good answer (status 2xx).
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One server, one region, one pair of keys.
pub(crate) struct Client {
    agent: ureq::Agent,
    endpoint: Endpoint,
    region: String,
    credentials: Credentials,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, region: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .user_agent(concat!("lambfold/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent(), endpoint, region, credentials: credentials() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Sends, and waits for a JSON answer.
    pub(crate) fn send_for_json(&self, request: Request) -> Result<serde_json::Value, ClientError> {
        let answer = self.send(request)?;
        serde_json::from_slice(&answer.body).map_err(|error| ClientError::NotTheApi {
            endpoint: self.endpoint.clone(),
            what: error.to_string(),
        })
    }

    pub(crate) fn send(&self, request: Request) -> Result<Answer, ClientError> {
        let (reader, length, payload_sha256) = open_body(request.body)?;
        let date = now();
        let mut headers = request.headers;
        headers.push(("host".into(), self.endpoint.authority().into()));
        headers.push(("x-amz-date".into(), date.clone()));
        if let Some(token) = &self.credentials.session_token {
            headers.push(("x-amz-security-token".into(), token.clone()));
        }
        let authorization = sigv4::authorization(
            &self.credentials,
            &self.region,
            request.service.signing_name(),
            &date,
            &Signable {
                method: request.method,
                path: &request.path,
                query: &request.query,
                headers: &headers,
                payload_sha256: &payload_sha256,
            },
        );
        let mut target = request.path;
        if !request.query.is_empty() {
            target = format!("{target}?{}", sigv4::canonical_query(&request.query));
        }
        let mut builder =
            http::Request::builder().method(request.method).uri(self.endpoint.address(&target));
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        builder = builder.header("authorization", authorization).header("content-length", length);
        let mut body = Progress::new(reader, length);
        let http_request = builder
            .body(ureq::SendBody::from_reader(&mut body))
            .map_err(|error| self.lost(ureq::Error::Http(error)))?;
        let patience = (!request.patient).then(|| Duration::from_secs(ANSWER_S));
        let http_request =
            self.agent.configure_request(http_request).timeout_recv_response(patience).build();
        let answer = self.agent.run(http_request).map_err(|error| self.lost(error))?;
        self.read(answer)
    }

    fn read(&self, answer: http::Response<ureq::Body>) -> Result<Answer, ClientError> {
        let (head, mut body) = answer.into_parts();
        let body = body
            .with_config()
            .limit(ANSWER_BYTES)
            .read_to_vec()
            .map_err(|error| self.lost(error))?;
        let status = head.status.as_u16();
        if head.status.is_success() {
            return Ok(Answer { status, headers: head.headers, body });
        }
        let named = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        match service_error(status, named, &body) {
            Some(error) => Err(error),
            None => Err(ClientError::NotTheApi {
                endpoint: self.endpoint.clone(),
                what: format!("HTTP status {status} without an error type"),
            }),
        }
    }

    fn lost(&self, error: ureq::Error) -> ClientError {
        let endpoint = self.endpoint.clone();
        let connecting = match &error {
            ureq::Error::Io(io) => io.kind() == std::io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
            ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
            _ => false,
        };
        let source = Box::new(error);
        if connecting {
            ClientError::Connect { endpoint, source }
        } else {
            ClientError::Broken { endpoint, source }
        }
    }
}

type Opened = (Box<dyn Read>, u64, String);

fn open_body(body: Body) -> Result<Opened, ClientError> {
    match body {
        Body::Empty => Ok((Box::new(std::io::empty()), 0, sigv4::sha256_hex(b""))),
        Body::Bytes(bytes) => {
            let sha256 = sigv4::sha256_hex(&bytes);
            let length = bytes.len() as u64;
            Ok((Box::new(Cursor::new(bytes)), length, sha256))
        }
        Body::File(file) => open_file(file).map_err(|source| ClientError::Upload { source }),
    }
}

/// Hashes the file without holding it in memory, then offers just the bytes that were hashed.
fn open_file(mut file: std::fs::File) -> std::io::Result<Opened> {
    let mut hasher = Hashing::default();
    file.rewind()?;
    let length = std::io::copy(&mut file, &mut hasher)?;
    file.rewind()?;
    Ok((Box::new(file.take(length)), length, hasher.hex()))
}

#[derive(Default)]
struct Hashing(sha2::Sha256);

impl Hashing {
    fn hex(self) -> String {
        sigv4::hex(&sha2::Digest::finalize(self.0))
    }
}

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(&mut self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The exception of an answer; `None` when it has no AWS shape.
fn service_error(status: u16, named: Option<&str>, body: &[u8]) -> Option<ClientError> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| json.get(key).and_then(serde_json::Value::as_str);
    // Header values may carry a namespace behind a colon, `__type` one before a hash sign.
    let code = named
        .map(|name| name.split(':').next().unwrap_or(name))
        .or_else(|| text("__type").map(|name| name.rsplit('#').next().unwrap_or(name)))?;
    let message = text("message").or_else(|| text("Message")).unwrap_or("no message");
    Some(ClientError::Service { status, code: code.into(), message: message.into() })
}

/// From the environment, where both halves are there; else any.
fn credentials() -> Credentials {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(access_key_id), Some(secret_access_key)) => Credentials {
            access_key_id,
            secret_access_key,
            session_token: variable("AWS_SESSION_TOKEN"),
        },
        _ => Credentials {
            access_key_id: ANY_KEY.into(),
            secret_access_key: ANY_KEY.into(),
            session_token: None,
        },
    }
}

fn now() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    OffsetDateTime::now_utc().format(format).expect("the date of today has these parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_found_in_header_and_body() {
        let of = |named, body: &str| match service_error(404, named, body.as_bytes()) {
            Some(ClientError::Service { code, message, .. }) => Some((code, message)),
            _ => None,
        };
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(
            of(Some("ResourceNotFoundException"), r#"{"Type":"User","Message":"gone"}"#),
            pair("ResourceNotFoundException", "gone")
        );
        assert_eq!(of(Some("A:http://x/"), r#"{"message":"m"}"#), pair("A", "m"));
        assert_eq!(of(None, r#"{"__type":"com.x#B","message":"m"}"#), pair("B", "m"));
        assert_eq!(of(None, "<html>"), None);
        assert_eq!(of(Some("C"), "<html>"), pair("C", "no message"));
    }

    #[test]
    fn a_file_is_hashed_and_offered_from_its_beginning() {
        let mut file = tempfile::tempfile().expect("temporary file");
        std::io::Write::write_all(&mut file, b"abc").expect("write");
        let (mut reader, length, sha256) = open_file(file).expect("open");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!((text.as_str(), length), ("abc", 3));
        assert_eq!(sha256, sigv4::sha256_hex(b"abc"));
    }
}
