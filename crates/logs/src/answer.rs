//! The answers to queries.

use crate::group::{self, Snapshot};
use crate::query::{
    EventsPage, EventsQuery, FilterPage, FilterQuery, GroupInfo, GroupsPage, GroupsQuery,
    QueryError, StreamInfo, StreamOrder, StreamsPage, StreamsQuery,
};
use crate::record::{Blocks, Records};
use crate::select::{Position, Selection};
use crate::service::Logs;
use crate::token;
use std::io;
use std::sync::Arc;

impl Logs {
    /// FilterLogEvents. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn filter(&self, query: &FilterQuery<'_>) -> Result<FilterPage, QueryError> {
        let after = query.token.map(|text| token::position("n/", text)).transpose()?;
        let group = self.shared().existing(query.scope, query.group)?;
        let snapshot = self.shared().snapshot(&group)?;
        let window = Window {
            first_ms: query.start_ms.unwrap_or(0),
            last_ms: query.end_ms.unwrap_or(u64::MAX),
            after,
            before: None,
        };
        let mut selection = Selection::new(query.limit, false);
        let streams = |name: &str| query.streams.matches(name);
        let wanted = |message: &[u8]| query.pattern.matches(message);
        scan(&snapshot, window, &streams, &wanted, &mut selection)
            .map_err(|source| QueryError::Read { group: query.group.to_owned(), source })?;
        let (events, more) = selection.finish();
        let last = events.last().filter(|_| more);
        let token = last.map(|last| token::of("n/", (last.epoch_ms, last.sequence)));
        Ok(FilterPage { events, token })
    }

    /// GetLogEvents. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn events(&self, query: &EventsQuery<'_>) -> Result<EventsPage, QueryError> {
        let (mut after, mut before) = (None, None);
        match query.token {
            Some(text) if text.starts_with("b/") => before = Some(token::position("b/", text)?),
            Some(text) => after = Some(token::position("f/", text)?),
            None => {}
        }
        let group = self.shared().existing(query.scope, query.group)?;
        let snapshot = self.shared().snapshot(&group)?;
        if !snapshot.streams().contains_key(query.stream) {
            let (group, stream) = (query.group.to_owned(), query.stream.to_owned());
            return Err(QueryError::NoStream { group, stream });
        }
        let window = Window {
            first_ms: query.start_ms.unwrap_or(0),
            last_ms: query.end_ms.map_or(u64::MAX, |end| end.saturating_sub(1)),
            after,
            before,
        };
        let newest_first = before.is_some() || (after.is_none() && !query.start_from_head);
        let mut selection = Selection::new(query.limit, newest_first);
        if query.end_ms != Some(0) {
            let streams = |name: &str| name == query.stream;
            scan(&snapshot, window, &streams, &|_| true, &mut selection)
                .map_err(|source| QueryError::Read { group: query.group.to_owned(), source })?;
        }
        let (events, _) = selection.finish();
        let place = |event: &crate::Event| (event.epoch_ms, event.sequence);
        // Without events both tokens stand at the place that was asked for.
        let (first, last) = match (events.first(), events.last(), after, before) {
            (Some(first), Some(last), _, _) => (place(first), place(last)),
            (_, _, Some((ms, sequence)), _) => ((ms, sequence.saturating_add(1)), (ms, sequence)),
            (_, _, _, Some((ms, sequence))) => ((ms, sequence), (ms, sequence.saturating_sub(1))),
            _ => ((0, 0), (0, 0)),
        };
        let (forward, backward) = (token::of("f/", last), token::of("b/", first));
        Ok(EventsPage { events, forward, backward })
    }

    /// DescribeLogStreams. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn streams(&self, query: &StreamsQuery<'_>) -> Result<StreamsPage, QueryError> {
        let key = |ms: u64, name: &str| match query.order {
            StreamOrder::Name => (0, name.to_owned()),
            StreamOrder::LastEvent => (ms, name.to_owned()),
        };
        let after = match (query.token, query.order) {
            (None, _) => None,
            (Some(text), StreamOrder::Name) => Some((0, token::name("s/", text)?.to_owned())),
            (Some(text), StreamOrder::LastEvent) => Some(token::timed_name("t/", text)?),
        };
        let group = self.shared().existing(query.scope, query.group)?;
        let snapshot = self.shared().snapshot(&group)?;
        let mut streams: Vec<_> = snapshot
            .streams()
            .into_iter()
            .filter(|(name, _)| query.prefix.is_none_or(|prefix| name.starts_with(prefix)))
            .map(|(name, span)| (key(span.last_ms, &name), name, span))
            .filter(|(key, ..)| match &after {
                None => true,
                Some(after) if query.descending => key < after,
                Some(after) => key > after,
            })
            .collect();
        streams.sort_by(|(a, ..), (b, ..)| if query.descending { b.cmp(a) } else { a.cmp(b) });
        let limit = query.limit.max(1);
        let token = (streams.len() > limit).then(|| {
            let ((ms, name), ..) = &streams[limit - 1];
            match query.order {
                StreamOrder::Name => format!("s/{name}"),
                StreamOrder::LastEvent => format!("t/{ms}/{name}"),
            }
        });
        streams.truncate(limit);
        let info = |(_, name, span): (_, _, group::Span)| StreamInfo {
            name,
            first_event_ms: span.first_ms,
            last_event_ms: span.last_ms,
            last_ingestion_ms: span.last_sequence / 1000,
        };
        Ok(StreamsPage { streams: streams.into_iter().map(info).collect(), token })
    }

    /// DescribeLogGroups. Blocks on files.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn groups(&self, query: &GroupsQuery<'_>) -> Result<GroupsPage, QueryError> {
        let after = query.token.map(|text| token::name("g/", text)).transpose()?;
        let mut candidates = self.shared().groups(query.scope);
        candidates.retain(|group| {
            let name = group.name.as_str();
            after.is_none_or(|after| name > after)
                && query.prefix.is_none_or(|prefix| name.starts_with(prefix))
                && query.contains.is_none_or(|text| name.contains(text))
        });
        let mut page = GroupsPage::default();
        for group in candidates {
            let snapshot = self.shared().peek(&group)?;
            if !snapshot.exists {
                continue;
            }
            if page.groups.len() == query.limit.max(1) {
                page.token = page.groups.last().map(|last| format!("g/{}", last.name));
                break;
            }
            page.groups.push(GroupInfo {
                name: group.name.clone(),
                created_ms: snapshot.created_ms,
                stored_bytes: snapshot.segments.iter().map(|segment| segment.bytes).sum(),
            });
        }
        Ok(page)
    }
}

/// Which part of time a query looks at; the times are inclusive, the positions exclusive.
#[derive(Clone, Copy)]
struct Window {
    first_ms: u64,
    last_ms: u64,
    after: Option<Position>,
    before: Option<Position>,
}

impl Window {
    fn holds(&self, position: Position) -> bool {
        (self.first_ms..=self.last_ms).contains(&position.0)
            && self.after.is_none_or(|after| position > after)
            && self.before.is_none_or(|before| position < before)
    }

    fn meets(&self, first_ms: u64, last_ms: u64) -> bool {
        first_ms <= self.last_ms
            && last_ms >= self.first_ms
            && self.after.is_none_or(|after| last_ms >= after.0)
            && self.before.is_none_or(|before| first_ms <= before.0)
    }
}

fn scan(
    snapshot: &Snapshot,
    window: Window,
    streams: &dyn Fn(&str) -> bool,
    wanted: &dyn Fn(&[u8]) -> bool,
    selection: &mut Selection,
) -> io::Result<()> {
    let take = |stream: &Arc<str>, records: Records<'_>, selection: &mut Selection| {
        for record in records {
            let position = (record.epoch_ms, record.sequence);
            if window.holds(position) && wanted(record.message) {
                let make = || crate::Event::new(Arc::clone(stream), &record);
                selection.offer(position, record.message.len(), make);
            }
        }
    };
    for (stream, records) in &snapshot.pending {
        if streams(stream) {
            take(stream, Records(records), selection);
        }
    }
    let newest_first = selection.newest_first();
    let count = snapshot.segments.len();
    for at in 0..count {
        let segment = &snapshot.segments[if newest_first { count - 1 - at } else { at }];
        let Some(summary) = &segment.summary else { continue };
        let useful = summary.streams.iter().any(|(name, span)| {
            window.meets(span.first_ms, span.last_ms)
                && selection.may_take(span.first_ms, span.last_ms)
                && streams(name)
        });
        if !useful {
            continue;
        }
        let bytes = segment.read()?;
        for (stream, records) in Blocks::new(&bytes) {
            if streams(stream)
                && let Some((stream, _)) = summary.streams.get_key_value(stream)
            {
                take(stream, records, selection);
            }
        }
    }
    Ok(())
}
