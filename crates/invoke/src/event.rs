//! An asynchronous event in the queue: a head in JSON, then the payload byte for byte.

use bytes::Bytes;
use lambfold_types::{AccountId, Region, RequestId, Scope};
use serde::Deserialize;
use std::sync::Arc;

/// What is stored of an asynchronous invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredEvent {
    pub(crate) request_id: RequestId,
    pub(crate) scope: Scope,
    /// Name of the function.
    pub(crate) function: String,
    pub(crate) qualifier: Option<String>,
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) trace_id: Option<Arc<str>>,
    pub(crate) payload: Bytes,
}

#[derive(Deserialize)]
struct Head {
    request_id: String,
    account: AccountId,
    region: Region,
    function: String,
    qualifier: Option<String>,
    content_type: Option<String>,
    trace_id: Option<String>,
}

/// A stored event that cannot be read; it can never run.
#[derive(Debug, thiserror::Error)]
#[error("the stored event is damaged")]
pub(crate) struct DamagedEvent;

impl StoredEvent {
    /// `<account>/<region>/function/<name>/`
    pub(crate) fn queue_scope(&self) -> String {
        format!("{}/{}/function/{}/", self.scope.account, self.scope.region, self.function)
    }

    /// The length of the head (u32, little endian), the head, the payload.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = serde_json::json!({
            "request_id": self.request_id.to_string(),
            "account": self.scope.account.as_str(),
            "region": self.scope.region.as_str(),
            "function": self.function,
            "qualifier": self.qualifier,
            "content_type": self.content_type.as_deref(),
            "trace_id": self.trace_id.as_deref(),
        })
        .to_string();
        let mut bytes = Vec::with_capacity(4 + head.len() + self.payload.len());
        bytes.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, DamagedEvent> {
        let bytes = Bytes::from(bytes);
        let length = bytes.first_chunk::<4>().ok_or(DamagedEvent)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| DamagedEvent)?;
        let (head, _) = bytes[4..].split_at_checked(length).ok_or(DamagedEvent)?;
        let head: Head = serde_json::from_slice(head).map_err(|_| DamagedEvent)?;
        Ok(Self {
            request_id: RequestId::parse(&head.request_id).ok_or(DamagedEvent)?,
            scope: Scope { account: head.account, region: head.region },
            function: head.function,
            qualifier: head.qualifier,
            content_type: head.content_type.map(Into::into),
            trace_id: head.trace_id.map(Into::into),
            payload: bytes.slice(4 + length..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_come_back(
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            qualifier in proptest::option::of("[a-z0-9$]{1,8}"),
            trace_id in proptest::option::of("\\PC{0,40}"),
        ) {
            let event = StoredEvent {
                request_id: RequestId::random(),
                scope: Scope {
                    account: AccountId::parse("000000000000").expect("an account"),
                    region: Region::parse("us-east-1").expect("a region"),
                },
                function: "f".to_owned(),
                qualifier,
                content_type: None,
                trace_id: trace_id.map(Into::into),
                payload: payload.into(),
            };
            prop_assert_eq!(StoredEvent::parse(event.to_bytes()).expect("an event"), event);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = StoredEvent::parse(bytes);
        }
    }
}
