//! The conform function: echoes, unless the event asks for more.

use crate::has;
use serde_json::{Value, json};
use std::time::Duration;

/// An event with its headers.
#[derive(Debug, Default)]
pub(crate) struct Invocation {
    pub(crate) id: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Invocation {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// What the event asks for beyond an echo.
    pub(crate) fn word(&self) -> Option<String> {
        // A large echo need not be looked into.
        let start = self.body.get(..64).unwrap_or(&self.body);
        if !start.windows(9).any(|window| window == b"\"conform\"") {
            return None;
        }
        let event: Value = serde_json::from_slice(&self.body).ok()?;
        event["conform"].as_str().map(str::to_owned)
    }
}

/// What becomes of an event.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(Vec<u8>),
    Error(String),
    Stream { parts: Vec<String>, delay: Duration, error: Option<String> },
}

/// What is kept from event to event, where that is the fault.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    id: Option<String>,
    trace: Option<String>,
}

fn failure(message: &str) -> Answer {
    if has("error-shape") {
        return Answer::Error("as asked".to_owned());
    }
    if has("error-message") {
        return Answer::Error(format!(
            "{{\"errorMessage\":\"{message}\",\"errorType\":\"Puppet.Asked\"}}"
        ));
    }
    let stack = if has("error-stack") { json!("at the puppet") } else { json!(["at the puppet"]) };
    let body = json!({ "errorMessage": message, "errorType": "Puppet.Asked", "stackTrace": stack });
    let mut body = body.to_string();
    if has("error-long") {
        body.truncate(64 << 10);
    }
    Answer::Error(body)
}

pub(crate) fn call(invocation: &Invocation, stale: &mut Stale) -> Answer {
    let word = invocation.word();
    let event = match word {
        Some(_) => serde_json::from_slice(&invocation.body).unwrap_or(Value::Null),
        None => Value::Null,
    };
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    let answer = match word.as_deref() {
        None => return echo(invocation),
        Some("error") => return failure(event["message"].as_str().unwrap_or_default()),
        Some("exit") => {
            if has("error-crash") {
                std::thread::sleep(Duration::from_secs(3600));
            }
            std::process::exit(i32::try_from(number("code")).unwrap_or(1));
        }
        Some("size") => {
            let mut size = usize::try_from(number("bytes")).unwrap_or(2);
            if has("response-6mib") {
                size = size.min(4 << 20);
            }
            let mut body = vec![b'x'; size];
            body[0] = b'"';
            body[size - 1] = b'"';
            return Answer::Response(body);
        }
        Some("sleep") => {
            eprintln!("conform: asleep");
            std::thread::sleep(Duration::from_millis(number("ms")));
            json!({ "slept": number("ms") })
        }
        Some("log") => {
            let text = event["reversed"].as_str().unwrap_or_default();
            if !has("log-in-time") {
                eprintln!("{}", text.chars().rev().collect::<String>());
            }
            json!({ "logged": true })
        }
        Some("context") => context(invocation, stale),
        Some("stream") => {
            let parts = event["parts"].as_array().into_iter().flatten();
            let parts = parts.filter_map(|part| part.as_str().map(str::to_owned)).collect();
            let error = (event["then"] == "error").then(|| {
                json!({ "errorMessage": "in the middle", "errorType": "Puppet.Asked" }).to_string()
            });
            return Answer::Stream {
                parts,
                delay: Duration::from_millis(number("delayMs")),
                error,
            };
        }
        Some(other) => json!({ "unknown": other }),
    };
    Answer::Response(answer.to_string().into_bytes())
}

fn context(invocation: &Invocation, stale: &mut Stale) -> Value {
    let header = |name: &str| invocation.header(name).map(str::to_owned);
    let decoded = |name: &str| -> Value {
        let text = invocation.header(name).unwrap_or("null");
        serde_json::from_str(text).unwrap_or(Value::Null)
    };
    let mut id = invocation.id.clone();
    if has("context-request-id") {
        id = stale.id.get_or_insert(id).clone();
    }
    let mut trace = header("lambda-runtime-trace-id");
    if has("context-absent") {
        trace = trace.or_else(|| stale.trace.clone());
        stale.trace.clone_from(&trace);
    }
    let mut deadline: u64 =
        header("lambda-runtime-deadline-ms").and_then(|text| text.parse().ok()).unwrap_or(0);
    if has("context-deadline") {
        deadline /= 1000;
    }
    let mut arn = header("lambda-runtime-invoked-function-arn").unwrap_or_default();
    if has("context-arn") {
        arn = arn.split(':').take(7).collect::<Vec<_>>().join(":");
    }
    let mut variable = std::env::var("LAMBFOLD_CONFORM_VARIABLE").ok();
    if has("environment-variables") {
        variable = variable.map(|text| text.replace('"', ""));
    }
    let unless = |fault: &str, value: Value| if has(fault) { Value::Null } else { value };
    json!({
        "requestId": id,
        "deadlineMs": deadline,
        "invokedFunctionArn": arn,
        "traceId": unless("context-trace", json!(trace)),
        "clientContext": unless("context-client", decoded("lambda-runtime-client-context")),
        "cognitoIdentity": unless("context-cognito", decoded("lambda-runtime-cognito-identity")),
        "tenantId": unless("context-tenant", json!(header("lambda-runtime-aws-tenant-id"))),
        "variable": variable,
    })
}

fn echo(invocation: &Invocation) -> Answer {
    let mut body = invocation.body.clone();
    let refused = |why: &str| {
        Answer::Error(json!({ "errorMessage": why, "errorType": "Puppet.Event" }).to_string())
    };
    let text = std::str::from_utf8(&body).ok();
    match crate::fault() {
        "event-empty" if body.is_empty() => std::process::exit(1),
        "event-scalar" if matches!(body.first(), Some(b'0'..=b'9' | b'-' | b't' | b'n')) => {
            body = b"{}".to_vec();
        }
        "event-utf8" => {
            if let Some(text) = text {
                body = text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect();
            }
        }
        "event-escapes" => {
            if let Some(text) = text {
                body = text.replace("\\u0000", "").into_bytes();
            }
        }
        "event-binary" if text.is_none() => std::process::exit(1),
        "event-whitespace" if text.is_some() => {
            let trimmed = body.trim_ascii_start();
            body = trimmed.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        }
        "event-content-type" if invocation.header("content-type") != Some("application/json") => {
            return refused("an event must be JSON");
        }
        "event-sizes" if body.len() == 65_536 => {
            body.pop();
        }
        "event-6mib" if body.len() > 4 << 20 => return refused("the event is too large"),
        "event-deep" if body.iter().take_while(|byte| **byte == b'[').count() > 64 => {
            return refused("the event is too deep");
        }
        _ => {}
    }
    Answer::Response(body)
}
