//! A bootstrap on the unmodified crate `lambda_runtime` that streams its responses:
//! `{"chunks": […], "times": 1, "then": "end" | "wait" | "fail" | "exit"}`.

use futures_util::Stream;
use futures_util::stream::poll_fn;
use lambda_runtime::streaming::Response;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(stream)).await
}

type Chunk = Result<String, Error>;

async fn stream(
    event: LambdaEvent<Value>,
) -> Result<Response<impl Stream<Item = Chunk> + Unpin + Send>, Error> {
    let event = event.payload;
    if event["then"] == "error" {
        return Err("before the first byte".into());
    }
    let (sender, mut chunks) = mpsc::channel::<Chunk>(1);
    tokio::spawn(async move {
        for _ in 0..event["times"].as_u64().unwrap_or(1) {
            for chunk in event["chunks"].as_array().into_iter().flatten() {
                let chunk = chunk.as_str().unwrap_or_default().to_owned();
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        }
        match event["then"].as_str() {
            Some("wait") => std::future::pending().await,
            Some("fail") => drop(sender.send(Err("in the middle".into())).await),
            Some("exit") => std::process::exit(3),
            _ => {}
        }
    });
    Ok(Response::from(poll_fn(move |context| chunks.poll_recv(context))))
}
