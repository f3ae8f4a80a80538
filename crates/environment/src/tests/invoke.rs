#![allow(clippy::unwrap_used)]
use super::fixture::*;
use lambfold_runtime_api::{Caller, Host, Post, Posted};
use lambfold_sandbox::ExitStatus;
use lambfold_types::limits::RESPONSE_BYTES;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

#[tokio::test(start_paused = true)]
async fn a_cold_and_a_warm_invocation_and_their_log() {
    let lab = Lab::new(|_, mut guest| async move {
        advance_ms(110).await;
        guest.print("hello from init\n").await;
        loop {
            let next = guest.next().await;
            advance_ms(5).await;
            guest.print(&format!("got {}\nno line end", next.body)).await;
            guest.respond(&next.id, b"ok").await;
        }
    });
    let environment = lab.launch().await;
    let stream = environment.log_stream().to_owned();
    assert!(stream.starts_with("2026/01/02/[$LATEST]"), "{stream}");
    let first = begin(&environment, "1").finish().await;
    let second = begin(&environment, "2").finish().await;
    assert_eq!((&*first.payload, first.function_error, first.reusable), ("ok", false, true));
    let (one, two) = (first.id, second.id);
    let zeros = "0".repeat(64);
    let expected_first = format!(
        "START RequestId: {one} Version: $LATEST\ngot 1\nno line endEND RequestId: {one}\n\
         REPORT RequestId: {one}\tDuration: 5.00 ms\tBilled Duration: 115 ms\tMemory Size: 128 MB\tMax Memory Used: 11 MB\tInit Duration: 110.00 ms\t\n"
    );
    let expected_second = format!(
        "START RequestId: {two} Version: $LATEST\ngot 2\nno line endEND RequestId: {two}\n\
         REPORT RequestId: {two}\tDuration: 5.00 ms\tBilled Duration: 5 ms\tMemory Size: 128 MB\tMax Memory Used: 11 MB\t\n"
    );
    let expected = format!(
        "INIT_START Runtime Version: provided:al2023.v1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:{zeros}\n\
         hello from init\n{expected_first}{expected_second}"
    );
    assert_eq!(lab.world.log(), expected);
    assert_eq!(first.tail, expected_first);
    assert_eq!(second.tail, expected_second);
    let log = lab.world.log.lock().unwrap();
    assert!(log.iter().any(|event| event == "no line end"), "an unfinished line is an event");
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_is_made_as_the_configuration_says() {
    let mut lab = Lab::new(|_, guest| echo(guest));
    let version = Arc::get_mut(&mut lab.version).unwrap();
    version.memory_mib = 1769;
    version.ephemeral_storage_mib = 600;
    let environment = lab.launch().await;
    let spec = lab.world.spec.lock().unwrap().clone();
    let address = |ip: [u8; 4]| SocketAddrV4::new(Ipv4Addr::from(ip), 9001);
    assert_eq!(spec.listeners, [address([127, 0, 0, 1]), address([169, 254, 100, 1])]);
    assert_eq!((spec.memory_bytes, spec.tmp_bytes), (1769 << 20, 600 << 20));
    assert_eq!((spec.processes, spec.open_files, spec.cpu_weight), (1024, 1024, 100));
    let [bind] = &spec.binds[..] else { panic!("one folder") };
    assert_eq!(bind.target, "/var/task");
    assert_eq!(bind.source, lab.folder.path().join("trees").join("07".repeat(32)));
    let command = lab.world.command.lock().unwrap().clone();
    assert_eq!(command.programs, ["/var/task/bootstrap", "/opt/bootstrap"]);
    assert_eq!((command.args.len(), &*command.cwd), (0, "/var/task"));
    let stream = ("AWS_LAMBDA_LOG_STREAM_NAME".to_owned(), environment.log_stream().to_owned());
    assert!(command.env.contains(&stream));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_the_time_of_receipt_plus_the_timeout() {
    let deadlines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&deadlines);
    let lab = Lab::new(move |_, mut guest| {
        let seen = Arc::clone(&seen);
        async move {
            loop {
                let next = guest.next().await;
                seen.lock().unwrap().push(next.deadline_ms);
                guest.respond(&next.id, b"").await;
            }
        }
    });
    let environment = lab.launch().await;
    begin(&environment, "").finish().await;
    advance_ms(500).await;
    begin(&environment, "").finish().await;
    assert_eq!(*deadlines.lock().unwrap(), [EPOCH_MS + 3000, EPOCH_MS + 3500]);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_function_are_forwarded_without_a_status() {
    let lab = Lab::new(|_, mut guest| async move {
        loop {
            let next = guest.next().await;
            let path = format!("invocation/{}/error", next.id);
            assert_eq!(guest.post(&path, "", br#"{"errorType":"E","trace":[1]}"#).await, 202);
        }
    });
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert_eq!(finished.payload, r#"{"errorType":"E","trace":[1]}"#);
    assert!(finished.function_error && finished.reusable);
    assert!(!finished.tail.contains("Status"), "{}", finished.tail);
    assert!(lab.world.log().ends_with("\t\n"));
}

#[tokio::test(start_paused = true)]
async fn a_response_over_the_limit_fails_the_invocation_and_not_the_runtime() {
    let lab = Lab::new(|number, mut guest| async move {
        assert_eq!(number, 1);
        for (bytes, status) in [(RESPONSE_BYTES + 1, 413), (RESPONSE_BYTES, 202)] {
            let next = guest.next().await;
            assert_eq!(guest.respond(&next.id, &vec![b'x'; bytes]).await, status);
        }
        echo(guest).await
    });
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert_eq!(
        finished.payload,
        r#"{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#
    );
    assert!(finished.function_error && finished.reusable);
    let finished = begin(&environment, "").finish().await;
    assert_eq!((finished.payload.len(), finished.function_error), (RESPONSE_BYTES, false));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_response_mode_leaves_the_runtime_stuck() {
    let lab = Lab::new(|number, mut guest| async move {
        if number == 2 {
            return echo(guest).await;
        }
        let next = guest.next().await;
        let path = format!("invocation/{}/response", next.id);
        let mode = "Lambda-Runtime-Function-Response-Mode: buffered\r\n";
        assert_eq!(guest.post(&path, mode, b"x").await, 400);
        assert_eq!(guest.call("GET", "invocation/next", "", b"").await.unwrap().0, 403);
        ExitStatus::Code(1)
    });
    let environment = lab.launch().await;
    let finished = begin(&environment, "").finish().await;
    assert_eq!((&*finished.payload, finished.function_error), ("", true));
    assert_eq!(begin(&environment, "again").finish().await.payload, "again");
}

#[tokio::test(start_paused = true)]
async fn the_next_invocation_may_begin_in_the_callback() {
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    let answers = Arc::new(AtomicU32::new(0));
    let (done, all_done) = tokio::sync::oneshot::channel();
    chain(Arc::clone(&environment), Arc::clone(&answers), 20, done);
    all_done.await.unwrap();
    assert_eq!(answers.load(Ordering::SeqCst), 20);
}

fn chain(
    environment: Arc<crate::Environment>,
    answers: Arc<AtomicU32>,
    left: u32,
    done: tokio::sync::oneshot::Sender<()>,
) {
    if left == 0 {
        return done.send(()).unwrap();
    }
    let again = Arc::clone(&environment);
    let counted = Arc::clone(&answers);
    environment.begin(
        invocation("x"),
        Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
        Box::new(move |end| {
            assert!(end.reusable);
            chain(again, answers, left - 1, done);
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_the_answer_to_be_handed_over() {
    let lab = Lab::new(|_, _| std::future::pending());
    let launching = tokio::spawn({
        let (launcher, version) = (Arc::clone(&lab.launcher), Arc::clone(&lab.version));
        async move { launcher.launch(version).await.unwrap() }
    });
    // The runtime's part is played here, without HTTP.
    lab.until(|| lab.world.processes() == 1).await;
    settle().await;
    let mut outsider = lab.world.outsider();
    tokio::spawn(async move { outsider.next().await });
    let environment = launching.await.unwrap();
    let inner = Arc::clone(environment.inner());
    let order = Arc::new(Mutex::new(Vec::new()));
    let invocation = invocation("x");
    let id = invocation.request_id.to_string();
    let (first, second) = (Arc::clone(&order), Arc::clone(&order));
    let asks = Arc::clone(&inner);
    environment.begin(
        invocation,
        Box::new(move |_| {
            // Another connection asks for the next event while the answer is on its way.
            drop(asks.next(Caller::new(&http::HeaderMap::new())));
            first.lock().unwrap().push("answer");
        }),
        Box::new(move |_| second.lock().unwrap().push("end")),
    );
    let posting = inner.begin_post(&id, Post::Response).unwrap();
    let posted = Posted::Response { payload: "r".into(), content_type: None };
    inner.finish(posting, posted).unwrap();
    assert_eq!(*order.lock().unwrap(), ["answer", "end"]);
}

#[tokio::test(start_paused = true)]
async fn background_output_goes_to_the_invocation_that_is_current() {
    let lab = Lab::new(|_, mut guest| async move {
        let next = guest.next().await;
        guest.respond(&next.id, b"").await;
        let next = guest.next().await;
        guest.print("left over\n").await;
        guest.respond(&next.id, b"").await;
        echo(guest).await
    });
    let environment = lab.launch().await;
    let first = begin(&environment, "").finish().await;
    let second = begin(&environment, "").finish().await;
    assert!(!first.tail.contains("left over"));
    assert!(second.tail.contains("left over"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_program_is_named_once_with_its_package() {
    let lab = Lab::new(|_, mut guest| async move {
        loop {
            let next = guest.next().await;
            guest.print("/var/task/bootstrap: line 3: jq: command not found\n").await;
            guest.respond(&next.id, b"").await;
        }
    });
    let environment = lab.launch().await;
    let first = begin(&environment, "").finish().await;
    let hint = "[lambfold] jq is part of Amazon Linux but not of this machine; install it with: apt-get install jq\n";
    assert!(first.tail.contains(hint), "{}", first.tail);
    assert!(!begin(&environment, "").finish().await.tail.contains(hint));
}
