//! From an HTTP event to what a script finds in `$_SERVER`: the parameters that nginx sends to
//! php-fpm with its own `fastcgi.conf`, for a server where every path leads to one script.

use std::path::Path;

use lambfold_runtime_client::Invocation;

use crate::event::HttpEvent;
use crate::fastcgi::{ParamTooLong, Request};

const SOFTWARE: &str = concat!("lambfold-php/", env!("CARGO_PKG_VERSION"));

/// A header that becomes a variable. nginx ignores other names: `X_User` and `X-User` would be the
/// same variable, and `Proxy` the name that programs look up for a proxy of their own.
fn variable(name: &str) -> Option<String> {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if name.is_empty() || !is_plain || name.eq_ignore_ascii_case("proxy") {
        return None;
    }
    Some(format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_")))
}

/// The script that answers, and the folder that a web server would call its root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script<'a> {
    pub(crate) file: &'a Path,
}

impl Script<'_> {
    fn root(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    fn name(&self) -> String {
        let name = self.file.file_name().unwrap_or_default();
        format!("/{}", name.to_string_lossy())
    }
}

/// The request as FastCGI has it, without its body.
pub(crate) fn request(
    script: Script<'_>,
    event: &HttpEvent<'_>,
    invocation: &Invocation,
) -> Result<Request, ParamTooLong> {
    let mut request = Request::new();
    let mut set = |name: &str, value: &str| request.param(name, value.as_bytes());

    let script_name = script.name();
    let file = script.file.to_string_lossy();
    let path_info = event.path.strip_prefix(&script_name).filter(|rest| rest.starts_with('/'));
    let (query_mark, query) = match event.query.as_str() {
        "" => ("", ""),
        query => ("?", query),
    };
    set("QUERY_STRING", query)?;
    set("REQUEST_METHOD", &event.method)?;
    let content_type = event.header("content-type");
    set("CONTENT_TYPE", content_type.as_deref().unwrap_or_default())?;
    // The body may have grown or shrunk since the client said how long it is.
    let content_length = match (event.body.len(), event.header("content-length")) {
        (0, None) => None,
        (length, _) => Some(length.to_string()),
    };
    set("CONTENT_LENGTH", content_length.as_deref().unwrap_or_default())?;
    set("SCRIPT_FILENAME", &file)?;
    set("SCRIPT_NAME", &script_name)?;
    if let Some(path_info) = path_info {
        set("PATH_INFO", &decoded(path_info))?;
    }
    set("REQUEST_URI", &format!("{}{query_mark}{query}", event.path))?;
    set("DOCUMENT_URI", &format!("{script_name}{}", decoded(path_info.unwrap_or_default())))?;
    set("DOCUMENT_ROOT", &script.root().to_string_lossy())?;
    set("SERVER_PROTOCOL", &event.protocol)?;
    let is_https = event
        .header("x-forwarded-proto")
        .is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"));
    set("REQUEST_SCHEME", if is_https { "https" } else { "http" })?;
    if is_https {
        set("HTTPS", "on")?;
    }
    set("GATEWAY_INTERFACE", "CGI/1.1")?;
    set("SERVER_SOFTWARE", SOFTWARE)?;
    set("REMOTE_ADDR", &event.client_address)?;
    set("REMOTE_PORT", "0")?;
    set("SERVER_ADDR", "127.0.0.1")?;
    let port = event.header("x-forwarded-port").filter(|port| port.parse::<u16>().is_ok());
    set("SERVER_PORT", port.as_deref().unwrap_or(if is_https { "443" } else { "80" }))?;
    let host = event.header("host").or_else(|| event.domain.clone()).unwrap_or_default();
    set("SERVER_NAME", without_port(&host))?;
    set("REDIRECT_STATUS", "200")?;

    let mut seen = Vec::with_capacity(event.headers.len());
    for (name, _) in &event.headers {
        let Some(variable) = variable(name) else { continue };
        if !seen.contains(&variable) {
            let value = match (variable.as_str(), &content_length) {
                ("HTTP_CONTENT_LENGTH", Some(length)) => length.clone(),
                _ => event.header(name).unwrap_or_default(),
            };
            set(&variable, &value)?;
            seen.push(variable);
        }
    }
    if !seen.iter().any(|name| name == "HTTP_HOST") && !host.is_empty() {
        set("HTTP_HOST", &host)?;
    }

    // Too much to tell is no reason not to answer.
    let _ = set("LAMBDA_REQUEST_CONTEXT", event.context);
    set("LAMBDA_INVOCATION_CONTEXT", &invocation_context(invocation))?;
    if let Some(trace_id) = invocation.trace_id() {
        set("_X_AMZN_TRACE_ID", trace_id)?;
    }
    Ok(request)
}

/// The event's own context, as JSON.
pub(crate) fn invocation_context(invocation: &Invocation) -> String {
    serde_json::json!({
        "awsRequestId": invocation.request_id(),
        "deadlineMs": invocation.deadline_ms(),
        "invokedFunctionArn": invocation.function_arn(),
        "traceId": invocation.trace_id(),
        "clientContext": invocation.client_context().map(json_or_text),
        "identity": invocation.cognito_identity().map(json_or_text),
        "tenantId": invocation.tenant_id(),
    })
    .to_string()
}

fn json_or_text(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// `[::1]:80` is an address with a port, too.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_variables_unless_they_could_be_mistaken() {
        assert_eq!(variable("X-Forwarded-For").as_deref(), Some("HTTP_X_FORWARDED_FOR"));
        for name in ["", "X_Forwarded_For", "pröxy", "a b", "Proxy", "PROXY"] {
            assert_eq!(variable(name), None, "{name}");
        }
    }

    #[test]
    fn ports_are_not_part_of_a_name() {
        for (host, name) in [
            ("example.org", "example.org"),
            ("example.org:8080", "example.org"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
