use super::{Format, is_of_connection};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use time::OffsetDateTime;
use time::macros::format_description;

/// Identifier of the API in events; there is none behind them.
const API: &str = "lambfold";

/// A request, and what its event says of it besides.
#[derive(Debug)]
pub struct Request<'a> {
    /// Method, target and headers.
    pub head: &'a Parts,
    /// The whole body.
    pub body: &'a [u8],
    /// Who sent it.
    pub peer: IpAddr,
    /// The port that it came in on.
    pub port: u16,
    /// A UUID.
    pub id: &'a str,
    /// When it came, milliseconds since 1970.
    pub epoch_ms: u64,
    /// The account, 12 digits.
    pub account: &'a str,
    /// The region of ARNs.
    pub region: &'a str,
}

/// The event of a request. Header values that are not UTF-8 lose what is not.
#[must_use]
pub fn event(format: Format, request: &Request<'_>) -> Value {
    let parts = Message::of(request);
    match format {
        Format::ApiGatewayV2 => version_2(request, &parts, request.account),
        Format::FunctionUrl => version_2(request, &parts, "anonymous"),
        Format::ApiGatewayProxy => version_1(request, &parts),
        Format::Alb => load_balancer(request, &parts),
    }
}

/// What the formats share.
struct Message<'a> {
    path: &'a str,
    query: &'a str,
    /// Names in lower case, in order, those of the way to us included.
    headers: Vec<(String, String)>,
    host: String,
    agent: String,
    time: String,
}

impl<'a> Message<'a> {
    fn of(request: &Request<'a>) -> Self {
        let head = request.head;
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let one = |name| head.headers.get(name).map(text).unwrap_or_default();
        let mut headers: Vec<(String, String)> = head
            .headers
            .iter()
            .filter(|(name, _)| !is_of_connection(name.as_str()))
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect();
        // Whoever claims to have forwarded the request is not in front of us.
        headers.retain(|(name, _)| !name.starts_with("x-forwarded-") && name != "x-amzn-trace-id");
        let id: String = request.id.chars().filter(char::is_ascii_hexdigit).take(24).collect();
        let seconds = request.epoch_ms / 1_000;
        headers.push(("x-amzn-trace-id".into(), format!("Root=1-{seconds:08x}-{id:0<24}")));
        headers.push(("x-forwarded-for".into(), request.peer.to_string()));
        headers.push(("x-forwarded-port".into(), request.port.to_string()));
        headers.push(("x-forwarded-proto".into(), "http".into()));
        let host = one(HOST);
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
            _ => host,
        };
        Self {
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers,
            host: name,
            agent: one(USER_AGENT),
            time: access_log_time(request.epoch_ms),
        }
    }

    /// The pairs of the query; in plain.
    fn query_pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.encoded_query_pairs().map(|(name, value)| (decode(name), decode(value)))
    }

    /// As they were sent.
    fn encoded_query_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn prefix(&self) -> &str {
        self.host.split('.').next().unwrap_or_default()
    }
}

fn version_2(request: &Request<'_>, message: &Message<'_>, account: &str) -> Value {
    let cookies: Vec<&str> = message
        .headers
        .iter()
        .filter(|(name, _)| name == COOKIE.as_str())
        .flat_map(|(_, value)| value.split("; "))
        .filter(|cookie| !cookie.is_empty())
        .collect();
    let mut headers = Map::new();
    for (name, value) in message.headers.iter().filter(|(name, _)| name != COOKIE.as_str()) {
        append(&mut headers, name, value);
    }
    let mut query = Map::new();
    for (name, value) in message.query_pairs() {
        append(&mut query, &name, &value);
    }
    let (is_encoded, body) = body(request, false);
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": message.path,
        "rawQueryString": message.query,
        "headers": headers,
        "requestContext": {
            "accountId": account,
            "apiId": API,
            "domainName": message.host,
            "domainPrefix": message.prefix(),
            "http": {
                "method": request.head.method.as_str(),
                "path": message.path,
                "protocol": protocol(request.head),
                "sourceIp": request.peer.to_string(),
                "userAgent": message.agent,
            },
            "requestId": request.id,
            "routeKey": "$default",
            "stage": "$default",
            "time": message.time,
            "timeEpoch": request.epoch_ms,
        },
        "isBase64Encoded": is_encoded,
    });
    // What is empty is left out.
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    if !query.is_empty() {
        event["queryStringParameters"] = query.into();
    }
    if !request.body.is_empty() {
        event["body"] = body.into();
    }
    event
}

fn version_1(request: &Request<'_>, message: &Message<'_>) -> Value {
    let (mut headers, mut all_headers) = (Map::new(), Map::new());
    for (name, value) in &message.headers {
        let name = title_case(name);
        headers.insert(name.clone(), value.as_str().into());
        collect(&mut all_headers, &name, value);
    }
    let (mut query, mut all_query) = (Map::new(), Map::new());
    for (name, value) in message.query_pairs() {
        collect(&mut all_query, &name, &value);
        query.insert(name, value.into());
    }
    let or_null = |map: Map<String, Value>| if map.is_empty() { Value::Null } else { map.into() };
    let (is_encoded, body) = body(request, true);
    let rest = decode_path(message.path.trim_start_matches('/'));
    let (resource, parameters) = match rest.as_str() {
        "" => ("/", Value::Null),
        rest => ("/{proxy+}", json!({"proxy": rest})),
    };
    json!({
        "resource": resource,
        "path": message.path,
        "httpMethod": request.head.method.as_str(),
        "headers": headers,
        "multiValueHeaders": all_headers,
        "queryStringParameters": or_null(query),
        "multiValueQueryStringParameters": or_null(all_query),
        "pathParameters": parameters,
        "stageVariables": null,
        "requestContext": {
            "accountId": request.account,
            "apiId": API,
            "domainName": message.host,
            "domainPrefix": message.prefix(),
            "extendedRequestId": request.id,
            "httpMethod": request.head.method.as_str(),
            "identity": {
                "accessKey": null, "accountId": null, "caller": null,
                "cognitoAuthenticationProvider": null, "cognitoAuthenticationType": null,
                "cognitoIdentityId": null, "cognitoIdentityPoolId": null, "principalOrgId": null,
                "sourceIp": request.peer.to_string(), "user": null,
                "userAgent": message.agent, "userArn": null,
            },
            // The stage is not in the path that people open, so it is in no path here.
            "path": message.path,
            "protocol": protocol(request.head),
            "requestId": request.id,
            "requestTime": message.time,
            "requestTimeEpoch": request.epoch_ms,
            "resourceId": API,
            "resourcePath": resource,
            "stage": "dev",
        },
        "body": if request.body.is_empty() { Value::Null } else { body.into() },
        "isBase64Encoded": is_encoded,
    })
}

fn load_balancer(request: &Request<'_>, message: &Message<'_>) -> Value {
    let mut headers = Map::new();
    for (name, value) in &message.headers {
        headers.insert(name.clone(), value.as_str().into());
    }
    let mut query = Map::new();
    for (name, value) in message.encoded_query_pairs() {
        query.insert(name.to_owned(), value.into());
    }
    let (is_encoded, body) = body(request, false);
    let arn = format!(
        "arn:aws:elasticloadbalancing:{}:{}:targetgroup/{API}/0000000000000000",
        request.region, request.account
    );
    json!({
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": request.head.method.as_str(),
        "path": message.path,
        "queryStringParameters": query,
        "headers": headers,
        "body": body,
        "isBase64Encoded": is_encoded,
    })
}

/// The body as text, or in base64 where it is none. A REST API takes every text for one.
fn body(request: &Request<'_>, any_type: bool) -> (bool, String) {
    let header = |name| request.head.headers.get(name).map(|value| value.as_bytes());
    let kind = header(CONTENT_TYPE).unwrap_or_default();
    let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_text = any_type
        || kind.is_empty()
        || kind.starts_with("text/")
        || ["json", "javascript", "xml"].iter().any(|format| {
            let of = kind.strip_prefix("application/").and_then(|rest| rest.strip_suffix(format));
            of.is_some_and(|rest| rest.is_empty() || rest.ends_with('+'))
        });
    let plain = is_text && header(CONTENT_ENCODING).is_none();
    match std::str::from_utf8(request.body) {
        Ok(text) if plain || text.is_empty() => (false, text.to_owned()),
        _ => (true, STANDARD.encode(request.body)),
    }
}

fn append(map: &mut Map<String, Value>, name: &str, value: &str) {
    match map.get_mut(name) {
        Some(Value::String(text)) => {
            text.push(',');
            text.push_str(value);
        }
        _ => drop(map.insert(name.to_owned(), value.into())),
    }
}

fn collect(map: &mut Map<String, Value>, name: &str, value: &str) {
    match map.get_mut(name) {
        Some(Value::Array(list)) => list.push(value.into()),
        _ => drop(map.insert(name.to_owned(), json!([value]))),
    }
}

/// Of a query, where a plus sign is a blank.
fn decode(text: &str) -> String {
    decode_path(&text.replace('+', " "))
}

fn decode_path(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// As names of headers are mostly written: the library has them in lower case.
fn title_case(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let this = if start { c.to_ascii_uppercase() } else { c };
            start = c == '-';
            this
        })
        .collect()
}

fn protocol(head: &Parts) -> String {
    format!("{:?}", head.version)
}

fn access_log_time(epoch_ms: u64) -> String {
    let format =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    let seconds = i64::try_from(epoch_ms / 1_000).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(format).ok()).unwrap_or_default()
}
