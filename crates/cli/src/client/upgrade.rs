//! A request whose connection goes on as something else.

use super::{Client, ClientError, Request, service_error};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use ureq::http;

/// Largest head of an answer, bytes.
const HEAD_BYTES: usize = 16 << 10;
/// Largest body of a refusal that is read, bytes.
const REFUSAL_BYTES: usize = 64 << 10;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for the answer: an environment is made meanwhile.
const ANSWER: Duration = Duration::from_secs(120);

/// A connection after its upgrade.
pub(crate) struct Connected {
    pub(crate) stream: TcpStream,
    /// What came with the answer's head.
    pub(crate) ahead: Vec<u8>,
}

impl Client {
    /// Sends a request without a body that asks for another protocol.
    pub(crate) fn upgrade(
        &self,
        request: Request,
        protocol: &str,
    ) -> Result<Connected, ClientError> {
        let signed = self.sign(request, &super::sigv4::sha256_hex(b""));
        let authority = self.endpoint().authority();
        let mut head = format!("{} {} HTTP/1.1\r\n", signed.method, signed.target);
        for (name, value) in &signed.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "connection: Upgrade\r\nupgrade: {protocol}\r\ncontent-length: 0\r\n\r\n"
        ));
        let connecting = |error| self.lost(ureq::Error::Io(error));
        let mut stream = connect(authority).map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => self.lost(ureq::Error::ConnectionFailed),
            _ => connecting(error),
        })?;
        let exchange = exchange(&mut stream, head.as_bytes());
        let (head, ahead) = exchange.map_err(|error| self.lost(ureq::Error::Io(error)))?;
        let status = status(&head).ok_or_else(|| self.odd(0))?;
        if status == http::StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            stream.set_read_timeout(None).map_err(|error| self.lost(ureq::Error::Io(error)))?;
            return Ok(Connected { stream, ahead });
        }
        let body = refusal(&mut stream, &head, ahead);
        let named = header(&head, "x-amzn-errortype");
        Err(service_error(status, named, &body).unwrap_or_else(|| self.odd(status)))
    }
}

fn connect(authority: &str) -> std::io::Result<TcpStream> {
    // An endpoint without a port is the one of plain HTTP.
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends a head; gives the answer's, and what came behind it.
fn exchange(stream: &mut TcpStream, head: &[u8]) -> std::io::Result<(String, Vec<u8>)> {
    stream.write_all(head)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let ahead = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), ahead));
        }
        if bytes.len() > HEAD_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (given, value) = line.split_once(':')?;
        given.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn refusal(stream: &mut TcpStream, head: &str, mut body: Vec<u8>) -> Vec<u8> {
    let length = header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut buffer = [0; 4096];
    while body.len() < REFUSAL_BYTES.min(length) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => body.extend_from_slice(&buffer[..count]),
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = "HTTP/1.1 409 Conflict\r\nX-Amzn-ErrorType:  ResourceConflictException\r\n\r\n";
        assert_eq!(status(head), Some(409));
        assert_eq!(header(head, "x-amzn-errortype"), Some("ResourceConflictException"));
        assert_eq!(header(head, "content-length"), None);
        for odd in ["", "HTTP/1.1 ", "HTTP/1.0 200 OK", "HTTP/1.1 é"] {
            assert_eq!(status(odd), None, "{odd:?}");
        }
    }
}
