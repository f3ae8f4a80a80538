//! What extensions are told of the function and of the platform.

use super::*;
use lambfold_types::LogFormat;

/// Subscribes over TCP to a listener that collects lines; ends when it is told to.
async fn subscriber(mut guest: Guest, lines: Seen) -> ExitStatus {
    use tokio::io::AsyncBufReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut reader = tokio::io::BufReader::new(stream).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            lines.lock().unwrap().push(line);
        }
    });
    let id = guest.register("e", BOTH).await;
    assert_eq!(guest.subscribe(&id, port).await, 200);
    guest.print("hello from the extension\n").await;
    while let Some(event) = guest.event(&id).await {
        if event["eventType"] == "SHUTDOWN" {
            assert_eq!(guest.subscribe(&id, port).await, 403);
            break;
        }
    }
    ExitStatus::Code(0)
}

#[tokio::test(start_paused = true)]
async fn telemetry_tells_every_phase_in_order() {
    let lines = Seen::default();
    let told = Arc::clone(&lines);
    let heard = Arc::clone(&lines);
    let lab = Lab::with_extensions(
        &["e"],
        move |_, mut guest| {
            let heard = Arc::clone(&heard);
            async move {
                // The order of what two processes do is theirs to decide.
                while !heard.lock().unwrap().iter().any(|line| line.contains("hello")) {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                loop {
                    let next = guest.next().await;
                    guest.print("a line\n").await;
                    if next.body == "die" {
                        return ExitStatus::Code(3);
                    }
                    guest.respond(&next.id, b"12345").await;
                }
            }
        },
        move |_, guest| subscriber(guest, Arc::clone(&told)),
    );
    let environment = passing(&lab, lab.launch()).await;
    let first = begin(&environment, "").finish().await;
    let second = passing(&lab, begin(&environment, "die").finish()).await;
    let lines = lines.lock().unwrap().clone();
    let records: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<&str> = records.iter().map(|record| record["type"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "platform.initStart",
            "platform.telemetrySubscription",
            "extension",
            "platform.initRuntimeDone",
            "platform.extension",
            "platform.initReport",
            "platform.start",
            "function",
            "platform.runtimeDone",
            "platform.report",
            "platform.start",
            "function",
            "platform.runtimeDone",
            "platform.report",
        ],
        "{lines:#?}"
    );
    let of = |name: &str, nth: usize| {
        let found = records.iter().filter(|record| record["type"] == name).nth(nth).unwrap();
        found["record"].clone()
    };
    assert_eq!(of("extension", 0), "hello from the extension");
    assert_eq!(of("function", 0), "a line");
    let done = of("platform.runtimeDone", 0);
    assert_eq!(
        (&done["status"], &done["metrics"]["producedBytes"]),
        (&"success".into(), &5.into())
    );
    assert_eq!(done["requestId"], first.id.to_string());
    let spans: Vec<&str> =
        done["spans"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(spans, ["responseLatency", "responseDuration", "runtimeOverhead"]);
    assert!(of("platform.report", 0)["metrics"]["initDurationMs"].is_f64());
    let done = of("platform.runtimeDone", 1);
    assert_eq!(done["requestId"], second.id.to_string());
    assert_eq!(
        (&done["status"], &done["errorType"]),
        (&"error".into(), &"Runtime.ExitError".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_function_that_logs_in_json_has_documents_and_levels() {
    let mut lab = Lab::new(|_, mut guest| async move {
        let next = guest.next().await;
        guest.print("{\"level\":\"debug\"}\n{\"level\":\"error\"}\nplain\n").await;
        guest.respond(&next.id, b"").await;
        guest.next().await;
        ExitStatus::Code(1)
    });
    let logging = &mut Arc::get_mut(&mut lab.version).unwrap().logging;
    logging.format = LogFormat::Json;
    logging.system_level = Some("DEBUG".to_owned());
    let environment = lab.launch().await;
    let first = begin(&environment, "").finish().await;
    begin(&environment, "").finish().await;
    let log = lab.world.log();
    let kinds: Vec<String> = log
        .lines()
        .map(|line| match serde_json::from_str::<Value>(line) {
            Ok(value) => match value["type"].as_str() {
                Some(kind) => {
                    let status = value["record"]["status"].as_str().unwrap_or_default();
                    format!("{kind} {status}").trim_end().to_owned()
                }
                None => line.to_owned(),
            },
            Err(_) => line.to_owned(),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "platform.initStart",
            "platform.initRuntimeDone success",
            "platform.initReport success",
            "platform.start",
            "{\"level\":\"error\"}",
            "plain",
            "platform.runtimeDone success",
            "platform.report success",
            "platform.start",
            "platform.runtimeDone error",
            "platform.report error",
        ],
        "{log}"
    );
    assert!(first.tail.starts_with("{\"time\":"), "{}", first.tail);
}
