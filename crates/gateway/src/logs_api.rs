//! The part of the CloudWatch Logs API (JSON 1.1) that `aws logs tail` and its like need.

use crate::answer::{self, Answer};
use lambfold_logs::{
    CreateGroupError, Event, EventsQuery, FilterPattern, FilterQuery, GroupsQuery, Logs,
    QueryError, StreamFilter, StreamOrder, StreamsQuery,
};
use lambfold_types::Scope;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the header `X-Amz-Target` of this API begins with.
pub(crate) const TARGET: &str = "Logs_20140328.";
/// Largest request body, bytes.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;

/// Why a request is refused, as JSON 1.1 says it.
#[derive(Debug)]
struct Refused {
    code: &'static str,
    message: String,
    status: u16,
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: 400 }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        let not_found = |what| {
            Self::new("ResourceNotFoundException", format!("The specified {what} does not exist."))
        };
        match error {
            QueryError::NoGroup { .. } => not_found("log group"),
            QueryError::NoStream { .. } => not_found("log stream"),
            QueryError::Token { .. } => Self::invalid("The specified nextToken is invalid."),
            error @ QueryError::Read { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "logs query failed");
                Self {
                    code: "ServiceUnavailableException",
                    message: "The service cannot complete the request.".to_owned(),
                    status: 500,
                }
            }
        }
    }
}

/// Answers one request; `operation` is what follows [`TARGET`] in the header.
pub(crate) async fn answer(logs: Logs, scope: Scope, operation: &str, body: &[u8]) -> Answer {
    let result = match plan(operation, body) {
        // Queries read files.
        Ok(plan) => tokio::task::spawn_blocking(move || plan.run(&logs, &scope))
            .await
            .unwrap_or_else(|_| {
                Err(Refused {
                    code: "ServiceUnavailableException",
                    message: "The service cannot complete the request.".to_owned(),
                    status: 500,
                })
            }),
        Err(refused) => Err(refused),
    };
    match result {
        Ok(Value::Null) => answer::json_1_1(200, "{}"),
        Ok(value) => answer::json_1_1(200, value.to_string()),
        Err(refused) => refusal(refused.status, refused.code, &refused.message),
    }
}

/// An error of JSON 1.1.
pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({"__type": code, "message": message}).to_string();
    let mut answer = answer::json_1_1(status, body);
    answer::set(&mut answer, answer::ERROR_TYPE, code);
    answer
}

enum Plan {
    Filter(Filter),
    Events(Events),
    Groups(Groups),
    Streams(Streams),
    CreateGroup(Group),
    DeleteGroup(Group),
}

fn plan(operation: &str, body: &[u8]) -> Result<Plan, Refused> {
    fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
        let body = if body.is_empty() { b"{}" } else { body };
        serde_json::from_slice(body)
            .map_err(|error| Refused::new("SerializationException", error.to_string()))
    }
    match operation {
        "FilterLogEvents" => Ok(Plan::Filter(read(body)?)),
        "GetLogEvents" => Ok(Plan::Events(read(body)?)),
        "DescribeLogGroups" => Ok(Plan::Groups(read(body)?)),
        "DescribeLogStreams" => Ok(Plan::Streams(read(body)?)),
        "CreateLogGroup" => Ok(Plan::CreateGroup(read(body)?)),
        "DeleteLogGroup" => Ok(Plan::DeleteGroup(read(body)?)),
        _ => Err(Refused::new(
            "UnknownOperationException",
            format!(
                "Lambfold does not implement {} of CloudWatch Logs; it has FilterLogEvents, GetLogEvents, DescribeLogGroups, DescribeLogStreams, CreateLogGroup and DeleteLogGroup",
                operation.chars().take(100).collect::<String>()
            ),
        )),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    log_group_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<i64>,
    start_from_head: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Groups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Streams {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<i64>,
}

/// The group's name, from a name or from an ARN.
fn group(name: Option<String>, identifier: Option<String>) -> Result<String, Refused> {
    match (name, identifier) {
        (Some(name), None) => Ok(name),
        (None, Some(identifier)) => Ok(match identifier.split_once(":log-group:") {
            Some((_, name)) => name.trim_end_matches(":*").to_owned(),
            None => identifier,
        }),
        _ => Err(Refused::invalid(
            "Exactly one of logGroupName and logGroupIdentifier must be specified.",
        )),
    }
}

fn limit(given: Option<i64>, max: usize) -> Result<usize, Refused> {
    let Some(given) = given else { return Ok(max) };
    usize::try_from(given).ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(|| {
        Refused::invalid(format!(
            "1 validation error detected: Value '{given}' at 'limit' failed to satisfy constraint: Member must have value between 1 and {max}"
        ))
    })
}

fn time(given: Option<i64>) -> Result<Option<u64>, Refused> {
    given
        .map(|time| {
            u64::try_from(time)
                .map_err(|_| Refused::invalid("Times are milliseconds since 1970, not negative."))
        })
        .transpose()
}

/// `arn:aws:logs:<region>:<account>:log-group:<group>`
fn group_arn(scope: &Scope, group: &str) -> String {
    let partition = scope.region.partition().as_str();
    format!("arn:{partition}:logs:{}:{}:log-group:{group}", scope.region, scope.account)
}

impl Plan {
    fn run(self, logs: &Logs, scope: &Scope) -> Result<Value, Refused> {
        match self {
            Self::Filter(request) => request.run(logs, scope),
            Self::Events(request) => request.run(logs, scope),
            Self::Groups(request) => request.run(logs, scope),
            Self::Streams(request) => request.run(logs, scope),
            Self::CreateGroup(request) => request.create(logs, scope),
            Self::DeleteGroup(request) => {
                logs.delete_group(scope, &request.log_group_name)?;
                Ok(Value::Null)
            }
        }
    }
}

impl Group {
    fn create(&self, logs: &Logs, scope: &Scope) -> Result<Value, Refused> {
        let name = &self.log_group_name;
        let valid = (1..=512).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b));
        if !valid {
            return Err(Refused::invalid(
                "A log group name has 1 to 512 letters, digits, '.', '-', '_', '/' and '#'.",
            ));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or_default();
        logs.create_group(scope, name, now).map_err(|error| match error {
            CreateGroupError::Exists { .. } => Refused::new(
                "ResourceAlreadyExistsException",
                "The specified log group already exists",
            ),
            error @ CreateGroupError::Folder { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "no log group made");
                Refused {
                    code: "ServiceUnavailableException",
                    message: "The service cannot complete the request.".to_owned(),
                    status: 500,
                }
            }
        })?;
        Ok(Value::Null)
    }
}

impl Filter {
    fn run(self, logs: &Logs, scope: &Scope) -> Result<Value, Refused> {
        let group = group(self.log_group_name, self.log_group_identifier)?;
        let streams = match (self.log_stream_names, self.log_stream_name_prefix) {
            (Some(_), Some(_)) => {
                return Err(Refused::invalid(
                    "logStreamNamePrefix and logStreamNames cannot both be specified.",
                ));
            }
            (Some(names), None) => StreamFilter::Names(names),
            (None, Some(prefix)) => StreamFilter::Prefix(prefix),
            (None, None) => StreamFilter::All,
        };
        let pattern = FilterPattern::parse(self.filter_pattern.as_deref().unwrap_or_default())
            .map_err(|error| Refused::invalid(format!("Invalid filter pattern: {error}")))?;
        let page = logs.filter(&FilterQuery {
            scope,
            group: &group,
            streams,
            start_ms: time(self.start_time)?,
            end_ms: time(self.end_time)?,
            pattern,
            limit: limit(self.limit, 10_000)?,
            token: self.next_token.as_deref(),
        })?;
        let events: Vec<Value> = page
            .events
            .iter()
            .map(|event| {
                let mut value = event_value(event);
                value["logStreamName"] = Value::from(&*event.stream);
                value["eventId"] = Value::from(event.id());
                value
            })
            .collect();
        let mut answer = json!({"events": events, "searchedLogStreams": []});
        if let Some(token) = page.token {
            answer["nextToken"] = Value::from(token);
        }
        Ok(answer)
    }
}

fn event_value(event: &Event) -> Value {
    json!({
        "timestamp": event.epoch_ms,
        "message": event.message(),
        "ingestionTime": event.ingestion_ms(),
    })
}

impl Events {
    fn run(self, logs: &Logs, scope: &Scope) -> Result<Value, Refused> {
        let group = group(self.log_group_name, self.log_group_identifier)?;
        let page = logs.events(&EventsQuery {
            scope,
            group: &group,
            stream: &self.log_stream_name,
            start_ms: time(self.start_time)?,
            end_ms: time(self.end_time)?,
            start_from_head: self.start_from_head.unwrap_or_default(),
            limit: limit(self.limit, 10_000)?,
            token: self.next_token.as_deref(),
        })?;
        let events: Vec<Value> = page.events.iter().map(event_value).collect();
        Ok(json!({
            "events": events,
            "nextForwardToken": page.forward,
            "nextBackwardToken": page.backward,
        }))
    }
}

impl Groups {
    fn run(self, logs: &Logs, scope: &Scope) -> Result<Value, Refused> {
        let page = logs.groups(&GroupsQuery {
            scope,
            prefix: self.log_group_name_prefix.as_deref(),
            contains: self.log_group_name_pattern.as_deref(),
            limit: limit(self.limit, 50)?,
            token: self.next_token.as_deref(),
        })?;
        let groups: Vec<Value> = page
            .groups
            .iter()
            .map(|group| {
                let arn = group_arn(scope, &group.name);
                json!({
                    "logGroupName": group.name,
                    "creationTime": group.created_ms,
                    "metricFilterCount": 0,
                    "arn": format!("{arn}:*"),
                    "storedBytes": group.stored_bytes,
                    "logGroupClass": "STANDARD",
                    "logGroupArn": arn,
                })
            })
            .collect();
        let mut answer = json!({"logGroups": groups});
        if let Some(token) = page.token {
            answer["nextToken"] = Value::from(token);
        }
        Ok(answer)
    }
}

impl Streams {
    fn run(self, logs: &Logs, scope: &Scope) -> Result<Value, Refused> {
        let group = group(self.log_group_name, self.log_group_identifier)?;
        let order = match self.order_by.as_deref() {
            None | Some("LogStreamName") => StreamOrder::Name,
            Some("LastEventTime") => StreamOrder::LastEvent,
            Some(other) => {
                return Err(Refused::invalid(format!(
                    "1 validation error detected: Value '{}' at 'orderBy' failed to satisfy constraint: Member must satisfy enum value set: [LogStreamName, LastEventTime]",
                    other.chars().take(100).collect::<String>()
                )));
            }
        };
        if order == StreamOrder::LastEvent && self.log_stream_name_prefix.is_some() {
            return Err(Refused::invalid(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
        let page = logs.streams(&StreamsQuery {
            scope,
            group: &group,
            prefix: self.log_stream_name_prefix.as_deref(),
            order,
            descending: self.descending.unwrap_or_default(),
            limit: limit(self.limit, 50)?,
            token: self.next_token.as_deref(),
        })?;
        let arn = group_arn(scope, &group);
        let streams: Vec<Value> = page
            .streams
            .iter()
            .map(|stream| {
                json!({
                    "logStreamName": &*stream.name,
                    "creationTime": stream.first_event_ms,
                    "firstEventTimestamp": stream.first_event_ms,
                    "lastEventTimestamp": stream.last_event_ms,
                    "lastIngestionTime": stream.last_ingestion_ms,
                    "arn": format!("{arn}:log-stream:{}", stream.name),
                    "storedBytes": 0,
                })
            })
            .collect();
        let mut answer = json!({"logStreams": streams});
        if let Some(token) = page.token {
            answer["nextToken"] = Value::from(token);
        }
        Ok(answer)
    }
}
