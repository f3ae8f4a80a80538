//! A bare FastCGI request: the floor of what a PHP page can cost.

use crate::server::{Guard, Result};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// A `php-cgi`, the first in PATH, that is spoken to directly over one kept connection.
#[derive(Debug)]
pub struct FastCgi {
    _php: Guard,
    stream: UnixStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
}

impl FastCgi {
    /// Starts a `php-cgi` for the `index.php` of a folder. It may still be starting afterwards.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(folder: &Path) -> Result<FastCgi> {
        let path = folder.join("bare.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let stream = UnixStream::connect(&path)?;
        let mut command = Command::new("php-cgi");
        command.stdin(Stdio::from(OwnedFd::from(listener))).env("PHP_FCGI_MAX_REQUESTS", "0");
        let php = Guard(command.spawn().map_err(|e| format!("php-cgi: {e}"))?);
        let file = folder.join("index.php").display().to_string();
        let mut params = Vec::new();
        for (name, value) in [
            ("SCRIPT_FILENAME", file.as_str()),
            ("SCRIPT_NAME", "/index.php"),
            ("REQUEST_URI", "/hello"),
            ("REQUEST_METHOD", "GET"),
            ("QUERY_STRING", ""),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REDIRECT_STATUS", "200"),
        ] {
            params.extend([u8::try_from(name.len())?, u8::try_from(value.len())?]);
            params.extend_from_slice(name.as_bytes());
            params.extend_from_slice(value.as_bytes());
        }
        let parts = [
            record(1, &[0, 1, 1, 0, 0, 0, 0, 0]),
            record(4, &params),
            record(4, b""),
            record(5, b""),
        ];
        Ok(FastCgi { _php: php, stream, request: parts.concat(), answer: Vec::new() })
    }

    /// One request and its whole answer, records and all.
    ///
    /// # Errors
    /// When PHP goes away.
    pub fn ask(&mut self) -> Result<&[u8]> {
        self.stream.write_all(&self.request)?;
        self.answer.clear();
        let mut part = [0; 4096];
        // The record of the end is 16 bytes, the last ones.
        while self.answer.len() < 16 || self.answer[self.answer.len() - 15] != 3 {
            let size = self.stream.read(&mut part)?;
            if size == 0 {
                return Err("PHP has closed the connection".into());
            }
            self.answer.extend_from_slice(&part[..size]);
        }
        Ok(&self.answer)
    }
}
