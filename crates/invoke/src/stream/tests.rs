#![allow(clippy::unwrap_used)]
use super::*;

type Answering = oneshot::Sender<Result<Answer, PoolError>>;

fn started()
-> (Arc<dyn ResponseSink>, Answering, impl Future<Output = Result<ResponseStream, PoolError>>) {
    let (sink, head, chunks) = channel();
    let (answer, answered) = oneshot::channel();
    (sink, answer, ResponseStream::open(head, chunks, answered))
}

fn answer(
    payload: &'static str,
    stream_error: Option<&'static str>,
    function_error: bool,
) -> Answer {
    Answer {
        payload: payload.into(),
        content_type: Some("text/x".into()),
        function_error,
        stream_error: stream_error.map(Into::into),
    }
}

/// What comes, as text: chunks, and then the end.
async fn parts(mut stream: ResponseStream) -> (Vec<String>, Option<(String, String)>) {
    let mut chunks = Vec::new();
    loop {
        match stream.next().await {
            Part::Chunk(chunk) => chunks.push(String::from_utf8(chunk.to_vec()).unwrap()),
            Part::End(end) => {
                let failure = end.err().map(|failure| {
                    (failure.code, String::from_utf8(failure.details.to_vec()).unwrap())
                });
                return (chunks, failure);
            }
        }
    }
}

#[tokio::test]
async fn what_is_streamed_comes_before_the_answer() {
    let (sink, answering, opening) = started();
    sink.begin(Some("text/y".into()));
    let mut stream = opening.await.unwrap();
    assert_eq!(stream.content_type(), Some("text/y"));
    sink.send("a".into()).await.unwrap();
    assert!(matches!(stream.next().await, Part::Chunk(chunk) if chunk == "a"));
    sink.send("b".into()).await.unwrap();
    sink.send("c".into()).await.unwrap();
    answering.send(Ok(answer("", None, false))).unwrap();
    assert_eq!(parts(stream).await, (vec!["b".to_owned(), "c".to_owned()], None));
}

#[tokio::test]
async fn a_slow_caller_is_waited_for() {
    let (sink, answering, opening) = started();
    sink.begin(None);
    let mut stream = opening.await.unwrap();
    for _ in 0..CHUNKS {
        sink.send("x".into()).await.unwrap();
    }
    let mut waiting = sink.send("last".into());
    let is_waiting =
        poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
    assert!(is_waiting, "no more than {CHUNKS} chunks are kept");
    assert!(matches!(stream.next().await, Part::Chunk(_)));
    waiting.await.unwrap();
    answering.send(Ok(answer("", None, false))).unwrap();
    assert_eq!(parts(stream).await.0, ["x", "last"]);
}

#[tokio::test]
async fn a_whole_answer_is_one_chunk() {
    for (payload, chunks) in [("whole", vec!["whole".to_owned()]), ("", Vec::new())] {
        let (_sink, answering, opening) = started();
        answering.send(Ok(answer(payload, None, false))).unwrap();
        let stream = opening.await.unwrap();
        assert_eq!(stream.content_type(), Some("text/x"));
        assert_eq!(parts(stream).await, (chunks, None));
    }
}

#[tokio::test]
async fn errors_before_and_in_the_middle_of_a_stream() {
    let failed = |code: &str| Some((code.to_owned(), "{}".to_owned()));
    for stream_error in [None, Some("Sandbox.Timeout")] {
        let (_sink, answering, opening) = started();
        answering.send(Ok(answer("{}", stream_error, true))).unwrap();
        assert_eq!(parts(opening.await.unwrap()).await, (Vec::new(), failed("Unhandled")));
    }
    let (sink, answering, opening) = started();
    sink.begin(None);
    sink.send("part".into()).await.unwrap();
    answering.send(Ok(answer("{}", Some("Sandbox.Timeout"), true))).unwrap();
    let expected = (vec!["part".to_owned()], failed("Sandbox.Timeout"));
    assert_eq!(parts(opening.await.unwrap()).await, expected);
}

#[tokio::test]
async fn an_environment_that_vanishes() {
    let (_sink, answering, opening) = started();
    drop(answering);
    assert!(matches!(opening.await, Err(PoolError::Lost)));

    let (sink, answering, opening) = started();
    sink.begin(None);
    let stream = opening.await.unwrap();
    drop(answering);
    let (chunks, failure) = parts(stream).await;
    assert_eq!((chunks.len(), &*failure.unwrap().0), (0, "Sandbox.Failure"));
}

#[tokio::test]
async fn the_sink_knows_who_is_gone() {
    let (sink, _answering, opening) = started();
    sink.begin(None);
    drop(opening.await.unwrap());
    assert_eq!(sink.send("x".into()).await, Err(CallerGone));
    let mut closed = sink.closed();
    let is_open = poll_fn(|context| Poll::Ready(closed.as_mut().poll(context).is_pending())).await;
    assert!(is_open);
    sink.close();
    closed.await;
    sink.closed().await;
}
