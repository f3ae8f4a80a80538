//! What the function is told about an event, and about itself.

use super::{USUAL, book};
use crate::case::Case;
use crate::trial::{ARN, Event, Outcome, Step, TRACE, Trial, fail, not_applicable};
use serde_json::{Value, json};

/// A value that no quoting leaves alone by luck.
const VARIABLE: &str = "a \"b\" 'c' $d \\ = é";
const CONTEXT: &str = r#"{"client":{"installation_id":"i","app_title":"t","app_version_name":"v","app_version_code":"c","app_package_name":"p"},"custom":{"kit":"conform"},"env":{"locale":"en"}}"#;
const COGNITO: &str = r#"{"cognitoIdentityId":"identity-1","cognitoIdentityPoolId":"pool-1"}"#;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "context-request-id",
        title: "the function is told the id of its event, anew for each",
        why: "It stands in logs and is what support asks for.",
        mend: "Hand Lambda-Runtime-Aws-Request-Id to the handler.",
        reference: book::CUSTOM,
        run: |trial| {
            for _ in 0..2 {
                let event = asking();
                let id = event.id.clone();
                let (context, _) = context(trial, event)?;
                is(&context, "requestId", &json!(id))?;
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "context-deadline",
        title: "the function is told when it has to be done",
        why: "Functions stop in time by it. Seconds for milliseconds, or a deadline of the event \
              before, make them stop at once or never.",
        mend: "Lambda-Runtime-Deadline-Ms counts milliseconds since 1970; the remaining time is \
               that less the clock.",
        reference: book::CUSTOM,
        run: deadline,
        ..USUAL
    },
    Case {
        id: "context-arn",
        title: "the function is told the ARN that was called, with its alias",
        why: "Functions find out by it which version or alias they are.",
        mend: "Hand Lambda-Runtime-Invoked-Function-Arn to the handler as it is.",
        reference: book::CUSTOM,
        run: |trial| {
            for arn in [format!("{ARN}:live"), ARN.to_owned()] {
                let event = asking().header("Lambda-Runtime-Invoked-Function-Arn", Some(&arn));
                let (context, _) = context(trial, event)?;
                is(&context, "invokedFunctionArn", &json!(arn))?;
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "context-trace",
        title: "the trace header is handed on, as _X_AMZN_TRACE_ID or otherwise",
        why: "SDKs and tracers continue a trace by it.",
        mend: "Set the variable _X_AMZN_TRACE_ID to Lambda-Runtime-Trace-Id before the handler.",
        reference: book::CUSTOM,
        run: |trial| {
            let second = TRACE.replace("bd862e", "cd862e");
            for trace in [TRACE, &second] {
                let event = asking().header("Lambda-Runtime-Trace-Id", Some(trace));
                let (context, _) = context(trial, event)?;
                is(&context, "traceId", &json!(trace))?;
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "context-client",
        title: "the client context is handed on",
        why: "Mobile applications and some services say in it who calls.",
        mend: "Decode the JSON of Lambda-Runtime-Client-Context and hand it to the handler.",
        reference: book::NEXT,
        run: |trial| {
            let event = asking().header("Lambda-Runtime-Client-Context", Some(CONTEXT));
            let (context, _) = context(trial, event)?;
            let told = decoded(told(&context, "clientContext")?);
            match &told["custom"]["kit"] {
                Value::String(text) if text == "conform" => Ok(()),
                _ => fail(format!("clientContext is {told}, the header was {CONTEXT}")),
            }
        },
        ..USUAL
    },
    Case {
        id: "context-cognito",
        title: "the Cognito identity is handed on",
        why: "Functions behind Cognito find their user by it.",
        mend: "Decode the JSON of Lambda-Runtime-Cognito-Identity and hand it to the handler.",
        reference: book::NEXT,
        run: |trial| {
            let event = asking().header("Lambda-Runtime-Cognito-Identity", Some(COGNITO));
            let (context, _) = context(trial, event)?;
            let told = decoded(told(&context, "cognitoIdentity")?);
            if told["cognitoIdentityId"] == "identity-1"
                && told["cognitoIdentityPoolId"] == "pool-1"
            {
                return Ok(());
            }
            fail(format!("cognitoIdentity is {told}, the header was {COGNITO}"))
        },
        ..USUAL
    },
    Case {
        id: "context-tenant",
        title: "the tenant is handed on",
        why: "Functions with tenant isolation find the tenant's data by it.",
        mend: "Hand Lambda-Runtime-Aws-Tenant-Id to the handler.",
        reference: "AWS Lambda: tenant isolation, tenant id in the context",
        run: |trial| {
            let event = asking().header("Lambda-Runtime-Aws-Tenant-Id", Some("tenant-7"));
            let (context, _) = context(trial, event)?;
            is(&context, "tenantId", &json!("tenant-7"))
        },
        ..USUAL
    },
    Case {
        id: "context-absent",
        title: "what one event was told is not told to the next",
        why: "A trace, a client or a tenant of the event before is worse than none: it joins what \
              does not belong together.",
        mend: "Build the context anew for each event, and unset _X_AMZN_TRACE_ID where there is \
               no trace.",
        reference: book::CUSTOM,
        run: |trial| {
            let all = asking()
                .header("Lambda-Runtime-Client-Context", Some(CONTEXT))
                .header("Lambda-Runtime-Cognito-Identity", Some(COGNITO))
                .header("Lambda-Runtime-Aws-Tenant-Id", Some("tenant-7"));
            context(trial, all)?;
            let (context, _) = context(trial, asking().header("Lambda-Runtime-Trace-Id", None))?;
            for key in ["traceId", "clientContext", "cognitoIdentity", "tenantId"] {
                // A context with members that are all empty says nothing either.
                let text = context[key].to_string();
                if ["5759e988", "conform", "identity-1", "tenant-7"]
                    .iter()
                    .any(|t| text.contains(t))
                {
                    return fail(format!("an event without it was told {key} {text}"));
                }
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "environment-variables",
        title: "the function sees its environment variables, letter by letter",
        why: "They are the configuration of the function.",
        mend: "Hand the environment on to whatever runs the handler; do not build a new one, and \
               do not let a shell read it.",
        reference: "AWS Lambda: environment variables",
        env: &[("LAMBFOLD_CONFORM_VARIABLE", VARIABLE)],
        run: |trial| {
            let (context, _) = context(trial, asking())?;
            is(&context, "variable", &json!(VARIABLE))
        },
        ..USUAL
    },
];

fn asking() -> Event {
    Event::json(&json!({ "conform": "context" }))
}

/// What the function says that it was told.
fn context(trial: &mut Trial<'_>, event: Event) -> Step<(Value, Outcome)> {
    let outcome = trial.word(event)?;
    trial.accept(&outcome);
    if outcome.is_error {
        return fail(format!("the function did not answer: {}", outcome.shown()));
    }
    match outcome.json() {
        Some(Value::Object(context)) => Ok((Value::Object(context), outcome)),
        _ => not_applicable(format!("the function tells no context: {}", outcome.shown())),
    }
}

/// A member of the context. Not applicable where the function has no such member: it cannot
/// say; `null` says that it was told nothing.
fn told<'a>(context: &'a Value, key: &str) -> Step<&'a Value> {
    match context.get(key) {
        Some(value) => Ok(value),
        None => not_applicable(format!("the function has no word for {key}")),
    }
}

fn is(context: &Value, key: &str, expected: &Value) -> Step<()> {
    let told = told(context, key)?;
    if told == expected {
        return Ok(());
    }
    fail(format!("the function was told {key} {told}, the event had {expected}"))
}

/// JSON, also where the function has it as a text.
fn decoded(value: &Value) -> Value {
    match value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
        Some(decoded) => decoded,
        None => value.clone(),
    }
}

fn deadline(trial: &mut Trial<'_>) -> Step<()> {
    for seconds in [30, 120] {
        let given = crate::trial::epoch_ms() + seconds * 1000;
        let event = asking().header("Lambda-Runtime-Deadline-Ms", Some(&given.to_string()));
        let (context, _) = context(trial, event)?;
        let number = |key: &str| context.get(key).and_then(Value::as_f64);
        if let Some(told) = number("deadlineMs") {
            if (told - given as f64).abs() > 1.0 {
                return fail(format!("the function was told the deadline {told}, not {given}"));
            }
        } else if let Some(left) = number("remainingMs") {
            let most = seconds as f64 * 1000.0;
            // The rest of it was spent on the way.
            if left > most || left < most - 15_000.0 {
                return fail(format!("the function was told {left} ms of {most}"));
            }
        } else if context.get("deadlineMs").is_some() || context.get("remainingMs").is_some() {
            return fail(format!("the function was not told the deadline: {context}"));
        } else {
            return not_applicable("the function has no word for deadlineMs or remainingMs");
        }
    }
    Ok(())
}
