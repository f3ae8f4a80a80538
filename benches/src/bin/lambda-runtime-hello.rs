//! The function of `examples/runtimes` on the crate `lambda_runtime`: what a hello on
//! `lambfold-runtime-client` is measured against.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|event: LambdaEvent<String>| async move {
        Ok::<Value, Error>(json!({ "hello": event.payload }))
    }))
    .await
}
