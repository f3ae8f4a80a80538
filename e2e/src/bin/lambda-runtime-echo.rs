//! A bootstrap on the unmodified crate `lambda_runtime`: returns its event and some of the
//! context that the crate made of the Runtime API's headers.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|event: LambdaEvent<Value>| async move {
        if event.payload["fail"] == true {
            return Err(Error::from("as asked"));
        }
        Ok::<Value, Error>(json!({
            "event": event.payload,
            "request_id": event.context.request_id,
            "arn": event.context.invoked_function_arn,
            "client": event.context.client_context.is_some(),
        }))
    }))
    .await
}
