use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use lambfold_runtime_client::scripted::{Call, Event, Server};
use lambfold_runtime_client::{serve, Client, FunctionError, Invocation};

const SOON: Duration = Duration::from_secs(20);

fn start<H>(server: &Server, workers: usize, handler: H)
where
    H: Fn(&Invocation) -> Result<String, FunctionError> + Send + Sync + 'static,
{
    let client = Client::new(server.endpoint()).unwrap();
    thread::spawn(move || serve(client, workers, handler));
}

#[test]
fn a_handler_is_served_through_answers_errors_and_panics() {
    let server = Server::start().unwrap();
    start(&server, 1, |event| match event.body() {
        b"panic" => panic!("on purpose"),
        b"error" => Err("x".parse::<u32>().unwrap_err().into()),
        _ => Ok(std::env::var("_X_AMZN_TRACE_ID").unwrap_or_default()),
    });
    let traced = Event::new("1", "").with_field("Lambda-Runtime-Trace-Id", "Root=1-a");
    assert_eq!(server.invoke(traced, SOON).unwrap().text(), "Root=1-a");
    assert_eq!(server.invoke(Event::new("2", ""), SOON).unwrap().text(), "");
    let post = server.invoke(Event::new("3", "error"), SOON).unwrap();
    assert_eq!(post.call, Call::Error);
    assert!(post.text().contains("\"errorType\":\"ParseIntError\""), "{}", post.text());
    let post = server.invoke(Event::new("4", "panic"), SOON).unwrap();
    assert!(post.text().contains("on purpose"), "{}", post.text());
    assert_eq!(server.invoke(Event::new("5", ""), SOON).unwrap().call, Call::Response);
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_answer_that_is_too_large_ends_its_event_only() {
    let server = Server::start().unwrap();
    start(&server, 1, |_| Ok("{}".to_owned()));
    server.answer_next_post_with(413, "{}");
    server.invoke(Event::new("1", ""), SOON).unwrap();
    assert_eq!(server.invoke(Event::new("2", ""), SOON).unwrap().request_id, "2");
}

#[test]
fn as_many_events_at_once_as_there_are_workers() {
    let server = Server::start().unwrap();
    let together = Arc::new(Barrier::new(3));
    start(&server, 3, move |event| {
        together.wait();
        Ok(event.request_id().to_owned())
    });
    assert!(server.wait_waiting(3, SOON));
    for id in ["a", "b", "c"] {
        server.push(Event::new(id, ""));
    }
    let mut answered: Vec<String> = (0..3).map(|_| server.post(SOON).unwrap().text()).collect();
    answered.sort();
    assert_eq!(answered, ["a", "b", "c"]);
    assert_eq!(server.connections(), 3);
}
