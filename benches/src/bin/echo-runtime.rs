//! A bootstrap that returns each event as its answer, over one kept-alive connection with
//! nothing but std: the guest of every benchmark, the same in all peers.

use lambfold_benches::{Connection, header};
use std::io;

fn main() -> io::Result<()> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API")
        .map_err(|_| io::Error::other("AWS_LAMBDA_RUNTIME_API is not set"))?;
    // Some hosts give a URL, with a path for each function.
    let api = api.trim_start_matches("http://").trim_end_matches('/');
    let (address, path) = api.split_at(api.find('/').unwrap_or(api.len()));
    let mut connection = Connection::open(address)?;
    let next = format!(
        "GET {path}/2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {address}\r\nUser-Agent: echo\r\n\r\n"
    );
    let mut answer = Vec::new();
    loop {
        let (head, body) = match connection.call(next.as_bytes()) {
            // whoever measured is done
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            answer => answer?,
        };
        let id = header(head, "lambda-runtime-aws-request-id")
            .ok_or_else(|| io::Error::other("next gave no request id"))?;
        answer.clear();
        answer.extend_from_slice(b"POST ");
        answer.extend_from_slice(path.as_bytes());
        answer.extend_from_slice(b"/2018-06-01/runtime/invocation/");
        answer.extend_from_slice(id.as_bytes());
        answer.extend_from_slice(
            format!(
                "/response HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        answer.extend_from_slice(body);
        connection.call(&answer)?;
    }
}
