use super::shared;
use crate::args::{Format, Invoke};
use crate::client::{Answer, Body, Request, Service, encode};
use crate::failure::{Exit, Failure};
use crate::output;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};

pub(crate) fn run(args: &Invoke) -> Result<Exit, Failure> {
    shared::function(&args.function)?;
    let payload = read_payload(&args.payload)?;
    let client = shared::connect(&args.connection)?;
    let answer = client
        .send(request(args, payload))
        .map_err(|error| shared::explain_function(&error, &args.function))?;
    if args.queued {
        return report_queued(args, &answer);
    }
    let log = log_tail(&answer);
    if let (Some(log), Format::Text) = (&log, args.printing.format) {
        output::talk(log.trim_end_matches('\n'));
    }
    match args.printing.format {
        Format::Text => print_payload(&answer.body)?,
        Format::Json => output::json(&describe(&answer, log.as_deref()))?,
    }
    match answer.header("x-amz-function-error") {
        None => Ok(Exit::Done),
        Some(kind) => {
            output::warn(&format!("the function returned an error ({kind})"));
            if never_ran(&answer.body) {
                let qualifier = args.qualifier.as_deref();
                for finding in shared::diagnosis(&client, &args.function, qualifier) {
                    output::hint(&finding);
                }
            }
            if !args.tail {
                output::hint(&format!("its log: lambfold logs {}", args.function));
            }
            Ok(Exit::FunctionError)
        }
    }
}

/// Whether an error document says that the bootstrap could not be executed, or ended as a program
/// does that lacks a library or an interpreter.
fn never_ran(document: &[u8]) -> bool {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let message = document["errorMessage"].as_str().unwrap_or_default();
    match document["errorType"].as_str() {
        Some("Runtime.InvalidEntrypoint") => true,
        Some("Runtime.ExitError") => {
            ["exit status 126", "exit status 127"].iter().any(|end| message.ends_with(end))
        }
        _ => false,
    }
}

fn request(args: &Invoke, payload: Vec<u8>) -> Request {
    let path = format!("/2015-03-31/functions/{}/invocations", encode(&args.function));
    let mut request = Request::new(Service::Lambda, "POST", path)
        .header("content-type", "application/json")
        .body(Body::Bytes(payload))
        .patient();
    if let Some(qualifier) = &args.qualifier {
        request = request.query("Qualifier", qualifier);
    }
    if args.queued {
        request = request.header("x-amz-invocation-type", "Event");
    }
    if args.tail {
        request = request.header("x-amz-log-type", "Tail");
    }
    request
}

fn report_queued(args: &Invoke, answer: &Answer) -> Result<Exit, Failure> {
    let id = answer.header("x-amzn-requestid").unwrap_or_default();
    match args.printing.format {
        Format::Text => {
            output::talk(&format!("queued as request {id}"));
            output::hint(&format!(
                "see what becomes of it: lambfold logs {} --follow",
                args.function
            ));
        }
        Format::Json => output::json(&json!({"StatusCode": answer.status, "RequestId": id}))?,
    }
    Ok(Exit::Done)
}

/// The payload as it is, and a line's end only for a person.
fn print_payload(payload: &[u8]) -> Result<(), Failure> {
    output::data(payload)?;
    if std::io::stdout().is_terminal() && !payload.ends_with(b"\n") {
        output::data(b"\n")?;
    }
    Ok(())
}

fn log_tail(answer: &Answer) -> Option<String> {
    let bytes = STANDARD.decode(answer.header("x-amz-log-result")?).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn describe(answer: &Answer, log: Option<&str>) -> Value {
    let payload: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into());
    json!({
        "StatusCode": answer.status,
        "RequestId": answer.header("x-amzn-requestid"),
        "ExecutedVersion": answer.header("x-amz-executed-version"),
        "FunctionError": answer.header("x-amz-function-error"),
        "LogResult": log,
        "Payload": payload,
    })
}

/// Reads the event and makes sure that it is JSON, since what a shell did to its quotes is
/// easier seen here than in a server's answer.
fn read_payload(argument: &str) -> Result<Vec<u8>, Failure> {
    let (payload, origin) = match argument.strip_prefix('@') {
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|error| Failure::failed(format!("could not read {path}")).cause(&error))?;
            (bytes, path.to_owned())
        }
        None if argument == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::failed("could not read standard input").cause(&error))?;
            (bytes, "standard input".to_owned())
        }
        None => (argument.as_bytes().to_vec(), "--payload".to_owned()),
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        Ok(_) => Ok(payload),
        Err(error) => {
            Err(Failure::usage(format!("the payload from {origin} is not JSON")).cause(&error).hint(
                "JSON in single quotes survives the shell: --payload '{\"key\": \"value\"}'; a file: --payload @FILE",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_or_refused_with_their_origin() {
        assert_eq!(read_payload("{\"a\":1}"), Ok(b"{\"a\":1}".to_vec()));
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(read_payload(&deep), Ok(deep.clone().into_bytes()));
        let failure = read_payload("{a:1}").expect_err("not JSON");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.lines().next().is_some_and(|(_, text)| text.contains("--payload")));
        let missing = read_payload("@/nonexistent").expect_err("no such file");
        assert_eq!(missing.exit(), Exit::Failed);
    }
}
