//! The bootstrap of functions under endurance runs: it does what its event's `do` says, and answers
//! with the event.

use crate::server::Result;
use crate::{Connection, header};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Serves events until the Runtime API is gone.
///
/// # Errors
/// When it is gone, or says what cannot be understood.
pub fn run(address: &str) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let next =
        format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {address}\r\n\r\n");
    loop {
        let (head, body) = connection.call(next.as_bytes())?;
        let id = header(head, "lambda-runtime-aws-request-id").unwrap_or_default().to_owned();
        let event: Value = serde_json::from_slice(body)?;
        match event["do"].as_str() {
            Some("exit") => std::process::exit(3),
            Some("abort") => std::process::abort(),
            Some("hold") => {
                std::thread::sleep(Duration::from_millis(event["ms"].as_u64().unwrap_or(0)));
            }
            Some("hang") => std::thread::sleep(Duration::from_secs(3600)),
            Some("memory") => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                }
            }
            // Somebody who stays behind when the environment is reset.
            Some("children") => drop(Command::new("sleep").arg("3600").spawn()?),
            _ => {}
        }
        let answer = event.to_string();
        let post = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        connection.call(post.as_bytes())?;
    }
}
