//! `fault`: switches faults on purpose on and off, over `/_lambfold/v1/faults`.

use super::{duration, shared};
use crate::args::{Fault, FaultKind, Format, word};
use crate::client::{Client, ClientError, Request, Service};
use crate::failure::{Exit, Failure};
use crate::output;
use serde_json::{Map, Value, json};
use std::time::Duration;

const PATH: &str = "/_lambfold/v1/faults";
/// Longest that a server takes; told here already, in the words of the command line.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run(args: &Fault) -> Result<Exit, Failure> {
    if let Some(function) = &args.function {
        shared::function(function)?;
    }
    let asked = if args.list || args.clear { None } else { Some(asked(args)?) };
    let client = shared::connect(&args.connection)?;
    let mut request = match (&asked, args.clear) {
        (Some(body), _) => Request::new(Service::Lambda, "PUT", PATH).json(body),
        (None, true) => Request::new(Service::Lambda, "DELETE", PATH),
        (None, false) => Request::new(Service::Lambda, "GET", PATH),
    };
    if let Some(function) = &args.function {
        request = request.query("function", function);
    }
    if let Some(qualifier) = &args.qualifier {
        request = request.query("qualifier", qualifier);
    }
    if let (Some(kind), true) = (args.kind, args.clear) {
        request = request.query("kind", &word(kind));
    }
    let answer = client.send_for_json(request).map_err(|error| {
        let function = args.function.as_deref().unwrap_or("NAME");
        shared::explain_function(&error, function)
    })?;
    if args.printing.format == Format::Json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let faults = answer["Faults"].as_array().map(Vec::as_slice).unwrap_or_default();
    for fault in faults {
        output::line(&line(fault))?;
    }
    match (&asked, args.clear) {
        (Some(_), _) => report_on(args, faults),
        (None, true) if faults.is_empty() => output::talk("nothing was on"),
        (None, true) => output::talk("switched off"),
        (None, false) if faults.is_empty() => output::talk("no fault is on"),
        (None, false) => {}
    }
    Ok(Exit::Done)
}

/// The faults that are on in the client's region.
pub(crate) fn list(client: &Client) -> Result<Vec<Value>, ClientError> {
    let mut answer = client.send_for_json(Request::new(Service::Lambda, "GET", PATH))?;
    Ok(answer["Faults"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

fn asked(args: &Fault) -> Result<Value, Failure> {
    let time = |option: &str, text: &Option<String>| {
        text.as_deref()
            .map(|text| {
                duration::parse(text).ok_or_else(|| {
                    Failure::usage(format!(
                        "{option} {text} is not a duration; for example 200ms, 30s, 10m or 2h"
                    ))
                })
            })
            .transpose()
    };
    let lasts = time("--for", &args.lasts)?.unwrap_or_default();
    if lasts < Duration::from_secs(1) || lasts > LONGEST {
        return Err(Failure::usage("--for is at least 1s and at most 24h"));
    }
    if args.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
        return Err(Failure::usage("--rate is a number above 0 and at most 1"));
    }
    let kind = args.kind.unwrap_or(FaultKind::SlowNext);
    let delay = time("--delay", &args.delay)?;
    let remaining = time("--remaining", &args.remaining)?;
    for (option, given, has) in [
        ("--delay", delay.is_some(), kind == FaultKind::SlowNext),
        ("--remaining", remaining.is_some(), kind == FaultKind::Deadline),
        ("--call", args.call.is_some(), matches!(kind, FaultKind::Api500 | FaultKind::ApiReset)),
    ] {
        if given && !has {
            return Err(Failure::usage(format!("{option} is not for {}", word(kind))));
        }
    }
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut body = Map::new();
    body.insert("Kind".into(), word(kind).into());
    body.insert("ForSeconds".into(), lasts.as_secs().into());
    body.extend(args.rate.map(|rate| ("Rate".into(), json!(rate))));
    body.extend(delay.map(|delay| ("DelayMs".into(), ms(delay).into())));
    body.extend(remaining.map(|remaining| ("RemainingMs".into(), ms(remaining).into())));
    body.extend(args.call.map(|call| ("Call".into(), word(call).into())));
    Ok(Value::Object(body))
}

fn report_on(args: &Fault, faults: &[Value]) {
    let function = args.function.as_deref().unwrap_or_default();
    match args.kind {
        Some(FaultKind::Duplicate) => {
            output::talk("synchronous invocations are never doubled: try lambfold invoke --async");
        }
        Some(FaultKind::InitTimeout)
            if faults.iter().any(|fault| fault["Version"] != "$LATEST") =>
        {
            output::talk(
                "it acts on cold starts; environments of published versions that are warm go on",
            );
        }
        _ => {}
    }
    output::hint(&format!("before its time is over: lambfold fault {function} --clear"));
}

/// One fault in one line.
pub(crate) fn line(fault: &Value) -> String {
    let text = |key: &str| fault[key].as_str().map(str::to_owned);
    let time = |key: &str| fault[key].as_u64().map(Duration::from_millis).map(duration::show);
    let mut facts = Vec::new();
    facts.extend(time("DelayMs").map(|delay| format!("{delay} late")));
    facts.extend(time("RemainingMs").map(|left| format!("{left} remain")));
    facts.extend(text("Call").map(|call| format!("at {call}")));
    if let Some(rate) = fault["Rate"].as_f64().filter(|rate| *rate < 1.0) {
        facts.push(format!("rate {rate}"));
    }
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    let version = text("Version").map(|version| format!(":{version}")).unwrap_or_default();
    let name = text("FunctionName").unwrap_or_default();
    let kind = text("Kind").unwrap_or_default();
    let left = time("LeftMs").unwrap_or_default();
    let effects = fault["Effects"].as_u64().unwrap_or(0);
    format!("{name}{version}  {kind}{facts}  ends in {left}, acted {effects} times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_all_there_is_to_know() {
        let mut fault = json!({
            "FunctionName": "echo", "Version": null, "Kind": "slow-next", "Rate": 0.5,
            "DelayMs": 2000, "RemainingMs": null, "Call": null, "LeftMs": 599_001, "Effects": 3,
        });
        let expected = "echo  slow-next (2s late, rate 0.5)  ends in 9m59s, acted 3 times";
        assert_eq!(line(&fault), expected);
        fault["Version"] = "7".into();
        fault["Kind"] = "throttle".into();
        fault["Rate"] = json!(1.0);
        fault["DelayMs"] = Value::Null;
        assert_eq!(line(&fault), "echo:7  throttle  ends in 9m59s, acted 3 times");
    }
}
