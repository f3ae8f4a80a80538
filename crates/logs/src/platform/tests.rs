use super::*;
use proptest::prelude::*;

const AT: u64 = 1_767_323_045_678;

fn id() -> RequestId {
    RequestId::parse("11111111-2222-4333-8444-555555555555").expect("a request id")
}

/// The record of a document, whose envelope is checked.
fn record(event: &PlatformEvent<'_>) -> String {
    let json = event.json(AT);
    let start = format!(
        "{{\"time\":\"2026-01-02T03:04:05.678Z\",\"type\":\"{}\",\"record\":",
        event.name()
    );
    json.strip_prefix(&start).and_then(|rest| rest.strip_suffix('}')).expect("the envelope").into()
}

fn report(status: Status<'static>, init_duration_us: Option<u64>) -> Report<'static> {
    Report {
        request_id: id(),
        duration_us: 5_000_010,
        init_duration_us,
        memory_size_mib: 128,
        max_memory_used_mib: 36,
        status,
    }
}

#[test]
fn every_record_has_its_fields_in_order() {
    let trace = "Root=1-a;Parent=b;Sampled=1;Lineage=c";
    let spans = [Span { name: "responseLatency", start_ms: AT, duration_us: 1_500 }];
    for (event, expected) in [
        (
            PlatformEvent::InitStart {
                initialization: "on-demand",
                phase: InitPhase::Init,
                runtime_version: "provided:al2023.v1",
                runtime_version_arn: "arn:r",
                function_name: "f",
                function_version: Version::Latest,
                instance_id: "2026/01/02/[$LATEST]0",
                memory_mib: 128,
            },
            r#"{"initializationType":"on-demand","phase":"init","runtimeVersion":"provided:al2023.v1","runtimeVersionArn":"arn:r","functionName":"f","functionVersion":"$LATEST","instanceId":"2026/01/02/[$LATEST]0","instanceMaxMemory":134217728}"#,
        ),
        (
            PlatformEvent::InitRuntimeDone {
                initialization: "on-demand",
                phase: InitPhase::Init,
                outcome: Outcome::SUCCESS,
            },
            r#"{"initializationType":"on-demand","phase":"init","status":"success"}"#,
        ),
        (
            PlatformEvent::InitReport {
                initialization: "on-demand",
                phase: InitPhase::Invoke,
                status: Status::Error("Extension.Crash"),
                duration_us: 125_330,
            },
            r#"{"initializationType":"on-demand","phase":"invoke","status":"error","errorType":"Extension.Crash","metrics":{"durationMs":125.33}}"#,
        ),
        (
            PlatformEvent::Start { request_id: id(), version: Version::Latest, trace: Some(trace) },
            r#"{"requestId":"11111111-2222-4333-8444-555555555555","version":"$LATEST","tracing":{"spanId":"b","type":"X-Amzn-Trace-Id","value":"Root=1-a;Parent=b;Sampled=1;Lineage=c"}}"#,
        ),
        (
            PlatformEvent::RuntimeDone {
                request_id: id(),
                outcome: Outcome::SUCCESS,
                duration_us: 140,
                produced_bytes: 16,
                spans: &spans,
                trace: Some("Root=1-a;Sampled=0"),
            },
            r#"{"requestId":"11111111-2222-4333-8444-555555555555","status":"success","metrics":{"durationMs":0.14,"producedBytes":16},"spans":[{"name":"responseLatency","start":"2026-01-02T03:04:05.678Z","durationMs":1.5}]}"#,
        ),
        (
            PlatformEvent::Report {
                report: report(Status::Timeout, Some(578_070)),
                spans: &[],
                trace: None,
            },
            r#"{"requestId":"11111111-2222-4333-8444-555555555555","status":"timeout","metrics":{"durationMs":5000.01,"billedDurationMs":5579,"memorySizeMB":128,"maxMemoryUsedMB":36,"initDurationMs":578.07}}"#,
        ),
        (
            PlatformEvent::End { request_id: id() },
            r#"{"requestId":"11111111-2222-4333-8444-555555555555"}"#,
        ),
        (PlatformEvent::Fault { text: "RequestId: x\nT\n" }, r#""RequestId: x\nT\n""#),
        (
            PlatformEvent::Extension {
                name: "e",
                state: "Ready",
                events: &["INVOKE", "SHUTDOWN"],
                error_type: None,
            },
            r#"{"name":"e","state":"Ready","events":["INVOKE","SHUTDOWN"]}"#,
        ),
        (
            PlatformEvent::Subscription { legacy: false, name: "e", types: &["platform"] },
            r#"{"name":"e","state":"Subscribed","types":["platform"]}"#,
        ),
        (
            PlatformEvent::LogsDropped { bytes: 12, records: 1, reason: "full" },
            r#"{"droppedBytes":12,"droppedRecords":1,"reason":"full"}"#,
        ),
    ] {
        assert_eq!(record(&event), expected);
    }
}

#[test]
fn text_says_what_it_always_said_and_nothing_of_what_went_well_in_between() {
    let done = PlatformEvent::InitRuntimeDone {
        initialization: "on-demand",
        phase: InitPhase::Init,
        outcome: Outcome::SUCCESS,
    };
    assert_eq!(done.text(), None);
    let of = |status| PlatformEvent::InitReport {
        initialization: "on-demand",
        phase: InitPhase::Init,
        status,
        duration_us: 0,
    };
    assert_eq!(of(Status::Success).text(), None);
    assert!(of(Status::Timeout).text().is_some());
    let extension = |error_type| PlatformEvent::Extension {
        name: "e",
        state: "Ready",
        events: &["INVOKE", "SHUTDOWN"],
        error_type,
    };
    assert_eq!(
        extension(None).text().as_deref(),
        Some("EXTENSION\tName: e\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n")
    );
    assert_eq!(
        extension(Some("X")).text().as_deref(),
        Some("EXTENSION\tName: e\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\tError Type: X\n")
    );
    let types = ["platform", "function"];
    let of = |legacy| PlatformEvent::Subscription { legacy, name: "e", types: &types }.text();
    assert_eq!(
        of(false).as_deref(),
        Some("TELEMETRY\tName: e\tState: Subscribed\tTypes: [Platform, Function]\n")
    );
    assert!(of(true).is_some_and(|line| line.starts_with("LOGS\tName: e\t")));
}

#[test]
fn system_levels_depend_on_how_it_went() {
    let done = |outcome| PlatformEvent::InitRuntimeDone {
        initialization: "on-demand",
        phase: InitPhase::Init,
        outcome,
    };
    assert_eq!(done(Outcome::SUCCESS).level(), Some(Level::Debug));
    assert_eq!(done(Outcome::new(Status::Timeout)).level(), Some(Level::Warn));
    let of = |status| {
        PlatformEvent::Report { report: report(status, None), spans: &[], trace: None }.level()
    };
    assert_eq!(of(Status::Success), Some(Level::Info));
    assert_eq!(of(Status::Error("Runtime.ExitError")), Some(Level::Warn));
    assert_eq!(PlatformEvent::End { request_id: id() }.level(), None);
}

#[test]
fn the_platforms_faults_are_failures() {
    for (status, name) in [
        (Status::Success, "success"),
        (Status::Timeout, "timeout"),
        (Status::Error("Sandbox.Failure"), "failure"),
        (Status::Error("Runtime.ExitError"), "error"),
    ] {
        assert_eq!(Outcome::new(status).status, name);
    }
}

#[test]
fn lines_are_strings_or_objects() {
    let line = |text: &str, object| line_json(AT, "function", text.as_bytes(), object);
    let end = |json: String| json.split_once("\"record\":").expect("a record").1.to_owned();
    assert_eq!(end(line("a \"b\"\n", true)), r#""a \"b\""}"#);
    assert_eq!(end(line("{\"z\":1,\"a\":2}\n", true)), r#"{"z":1,"a":2}}"#);
    assert_eq!(end(line("{\"z\":1}\n", false)), r#""{\"z\":1}"}"#);
    assert_eq!(end(line("[1]\n", true)), r#""[1]"}"#);
}

#[test]
fn application_lines_are_filtered_by_their_own_level() {
    for (line, level, passed) in [
        (r#"{"level":"DEBUG","m":1}"#, Level::Info, false),
        (r#"{"level":"debug"}"#, Level::Debug, true),
        (r#"{"m":{"level":"ERROR"}}"#, Level::Warn, false),
        (r#"{"level":"odd"}"#, Level::Info, true),
        (r#"{"level":7}"#, Level::Warn, false),
        (r#"{"level":"FATAL"}"#, Level::Fatal, true),
        (r#"{"level":"WARN"}"#, Level::Error, false),
        ("plain", Level::Fatal, true),
        ("{broken", Level::Fatal, true),
    ] {
        assert_eq!(passes(line.as_bytes(), level), passed, "{line} at {level:?}");
    }
}

proptest! {
    #[test]
    fn any_line_becomes_one_line_of_json(line in prop::collection::vec(any::<u8>(), 0..80), object: bool) {
        // A line ends at its first line break, by definition.
        let line: Vec<u8> = line.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        let json = line_json(AT, "function", &line, object);
        prop_assert!(!json.contains('\n'));
        let parsed: Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(&parsed["type"], "function");
        let _ = passes(&line, Level::Warn);
    }

    #[test]
    fn any_names_make_json(name in "\\PC*", trace in "(Root=|Parent=|Sampled=1|;|[\"a\\\\])*") {
        for event in [
            PlatformEvent::Extension { name: &name, state: "Ready", events: &[], error_type: Some(&name) },
            PlatformEvent::Start { request_id: id(), version: Version::Latest, trace: Some(&trace) },
            PlatformEvent::Fault { text: &name },
        ] {
            prop_assert!(serde_json::from_str::<Value>(&event.json(AT)).is_ok());
        }
    }
}
