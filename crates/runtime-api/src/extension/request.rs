use super::{Events, ExtensionRefusal};
use serde::Deserialize;
use std::sync::Arc;

/// A `register` that is well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What the extension calls itself; for an external one the name of its file.
    pub name: Arc<str>,
    /// It wants to know the account.
    pub wants_account: bool,
    events: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default)]
    configuration_keys: Option<serde::de::IgnoredAny>,
}

impl Registration {
    /// From the headers `Lambda-Extension-Name` and `Lambda-Extension-Accept-Feature`, and the
    /// body. Features that are not known are ignored.
    ///
    /// # Errors
    /// Without a name, or when the body is not what it should be.
    pub fn parse(name: &str, features: &str, body: &[u8]) -> Result<Self, ExtensionRefusal> {
        if name.is_empty() {
            return Err(ExtensionRefusal::EmptyName);
        }
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| ExtensionRefusal::InvalidFormat(error.to_string().into()))?;
        if body.configuration_keys.is_some() {
            let text = "configurationKeys are deprecated; use environment variables instead";
            return Err(ExtensionRefusal::InvalidFormat(text.into()));
        }
        Ok(Self {
            name: name.into(),
            wants_account: features.split(',').any(|feature| feature.trim() == "accountId"),
            events: body.events.unwrap_or_default(),
        })
    }

    pub(super) fn events(&self, external: bool) -> Result<Events, ExtensionRefusal> {
        let mut events = Events::default();
        for event in &self.events {
            match event.as_str() {
                "INVOKE" => events.invoke = true,
                "SHUTDOWN" if external => events.shutdown = true,
                other => {
                    return Err(ExtensionRefusal::InvalidEvent {
                        event: other.into(),
                        external_only: other == "SHUTDOWN",
                    });
                }
            }
        }
        Ok(events)
    }
}
