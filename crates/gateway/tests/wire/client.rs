//! The least HTTP client: what is sent is what the test wrote.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pending: Vec<u8>,
    port: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn error_type(&self) -> &str {
        self.header("x-amzn-errortype").unwrap_or_default()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, pending: Vec::new(), port: address.port() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// A request with the headers of a well-behaved client.
    pub(crate) async fn send(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let port = self.port;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.write(&[head.as_bytes(), body].concat()).await;
    }

    pub(crate) async fn call(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> Response {
        self.send(method, target, headers, body).await;
        self.response(method).await
    }

    /// The next response; panics when the connection ends first.
    pub(crate) async fn response(&mut self, method: &str) -> Response {
        self.try_response(method).await.expect("the connection ended before the answer")
    }

    pub(crate) async fn try_response(&mut self, method: &str) -> Option<Response> {
        let end = loop {
            if let Some(end) = self.pending.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.pending[..end].to_vec()).unwrap();
        self.pending.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new() };
        if status == 100 {
            return Some(response);
        }
        let length: usize = response.header("content-length").map_or(0, |l| l.parse().unwrap());
        if method != "HEAD" {
            while self.pending.len() < length {
                self.more().await?;
            }
            response.body = self.pending.drain(..length).collect();
        }
        Some(response)
    }

    /// The next chunk of a body that comes in chunks; `None` after the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(end) = self.pending.windows(2).position(|w| w == b"\r\n") {
                break end;
            }
            self.more().await.expect("the connection ended within a body");
        };
        let size = std::str::from_utf8(&self.pending[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        while self.pending.len() < end + size + 4 {
            self.more().await.expect("the connection ended within a chunk");
        }
        let chunk = self.pending[end + 2..end + 2 + size].to_vec();
        self.pending.drain(..end + size + 4);
        Some(chunk).filter(|chunk| !chunk.is_empty())
    }

    async fn more(&mut self) -> Option<()> {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(size) => {
                self.pending.extend_from_slice(&buffer[..size]);
                Some(())
            }
        }
    }

    /// Waits until the server closes the connection.
    pub(crate) async fn ended(&mut self) {
        while self.more().await.is_some() {}
    }
}
