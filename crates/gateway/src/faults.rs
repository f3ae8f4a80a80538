//! `/_lambfold/v1/faults`: faults on purpose are listed (GET), switched on (PUT) and off (DELETE).

use crate::answer::{self, Answer};
use crate::gateway::Gateway;
use crate::receive::ReceiveError;
use crate::{error, scope};
use http::Method;
use http::request::Parts;
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, query_pairs};
use lambfold_fault::{Call, Fault, Kind, Target, Wish, WishError};
use lambfold_types::{FunctionName, FunctionRef, FunctionVersion, Scope};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "/_lambfold/v1/faults";
/// Largest body of a request, bytes.
const BODY_BYTES: usize = 16 * 1024;

pub(crate) async fn answer(gateway: &Gateway, head: &Parts, body: Incoming) -> Answer {
    let body = match gateway.read(head, body, BODY_BYTES).await {
        Ok(received) => received.bytes,
        Err(ReceiveError::Lost(answer)) => return answer,
        Err(ReceiveError::TooLarge) => {
            let message = format!("Request must be smaller than {BODY_BYTES} bytes");
            return answer::error(&ApiError::new("RequestEntityTooLargeException", message));
        }
    };
    match run(gateway, head, &body) {
        Ok(faults) => {
            let faults: Vec<Value> = faults.iter().map(shown).collect();
            answer::json(200, json!({ "Faults": faults }).to_string().into_bytes())
        }
        Err(error) => answer::error(&error),
    }
}

/// A fault that is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Asked {
    kind: String,
    for_seconds: u64,
    rate: Option<f64>,
    delay_ms: Option<u64>,
    remaining_ms: Option<u64>,
    call: Option<String>,
}

impl Asked {
    fn wish(&self) -> Result<Wish, WishError> {
        let mut wish = Wish::new(Kind::parse(&self.kind)?, Duration::from_secs(self.for_seconds))?;
        if let Some(rate) = self.rate {
            wish = wish.with_rate(rate)?;
        }
        if let Some(delay) = self.delay_ms {
            wish = wish.with_delay(Duration::from_millis(delay))?;
        }
        if let Some(remaining) = self.remaining_ms {
            wish = wish.with_remaining(Duration::from_millis(remaining))?;
        }
        if let Some(call) = &self.call {
            wish = wish.with_call(Call::parse(call)?)?;
        }
        Ok(wish)
    }
}

fn run(gateway: &Gateway, head: &Parts, body: &[u8]) -> Result<Vec<Fault>, ApiError> {
    let query = head.uri.query().unwrap_or_default();
    let find =
        |wanted: &str| query_pairs(query).find(|(name, _)| name == wanted).map(|(_, value)| value);
    let scope = scope::of(&gateway.config.scope, &head.headers, query);
    let function = find("function");
    let faults = &gateway.tools.faults;
    match head.method {
        Method::GET => {
            let name = function.as_deref().map(name).transpose()?;
            Ok(faults.list(&scope, name.as_ref()))
        }
        Method::PUT => {
            let (function, qualifier) = (function.ok_or_else(missing)?, find("qualifier"));
            let version = version(gateway, &scope, &function, qualifier.as_deref())?;
            let in_name = FunctionRef::parse(&function).is_ok_and(|name| name.qualifier.is_some());
            let only_this = qualifier.is_some() || in_name;
            let asked: Asked = serde_json::from_slice(body)
                .map_err(|error| invalid(format!("The body is not a fault: {error}")))?;
            let wish = asked.wish().map_err(|error| invalid(error.to_string()))?;
            Ok(vec![faults.set(Target::new(&version, only_this), wish)])
        }
        Method::DELETE => {
            let name = name(&function.ok_or_else(missing)?)?;
            let kind = find("kind").as_deref().map(Kind::parse).transpose();
            let kind = kind.map_err(|error| invalid(error.to_string()))?;
            Ok(faults.clear(&scope, &name, kind))
        }
        _ => {
            let method = head.method.as_str();
            Err(ApiError::method_not_allowed(method, PATH, &["GET", "PUT", "DELETE"]))
        }
    }
}

/// The version that is meant: an alias stands for the one that it leads to now.
fn version(
    gateway: &Gateway,
    scope: &Scope,
    function: &str,
    qualifier: Option<&str>,
) -> Result<Arc<FunctionVersion>, ApiError> {
    let resolved = gateway.control.resolve_text(scope, function, qualifier);
    Ok(resolved.map_err(|error| error::control(&error))?.version)
}

fn name(function: &str) -> Result<FunctionName, ApiError> {
    let parsed = FunctionRef::parse(function).map_err(|error| invalid(error.to_string()))?;
    Ok(parsed.name)
}

fn missing() -> ApiError {
    invalid("Query parameter function: name or ARN of a function is missing".to_owned())
}

fn invalid(message: String) -> ApiError {
    ApiError::new("InvalidParameterValueException", message)
}

fn shown(fault: &Fault) -> Value {
    let Fault { target, wish, until_ms, left, effects } = fault;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    json!({
        "FunctionName": target.function.as_str(),
        "Version": target.version.map(|version| version.to_string()),
        "Kind": wish.kind.name(),
        "Rate": wish.rate,
        "DelayMs": wish.delay.map(ms),
        "RemainingMs": wish.remaining.map(ms),
        "Call": wish.call.map(Call::name),
        "UntilMs": until_ms,
        "LeftMs": ms(*left),
        "Effects": effects,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn wish(text: &str) -> Result<Wish, String> {
        let asked: Asked = serde_json::from_str(text).map_err(|error| error.to_string())?;
        asked.wish().map_err(|error| error.to_string())
    }

    #[test]
    fn bodies_are_wishes_or_refused_with_the_reason() {
        let full = r#"{"Kind":"slow-next","ForSeconds":600,"Rate":0.5,"DelayMs":20}"#;
        let wished = wish(full).unwrap();
        assert_eq!((wished.kind, wished.rate), (Kind::SlowNext, 0.5));
        assert_eq!(wished.delay, Some(Duration::from_millis(20)));
        for (body, why) in [
            ("{}", "missing field `Kind`"),
            (r#"{"Kind":"oom"}"#, "missing field `ForSeconds`"),
            (r#"{"Kind":"flood","ForSeconds":1}"#, "there is no fault \"flood\""),
            (r#"{"Kind":"oom","ForSeconds":0}"#, "at least 1 second and at most 24 hours"),
            (r#"{"Kind":"oom","ForSeconds":86401}"#, "at least 1 second and at most 24 hours"),
            (r#"{"Kind":"oom","ForSeconds":1,"DelayMs":1}"#, "a fault oom has no delay"),
            (r#"{"Kind":"oom","ForSeconds":1,"Rate":0}"#, "a rate is"),
            (r#"{"Kind":"oom","ForSeconds":1,"Colour":1}"#, "unknown field `Colour`"),
            (r#"{"Kind":"api-500","ForSeconds":1,"Call":"x"}"#, "no call \"x\""),
        ] {
            let error = wish(body).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
        }
        assert!(wish(r#"{"Kind":"oom","ForSeconds":86400}"#).is_ok());
    }

    proptest! {
        #[test]
        fn any_body_is_a_wish_or_refused(
            kind in "(slow-next|oom|deadline|api-500|x)",
            seconds in any::<u64>(),
            rate in proptest::option::of(any::<f64>()),
            ms in proptest::option::of(any::<u64>()),
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = serde_json::from_slice::<Asked>(&bytes);
            let body = json!({ "Kind": kind, "ForSeconds": seconds, "Rate": rate, "DelayMs": ms });
            if let Ok(wish) = wish(&body.to_string()) {
                prop_assert!((1..=86_400).contains(&wish.lasts.as_secs()));
                prop_assert!(wish.rate > 0.0 && wish.rate <= 1.0);
            }
        }
    }
}
