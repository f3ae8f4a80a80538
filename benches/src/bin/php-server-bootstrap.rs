//! PHP's built-in web server, and the least that a bootstrap in front of it has to do: what a PHP
//! runtime that proxies costs. Takes the `php` that is first in PATH.

use lambfold_benches::{Connection, header};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const WEB_SERVER: &str = "127.0.0.1:8000";

fn main() -> Result<(), Box<dyn Error>> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API")?;
    let file = std::env::var("_HANDLER")?;
    let mut php = Command::new("php");
    php.args(["-S", WEB_SERVER, &file]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    while TcpStream::connect(WEB_SERVER).is_err() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut connection = Connection::open(&api)?;
    let next = format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {api}\r\n\r\n");
    loop {
        let (head, body) = connection.call(next.as_bytes())?;
        let id = header(head, "lambda-runtime-aws-request-id").ok_or("no request id")?.to_owned();
        let event: Value = serde_json::from_slice(body)?;
        let path = event["path"].as_str().ok_or("no path")?;
        // It takes one request a connection.
        let mut web = TcpStream::connect(WEB_SERVER)?;
        web.write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {WEB_SERVER}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )?;
        let mut page = String::new();
        web.read_to_string(&mut page)?;
        let (_, page) = page.split_once("\r\n\r\n").ok_or("no page")?;
        let answer = json!({ "statusCode": 200, "body": page }).to_string();
        let post = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {api}\r\n\
             Content-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        connection.call(post.as_bytes())?;
    }
}
