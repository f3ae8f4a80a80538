use lambda_runtime::{run, service_fn, Error, LambdaEvent};
use serde_json::{json, Value};

/// Called for each event; what it returns is the answer, standard error is the log.
async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    // Of an event of one's own, or of the address of a page.
    let name = event["name"].as_str().or(event["queryStringParameters"]["name"].as_str());
    let name = name.unwrap_or("world");
    eprintln!("request {}: a greeting for {name}", context.request_id);
    Ok(json!({ "message": format!("Hello, {name}!") }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handler)).await
}
