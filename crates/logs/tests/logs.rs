//! The log store through its public interface.
#![allow(clippy::unwrap_used)]

use lambfold_logs::{
    EventsQuery, FilterPattern, FilterQuery, GroupsQuery, Logs, Options, QueryError, StreamFilter,
    StreamOrder, StreamsQuery,
};
use lambfold_types::{AccountId, Region, Scope};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const GROUP: &str = "/aws/lambda/f";

fn scope() -> Scope {
    Scope {
        account: AccountId::parse("000000000000").unwrap(),
        region: Region::parse("us-east-1").unwrap(),
    }
}

/// Never writes by itself, so that what is read was not flushed by chance.
fn manual() -> Options {
    Options { flush_interval: Duration::from_secs(3600), ..Options::default() }
}

fn open(dir: &Path, options: Options) -> Logs {
    Logs::open(dir, options).unwrap()
}

fn query(scope: &Scope) -> FilterQuery<'_> {
    FilterQuery {
        scope,
        group: GROUP,
        streams: StreamFilter::All,
        start_ms: None,
        end_ms: None,
        pattern: FilterPattern::default(),
        limit: 10_000,
        token: None,
    }
}

fn all(logs: &Logs) -> Vec<String> {
    let scope = scope();
    let page = logs.filter(&query(&scope)).unwrap();
    assert_eq!(page.token, None);
    page.events.iter().map(lambfold_logs::Event::message).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let folder = dir.join("000000000000/us-east-1/%2Faws%2Flambda%2Ff");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn what_was_pushed_is_seen_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    let (a, b) = (logs.stream(&scope(), GROUP, "a"), logs.stream(&scope(), GROUP, "b"));
    a.push(1000, b"first\n");
    b.push(1001, b"second\n");
    a.push(1002, b"third\n");
    assert_eq!(all(&logs), ["first\n", "second\n", "third\n"]);
    a.push(1003, b"fourth\n");
    drop(logs);
    let logs = open(dir.path(), manual());
    assert_eq!(all(&logs), ["first\n", "second\n", "third\n", "fourth\n"]);
    logs.stream(&scope(), GROUP, "a").push(1004, b"fifth\n");
    assert_eq!(all(&logs).last().unwrap(), "fifth\n");
    assert_eq!(segments(dir.path()).len(), 1, "the segment of the earlier run is continued");
}

#[test]
fn the_writer_flushes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), Options::default());
    logs.stream(&scope(), GROUP, "a").push(1000, b"line\n");
    let folder = dir.path().join("000000000000/us-east-1/%2Faws%2Flambda%2Ff/0000000000000001.log");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while fs::metadata(&folder).map_or(0, |meta| meta.len()) < 20 {
        assert!(std::time::Instant::now() < deadline, "nothing was written");
        std::thread::yield_now();
    }
}

#[test]
fn filters_select_by_stream_time_and_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    for (stream, ms, line) in
        [("2026/a", 10, "ERROR one"), ("2026/b", 20, "INFO two"), ("2025/a", 30, "ERROR three")]
    {
        logs.stream(&scope(), GROUP, stream).push(ms, line.as_bytes());
    }
    let scope = scope();
    let found = |change: &dyn Fn(&mut FilterQuery<'_>)| {
        let mut query = query(&scope);
        change(&mut query);
        logs.filter(&query).unwrap().events.iter().map(|e| e.epoch_ms).collect::<Vec<_>>()
    };
    assert_eq!(found(&|q| q.streams = StreamFilter::Prefix("2026/".into())), [10, 20]);
    assert_eq!(found(&|q| q.streams = StreamFilter::Names(vec!["2025/a".into()])), [30]);
    assert_eq!(found(&|q| q.pattern = FilterPattern::parse("ERROR").unwrap()), [10, 30]);
    assert_eq!(found(&|q| q.start_ms = Some(20)), [20, 30]);
    assert_eq!(found(&|q| q.start_ms = Some(21)), [30]);
    assert_eq!(found(&|q| q.end_ms = Some(20)), [10, 20]);
    assert_eq!(found(&|q| q.end_ms = Some(19)), [10]);
    let missing = FilterQuery { group: "/none", ..query(&scope) };
    assert!(matches!(logs.filter(&missing), Err(QueryError::NoGroup { .. })));
    let foreign = FilterQuery { token: Some("f/1"), ..query(&scope) };
    assert!(matches!(logs.filter(&foreign), Err(QueryError::Token { .. })));
}

#[test]
fn pages_of_a_filter_hold_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    for n in 0..100u64 {
        let stream = logs.stream(&scope(), GROUP, &format!("s{}", n % 3));
        stream.push(1000 + n % 7, format!("{n}").as_bytes());
    }
    let scope = scope();
    let (mut token, mut ids) = (None, Vec::new());
    loop {
        let query = FilterQuery { limit: 9, token: token.as_deref(), ..query(&scope) };
        let page = logs.filter(&query).unwrap();
        assert!(page.events.len() <= 9);
        ids.extend(page.events.iter().map(lambfold_logs::Event::id));
        match page.token {
            Some(next) => token = Some(next),
            None => break,
        }
    }
    assert_eq!(ids.len(), 100);
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ordered, each once");
}

#[test]
fn events_of_a_stream_page_in_both_directions_and_follow() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    let stream = logs.stream(&scope(), GROUP, "s");
    logs.stream(&scope(), GROUP, "other").push(5, b"not asked for");
    for n in 0..10u64 {
        stream.push(n, format!("{n}").as_bytes());
    }
    let scope = scope();
    let page = |head: bool, token: Option<&str>| {
        let query = EventsQuery {
            scope: &scope,
            group: GROUP,
            stream: "s",
            start_ms: None,
            end_ms: None,
            start_from_head: head,
            limit: 4,
            token,
        };
        let page = logs.events(&query).unwrap();
        let text: String = page.events.iter().map(lambfold_logs::Event::message).collect();
        (text, page.forward, page.backward)
    };
    let (text, forward, backward) = page(true, None);
    assert_eq!(text, "0123");
    let (text, forward, _) = page(true, Some(&forward));
    assert_eq!(text, "4567");
    let (text, end, _) = page(true, Some(&forward));
    assert_eq!(text, "89");
    let (text, again, back) = page(true, Some(&end));
    assert_eq!((text.as_str(), &again), ("", &end));
    assert_eq!(page(true, Some(&back)).0, "6789");
    let (text, _, start) = page(true, Some(&backward));
    assert_eq!((text.as_str(), &start), ("", &backward));
    assert_eq!(page(false, None).0, "6789");
    stream.push(11, b"x");
    assert_eq!(page(true, Some(&end)).0, "x", "what is new follows the last token");
    let missing = EventsQuery {
        scope: &scope,
        group: GROUP,
        stream: "none",
        start_ms: None,
        end_ms: None,
        start_from_head: true,
        limit: 1,
        token: None,
    };
    assert!(matches!(logs.events(&missing), Err(QueryError::NoStream { .. })));
}

#[test]
fn event_times_bound_get_log_events_from_the_start_to_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    let stream = logs.stream(&scope(), GROUP, "s");
    (1..=4u64).for_each(|ms| stream.push(ms, b"x"));
    let scope = scope();
    let times = |start_ms, end_ms| {
        let query = EventsQuery {
            scope: &scope,
            group: GROUP,
            stream: "s",
            start_ms,
            end_ms,
            start_from_head: true,
            limit: 100,
            token: None,
        };
        logs.events(&query).unwrap().events.iter().map(|e| e.epoch_ms).collect::<Vec<_>>()
    };
    assert_eq!(times(Some(2), Some(4)), [2, 3]);
    assert_eq!(times(None, Some(0)), [0u64; 0]);
    assert_eq!(times(Some(4), None), [4]);
}

#[test]
fn streams_are_described_in_both_orders_and_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    for (name, ms) in [("b", 10), ("a", 30), ("c", 20), ("x", 5)] {
        logs.stream(&scope(), GROUP, name).push(ms, b"line");
        logs.stream(&scope(), GROUP, name).push(ms + 1, b"line");
    }
    let _without_events = logs.stream(&scope(), GROUP, "unused");
    let scope = scope();
    let names = |order, descending, prefix| {
        let (mut token, mut names) = (None::<String>, String::new());
        loop {
            let query = StreamsQuery {
                scope: &scope,
                group: GROUP,
                prefix,
                order,
                descending,
                limit: 3,
                token: token.as_deref(),
            };
            let page = logs.streams(&query).unwrap();
            assert!(page.streams.len() <= 3);
            page.streams.iter().for_each(|stream| names.push_str(&stream.name));
            assert!(page.streams.iter().all(|s| s.last_event_ms == s.first_event_ms + 1));
            token = page.token;
            if token.is_none() {
                return names;
            }
        }
    };
    assert_eq!(names(StreamOrder::Name, false, None), "abcx");
    assert_eq!(names(StreamOrder::Name, true, None), "xcba");
    assert_eq!(names(StreamOrder::LastEvent, true, None), "acbx");
    assert_eq!(names(StreamOrder::LastEvent, false, None), "xbca");
    assert_eq!(names(StreamOrder::Name, false, Some("b")), "b");
}

#[test]
fn groups_are_described_across_restarts_and_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("/long/{}", "é".repeat(250));
    {
        let logs = open(dir.path(), manual());
        for name in ["/aws/lambda/a", "/aws/lambda/b", &long] {
            logs.stream(&scope(), name, "s").push(77, b"line");
        }
        logs.create_group(&scope(), "/empty", 5).unwrap();
        assert!(logs.create_group(&scope(), "/empty", 6).is_err());
    }
    let logs = open(dir.path(), manual());
    let _unused = logs.stream(&scope(), "/aws/lambda/unused", "s");
    let scope = scope();
    let names = |prefix, contains| {
        let (mut token, mut names) = (None::<String>, Vec::new());
        loop {
            let token_text = token.as_deref();
            let query =
                GroupsQuery { scope: &scope, prefix, contains, limit: 2, token: token_text };
            let page = logs.groups(&query).unwrap();
            names.extend(page.groups.into_iter().map(|group| group.name));
            token = page.token;
            if token.is_none() {
                return names;
            }
        }
    };
    assert_eq!(names(None, None), ["/aws/lambda/a", "/aws/lambda/b", "/empty", &long]);
    assert_eq!(names(Some("/aws/"), None), ["/aws/lambda/a", "/aws/lambda/b"]);
    assert_eq!(names(None, Some("mpt")), ["/empty"]);
    let writer = logs.stream(&scope, "/aws/lambda/a", "s");
    writer.push(78, b"waits");
    logs.delete_group(&scope, "/aws/lambda/a").unwrap();
    assert!(logs.delete_group(&scope, "/aws/lambda/a").is_err());
    assert_eq!(names(Some("/aws/"), None), ["/aws/lambda/b"]);
    writer.push(79, b"anew");
    let query = FilterQuery { group: "/aws/lambda/a", ..query(&scope) };
    assert_eq!(logs.filter(&query).unwrap().events.len(), 1);
}

#[test]
fn a_flood_is_dropped_counted_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { stream_buffer_bytes: 1000, ..manual() };
    let logs = open(dir.path(), options);
    let stream = logs.stream(&scope(), GROUP, "s");
    // 20 bytes of header and 80 of text; the writer wakes by itself from half of the buffer on,
    // so that less than half is in it before the event that decides.
    (0..4).for_each(|ms| stream.push(ms, &[b'x'; 80]));
    stream.push(4, &[b'x'; 581]);
    let messages = all(&logs);
    assert_eq!(messages.len(), 5);
    assert_eq!(
        messages[4],
        "LOGS_DROPPED Records: 1\tBytes: 581\tReason: written faster than the log buffer is emptied\n"
    );
    let other = logs.stream(&scope(), GROUP, "t");
    (0..4).for_each(|ms| other.push(ms, &[b'x'; 80]));
    other.push(4, &[b'x'; 580]);
    assert_eq!(all(&logs).len(), 10, "one byte less fits");
    stream.push(20, b"again");
    assert_eq!(all(&logs).len(), 11, "there is room again");
}

#[test]
fn all_streams_together_are_bounded_too() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), Options { total_buffer_bytes: 1000, ..manual() });
    for n in 0..20 {
        logs.stream(&scope(), GROUP, &format!("{n:02}")).push(n, &[b'x'; 80]);
    }
    let messages = all(&logs);
    assert_eq!(messages.iter().filter(|m| m.starts_with('x')).count(), 10);
    assert_eq!(messages.iter().filter(|m| m.starts_with("LOGS_DROPPED")).count(), 10);
    let stream = logs.stream(&scope(), GROUP, "00");
    stream.push(30, &[b'y'; 900]);
    assert_eq!(all(&logs).len(), 21, "what was written is free again");
}

#[test]
fn the_oldest_segments_go_when_a_group_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let group_bytes = 512 << 10;
    let logs = open(dir.path(), Options { group_bytes, ..manual() });
    let stream = logs.stream(&scope(), GROUP, "s");
    for n in 0..2000u64 {
        stream.push(n, &[b'x'; 1000]);
        if n % 20 == 0 {
            logs.flush();
        }
    }
    logs.flush();
    let disk: u64 = segments(dir.path()).iter().map(|p| fs::metadata(p).unwrap().len()).sum();
    assert!(disk <= group_bytes, "{disk}");
    assert!(disk > group_bytes / 2, "{disk}");
    let scope = scope();
    let page = logs.filter(&FilterQuery { limit: 1, ..query(&scope) }).unwrap();
    assert!(page.events[0].epoch_ms > 1000, "the first were deleted");
    let latest = EventsQuery {
        scope: &scope,
        group: GROUP,
        stream: "s",
        start_ms: None,
        end_ms: None,
        start_from_head: false,
        limit: 1,
        token: None,
    };
    assert_eq!(logs.events(&latest).unwrap().events[0].epoch_ms, 1999);
}

#[test]
fn a_torn_tail_is_cut_off_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    {
        let logs = open(dir.path(), manual());
        let stream = logs.stream(&scope(), GROUP, "s");
        stream.push(1, b"kept");
        logs.flush();
        stream.push(2, b"torn");
    }
    let path = &segments(dir.path())[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    let logs = open(dir.path(), manual());
    logs.stream(&scope(), GROUP, "s").push(3, b"new");
    assert_eq!(all(&logs), ["kept", "new"]);
    drop(logs);
    assert_eq!(all(&open(dir.path(), manual())), ["kept", "new"]);
}

#[test]
fn thousands_of_functions_log_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path(), manual());
    let writers: Vec<_> =
        (0..3000).map(|n| logs.stream(&scope(), &format!("/aws/lambda/f{n:04}"), "s")).collect();
    writers.iter().for_each(|writer| writer.push(1, b"line"));
    logs.flush();
    drop(logs);
    let logs = open(dir.path(), manual());
    let scope = scope();
    let query =
        GroupsQuery { scope: &scope, prefix: None, contains: None, limit: 5000, token: None };
    assert_eq!(logs.groups(&query).unwrap().groups.len(), 3000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn corrupt_segments_never_panic_and_never_stop_new_events(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        replace in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        {
            let logs = open(dir.path(), manual());
            let stream = logs.stream(&scope(), GROUP, "s");
            (1..10u64).for_each(|ms| { stream.push(ms, b"line"); logs.flush(); });
        }
        let path = segments(dir.path())[0].clone();
        let mut bytes = if replace { Vec::new() } else { fs::read(&path).unwrap() };
        let start = at.index(bytes.len() + 1);
        let end = bytes.len().min(start + garbage.len());
        bytes.splice(start..end, garbage);
        fs::write(&path, bytes).unwrap();
        let logs = open(dir.path(), manual());
        let before = all(&logs).len();
        logs.stream(&scope(), GROUP, "s").push(100, b"new");
        let messages = all(&logs);
        prop_assert_eq!(messages.len(), before + 1);
        prop_assert_eq!(messages.last().map(String::as_str), Some("new"));
        drop(logs);
        prop_assert_eq!(all(&open(dir.path(), manual())).len(), before + 1);
    }
}
