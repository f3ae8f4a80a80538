//! A bootstrap that does what its events say, so that a test can put an execution environment
//! through anything. std only; one kept-alive connection.
//!
//! The event is `{"do": WORD, …}`; the answer is a JSON object, or nothing at all when the word
//! says so. See `act` for the words.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is what the logs are tested with

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> io::Result<()> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    match std::env::var("PUPPET_INIT").as_deref() {
        Ok("sleep") => std::thread::sleep(Duration::from_secs(3600)),
        Ok("exit") => std::process::exit(7),
        Ok("error") => {
            let body = r#"{"errorMessage":"cannot start","errorType":"Puppet.Init"}"#;
            call(&api, "POST", "/2018-06-01/runtime/init/error", body.as_bytes())?;
            std::process::exit(1);
        }
        _ => {}
    }
    let mut count = 0_u64;
    loop {
        let next = call(&api, "GET", "/2018-06-01/runtime/invocation/next", b"")?;
        count += 1;
        let event: Value = serde_json::from_slice(&next.body).unwrap_or(Value::Null);
        let id = next.header("lambda-runtime-aws-request-id").unwrap_or_default();
        let (way, answer) = act(&event, &next, count, &api);
        let path = format!("/2018-06-01/runtime/invocation/{id}/{way}");
        call(&api, "POST", &path, answer.as_bytes())?;
        if event["then"] == "exit" {
            std::process::exit(9);
        }
    }
}

fn act(event: &Value, next: &Message, count: u64, api: &str) -> (&'static str, String) {
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    let answer = match event["do"].as_str().unwrap_or("echo") {
        "echo" => event.clone(),
        "count" => json!({ "count": count, "pid": std::process::id() }),
        "env" => std::env::vars().map(|(k, v)| (k, Value::String(v))).collect(),
        "headers" => {
            next.headers.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect()
        }
        "log" => {
            for line in 0..number("lines") {
                if line % 2 == 0 {
                    println!("out {line}");
                } else {
                    eprintln!("err {line}");
                }
            }
            json!({ "lines": number("lines") })
        }
        "print" => {
            println!("{}", event["text"].as_str().unwrap_or_default());
            json!({})
        }
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number("ms")));
            json!({ "slept": number("ms"), "pid": std::process::id() })
        }
        "allocate" => {
            let bytes = usize::try_from(number("mib")).unwrap_or(0) << 20;
            let memory = vec![1_u8; bytes];
            json!({ "sum": memory.iter().step_by(4096).map(|b| u64::from(*b)).sum::<u64>() })
        }
        "write" => {
            let path = event["path"].as_str().unwrap_or("/tmp/x");
            let written = write(path, number("mib"));
            match written {
                Ok(()) => json!({ "written": number("mib") }),
                Err(error) => json!({ "errno": error.raw_os_error(), "text": error.to_string() }),
            }
        }
        "read" => match std::fs::read_to_string(event["path"].as_str().unwrap_or("/")) {
            Ok(text) => json!({ "text": text }),
            Err(error) => json!({ "errno": error.raw_os_error() }),
        },
        "run" => {
            let shell = event["shell"].as_str().unwrap_or("true");
            match std::process::Command::new("/bin/sh").args(["-c", shell]).output() {
                Ok(output) => json!({
                    "status": output.status.code(),
                    "out": String::from_utf8_lossy(&output.stdout),
                    "err": String::from_utf8_lossy(&output.stderr),
                }),
                Err(error) => json!({ "errno": error.raw_os_error() }),
            }
        }
        "big" => return ("response", "x".repeat(usize::try_from(number("bytes")).unwrap_or(0))),
        "deadline" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let text = next.header("lambda-runtime-deadline-ms").unwrap_or_default();
            json!({ "left_ms": text.parse::<i128>().unwrap_or(0) - now as i128 })
        }
        "raise" => {
            let body =
                json!({ "errorMessage": "as asked", "errorType": "Puppet.Raised", "extra": 1 });
            return ("error", body.to_string());
        }
        "exit" => std::process::exit(i32::try_from(number("code")).unwrap_or(1)),
        "abort" => std::process::abort(),
        "wrong-id" => {
            let path =
                "/2018-06-01/runtime/invocation/00000000-0000-4000-8000-000000000000/response";
            match call(api, "POST", path, b"{}") {
                Ok(answer) => {
                    json!({ "status": answer.status, "body": String::from_utf8_lossy(&answer.body) })
                }
                Err(error) => json!({ "error": error.to_string() }),
            }
        }
        other => json!({ "unknown": other }),
    };
    ("response", answer.to_string())
}

/// Writes zeros, so that the last byte has reached the file system when it returns.
fn write(path: &str, mib: u64) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    let block = vec![0_u8; 1 << 20];
    for _ in 0..mib {
        file.write_all(&block)?;
    }
    file.sync_all()
}

struct Message {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// One request on a connection of its own, as a shell with curl would do it.
fn call(api: &str, method: &str, path: &str, body: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(api)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // an answer such as 413 may come, and the connection end, before the body is taken
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok(Message { status, headers, body })
}
