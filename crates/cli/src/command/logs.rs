use super::shared;
use crate::args::{Format, Logs};
use crate::client::{Body, Client, ClientError, Request, Service, encode};
use crate::failure::{Exit, Failure};
use crate::output;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

/// Between two looks for new lines.
const POLL: Duration = Duration::from_millis(500);
/// Lines are stored behind the answer, so that one may appear after a later one was read:
/// every look begins this much before the newest line, milliseconds.
const OVERLAP_MS: i64 = 5_000;

pub(crate) fn run(args: &Logs) -> Result<Exit, Failure> {
    let function = shared::function(&args.function)?;
    let since_ms = parse_since(&args.since)?;
    let client = shared::connect(&args.connection)?;
    let group = log_group(&client, &args.function, function.name.as_str())?;
    let now_ms = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000)
        .unwrap_or(i64::MAX);
    let mut cursor = Cursor::new(now_ms.saturating_sub(since_ms));
    loop {
        let printed = look(&client, &group, &mut cursor, args.printing.format)
            .map_err(|lost| lost.explain(&args.function))?;
        if !args.follow {
            if printed == 0 {
                output::talk(&format!("no log lines in the last {}", args.since));
                output::hint(
                    "look further back with --since 2h, or wait for new ones with --follow",
                );
            }
            return Ok(Exit::Done);
        }
        std::thread::sleep(POLL);
    }
}

/// One look: all pages of what the cursor has not seen, printed. Returns the number of lines.
fn look(client: &Client, group: &str, cursor: &mut Cursor, format: Format) -> Result<usize, Lost> {
    let mut printed = 0;
    let mut token: Option<String> = None;
    cursor.begin();
    loop {
        let page = match fetch(client, group, cursor.start_ms(), token.as_deref()) {
            Ok(page) => page,
            // A group appears with its first line.
            Err(error) if error.is("ResourceNotFoundException") => return Ok(printed),
            Err(error) => return Err(Lost::Request(error)),
        };
        for event in page.events {
            if cursor.is_new(&event) {
                output::line(&event.show(format)).map_err(Lost::Output)?;
                printed += 1;
            }
        }
        match page.next_token {
            // A token that stays the same would never end.
            Some(next) if token.as_ref() != Some(&next) => token = Some(next),
            _ => return Ok(printed),
        }
    }
}

/// Why a look ended early.
enum Lost {
    Request(ClientError),
    Output(Failure),
}

impl Lost {
    fn explain(self, function: &str) -> Failure {
        match self {
            Self::Request(error) => shared::explain_function(&error, function),
            Self::Output(failure) => failure,
        }
    }
}

/// Where the function logs. A function that is gone may have left its lines in the usual place.
fn log_group(client: &Client, reference: &str, name: &str) -> Result<String, Failure> {
    let usual = format!("/aws/lambda/{name}");
    let path = format!("/2015-03-31/functions/{}/configuration", encode(reference));
    match client.send_for_json(Request::new(Service::Lambda, "GET", path)) {
        Ok(configuration) => {
            let chosen = configuration.pointer("/LoggingConfig/LogGroup").and_then(Value::as_str);
            Ok(chosen.map_or(usual, str::to_owned))
        }
        Err(gone) if gone.is("ResourceNotFoundException") => match fetch(client, &usual, 0, None) {
            Ok(_) => Ok(usual),
            Err(_) => Err(shared::explain_function(&gone, reference)),
        },
        Err(error) => Err(shared::explain(&error)),
    }
}

fn fetch(
    client: &Client,
    group: &str,
    start_ms: i64,
    token: Option<&str>,
) -> Result<Page, ClientError> {
    let mut input = json!({"logGroupName": group, "startTime": start_ms});
    if let Some(token) = token {
        input["nextToken"] = token.into();
    }
    let request = Request::new(Service::Logs, "POST", "/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "Logs_20140328.FilterLogEvents")
        .body(Body::Bytes(input.to_string().into_bytes()));
    let value = client.send_for_json(request)?;
    serde_json::from_value(value).map_err(|error| ClientError::NotTheApi {
        endpoint: client.endpoint().clone(),
        what: error.to_string(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    events: Vec<Event>,
    next_token: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    log_stream_name: String,
    timestamp: i64,
    message: String,
    event_id: String,
}

impl Event {
    fn show(&self, format: Format) -> String {
        let time = show_time(self.timestamp);
        match format {
            Format::Text => format!("{time} {}", self.message.trim_end_matches(['\n', '\r'])),
            Format::Json => json!({
                "timestamp": time,
                "logStreamName": self.log_stream_name,
                "eventId": self.event_id,
                "message": self.message,
            })
            .to_string(),
        }
    }
}

fn show_time(epoch_ms: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| epoch_ms.to_string())
}

/// What has been printed. Looks overlap, and an event is known by its id; ids older than the
/// overlap can no longer come back and are forgotten.
struct Cursor {
    start_ms: i64,
    newest_ms: i64,
    seen: BTreeMap<i64, BTreeSet<String>>,
}

impl Cursor {
    fn new(start_ms: i64) -> Self {
        let start_ms = start_ms.max(0);
        Self { start_ms, newest_ms: start_ms, seen: BTreeMap::new() }
    }

    /// Fixes the start of the next look; pages of one look share it.
    fn begin(&mut self) {
        self.start_ms = self.start_ms.max(self.newest_ms - OVERLAP_MS);
        self.seen = self.seen.split_off(&self.start_ms);
    }

    fn start_ms(&self) -> i64 {
        self.start_ms
    }

    fn is_new(&mut self, event: &Event) -> bool {
        self.newest_ms = self.newest_ms.max(event.timestamp);
        self.seen.entry(event.timestamp).or_default().insert(event.event_id.clone())
    }
}

/// Milliseconds of `90s`, `10m`, `2h`, `1d`.
fn parse_since(text: &str) -> Result<i64, Failure> {
    let invalid = || {
        Failure::usage(format!("duration {text:?} is not a number with s, m, h or d"))
            .hint("for example --since 10m")
    };
    let unit_ms = match text.chars().last().ok_or_else(invalid)? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(invalid()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| invalid())?;
    Ok(i64::from(number) * unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(timestamp: i64, id: &str) -> Event {
        Event { log_stream_name: "s".into(), timestamp, message: "m\n".into(), event_id: id.into() }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_since("90s"), Ok(90_000));
        assert_eq!(parse_since("10m"), Ok(600_000));
        assert_eq!(parse_since("2h"), Ok(7_200_000));
        assert_eq!(parse_since("1d"), Ok(86_400_000));
        for text in ["", "10", "m", "-1m", "1.5h", "10é", "99999999999d"] {
            assert_eq!(parse_since(text).map_err(|f| f.exit()), Err(Exit::Usage), "{text}");
        }
    }

    #[test]
    fn an_event_is_printed_once_though_looks_overlap() {
        let mut cursor = Cursor::new(1_000);
        cursor.begin();
        assert_eq!(cursor.start_ms(), 1_000);
        assert!(cursor.is_new(&event(100_000, "a")));
        cursor.begin();
        assert_eq!(cursor.start_ms(), 95_000);
        assert!(!cursor.is_new(&event(100_000, "a")));
        assert!(cursor.is_new(&event(100_000, "b")));
        // Stored late, within the overlap.
        assert!(cursor.is_new(&event(96_000, "c")));
        cursor.begin();
        assert!(!cursor.is_new(&event(96_000, "c")));
    }

    #[test]
    fn the_memory_of_a_cursor_is_bounded_by_the_overlap() {
        let mut cursor = Cursor::new(0);
        for second in 0..100 {
            cursor.begin();
            assert!(cursor.is_new(&event(second * 1_000, &second.to_string())));
        }
        assert!(cursor.seen.len() <= 7, "{}", cursor.seen.len());
    }

    #[test]
    fn lines_as_text_and_json() {
        let event = event(1_763_823_845_123, "1");
        assert_eq!(event.show(Format::Text), "2025-11-22T15:04:05.123Z m");
        let json: Value = serde_json::from_str(&event.show(Format::Json)).expect("JSON");
        assert_eq!(json["message"], "m\n");
        assert_eq!(json["timestamp"], "2025-11-22T15:04:05.123Z");
    }
}
