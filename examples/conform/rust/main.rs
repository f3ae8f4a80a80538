//! The conform function on the crate `lambda_runtime`: what `lambfold conform` asks a function for.
//! See docs/conform.md.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is the log

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Error> {
    if std::env::var("LAMBFOLD_CONFORM_INIT").as_deref() == Ok("error") {
        return Err("cannot be loaded, as asked".into());
    }
    run(service_fn(handler)).await
}

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    match event["conform"].as_str() {
        Some("error") => Err(event["message"].as_str().unwrap_or_default().into()),
        Some("exit") => std::process::exit(i32::try_from(number("code")).unwrap_or(1)),
        Some("size") => {
            Ok(Value::String("x".repeat(usize::try_from(number("bytes"))?.saturating_sub(2))))
        }
        Some("sleep") => {
            eprintln!("conform: asleep");
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            Ok(json!({ "slept": number("ms") }))
        }
        Some("log") => {
            let text = event["reversed"].as_str().unwrap_or_default();
            println!("{}", text.chars().rev().collect::<String>());
            Ok(json!({ "logged": true }))
        }
        Some("context") => Ok(json!({
            "requestId": context.request_id,
            "deadlineMs": context.deadline,
            "invokedFunctionArn": context.invoked_function_arn,
            "traceId": context.xray_trace_id,
            "clientContext": context.client_context,
            "cognitoIdentity": context.identity.map(|identity| json!({
                "cognitoIdentityId": identity.identity_id,
                "cognitoIdentityPoolId": identity.identity_pool_id,
            })),
            "tenantId": context.tenant_id,
            "variable": std::env::var("LAMBFOLD_CONFORM_VARIABLE").ok(),
        })),
        _ => Ok(event),
    }
}
