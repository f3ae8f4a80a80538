//! `lambfold shell`: this terminal, connected with a shell in an execution environment.

use super::shared;
use crate::args::Shell;
use crate::client::{Connected, Request, Service, encode};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::screen::{Raw, size};
use lambfold_terminal::{Decoder, FRAME_BYTES, Frame, PROTOCOL};
use std::io::{IsTerminal, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

/// What a learner needs to know, in a terminal.
const INTRODUCTION: &str = "\
You are its runtime now: its invocations come here, one at a time, until you leave with exit.
Neither the init phase nor an invocation times out while you are here.

  api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
  curl -i $api/invocation/next                          # waits; the id is in the headers
  curl -d '{\"ok\":true}' $api/invocation/ID/response
  curl -d '{\"errorType\":\"E\",\"errorMessage\":\"m\"}' $api/invocation/ID/error
";

pub(crate) fn run(args: &Shell) -> Result<Exit, Failure> {
    let function = shared::function(&args.function)?;
    let client = shared::connect(&args.connection)?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let path = format!("/_lambfold/v1/functions/{}/shell", encode(&args.function));
    let mut request = Request::new(Service::Lambda, "POST", path);
    if let Some(qualifier) = &args.qualifier {
        request = request.query("qualifier", qualifier);
    }
    if is_terminal {
        let (rows, columns) = size();
        let term = std::env::var("TERM").ok().filter(|term| is_plain(term));
        request = request
            .query("rows", &rows.to_string())
            .query("columns", &columns.to_string())
            .query("term", term.as_deref().unwrap_or("dumb"));
    }
    let connected = client
        .upgrade(request, PROTOCOL)
        .map_err(|error| shared::explain_function(&error, &args.function))?;
    if is_terminal {
        output::talk(&format!("a shell in an execution environment of {}", function.name.as_str()));
        output::talk(INTRODUCTION);
    } else {
        output::talk(&format!(
            "a shell in an execution environment of {}; its phases have no time limit",
            function.name.as_str()
        ));
    }
    // From here on what is printed goes to a terminal that adds nothing.
    let raw = is_terminal.then(Raw::enter).flatten();
    let result = Session { connected, is_terminal }.run();
    drop(raw);
    result
}

/// As the server wants a terminal's name.
fn is_plain(term: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    (1..=64).contains(&term.len()) && term.bytes().all(is_plain)
}

struct Session {
    connected: Connected,
    is_terminal: bool,
}

impl Session {
    fn run(self) -> Result<Exit, Failure> {
        let lost = |error: std::io::Error| {
            Failure::failed("the connection to the shell broke off").cause(&error)
        };
        let Self { connected: Connected { mut stream, ahead }, is_terminal } = self;
        let sender = stream.try_clone().map_err(lost)?;
        let sender = Sender(Arc::new(Mutex::new(sender)));
        let typing = sender.clone();
        std::thread::spawn(move || type_in(&typing));
        if is_terminal {
            crate::screen::on_resize(move |(rows, columns)| {
                sender.send(&Frame::Size { rows, columns });
            });
        }
        let mut decoder = Decoder::default();
        decoder.feed(&ahead);
        let mut bytes = vec![0; FRAME_BYTES];
        loop {
            while let Some(frame) = decoder.take().map_err(|e| lost(std::io::Error::other(e)))? {
                match frame {
                    Frame::Output(shown) => output::data(&shown)?,
                    Frame::Errors(shown) => {
                        let _ = std::io::stderr().lock().write_all(&shown);
                    }
                    Frame::Notice(text) => notice(&text, is_terminal),
                    Frame::Exit(status) => return Ok(Exit::Handed(status)),
                    Frame::Failed(why) => return Err(Failure::failed(why)),
                    // The rest is what we send.
                    _ => {}
                }
            }
            match stream.read(&mut bytes).map_err(lost)? {
                0 => return Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
                count => decoder.feed(&bytes[..count]),
            }
        }
    }
}

fn notice(text: &str, is_terminal: bool) {
    output::warn(text);
    if is_terminal {
        // The line's end did not return to its beginning.
        let _ = std::io::stderr().lock().write_all(b"\r");
    }
}

/// The way to the shell, for several threads.
#[derive(Clone)]
struct Sender(Arc<Mutex<TcpStream>>);

impl Sender {
    /// Who reads the answers finds out when the connection is gone.
    fn send(&self, frame: &Frame) -> bool {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes).is_ok()
    }
}

/// Sends what is typed, to the end of standard input.
fn type_in(to: &Sender) {
    let mut bytes = vec![0; FRAME_BYTES];
    let mut stdin = std::io::stdin().lock();
    loop {
        match stdin.read(&mut bytes) {
            Ok(0) | Err(_) => {
                to.send(&Frame::InputEnd);
                return;
            }
            Ok(count) if to.send(&Frame::Input(bytes[..count].to_vec())) => {}
            Ok(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminals_name_is_one_that_the_server_takes() {
        assert!(is_plain("xterm-256color") && is_plain("screen.xterm+x"));
        for term in ["", "a b", "a\n", "é", &"x".repeat(65)] {
            assert!(!is_plain(term), "{term:?}");
        }
    }
}
