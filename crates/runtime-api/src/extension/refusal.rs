use super::ExtensionState;
use std::borrow::Cow;
use uuid::Uuid;

/// Why an extension's request is not done; all of them are answered 403 (behaviour specification
/// §2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionRefusal {
    /// Without a name.
    EmptyName,
    /// The body of `register`.
    InvalidFormat(Cow<'static, str>),
    /// Not an event, or not one for this kind of extension.
    InvalidEvent {
        /// As it was written.
        event: Box<str>,
        /// It exists, but only external extensions are told of it.
        external_only: bool,
    },
    /// The state does not allow it.
    Transition {
        /// The state as it is, and stays.
        from: ExtensionState,
        /// The state that was asked for.
        to: ExtensionState,
        /// Its name or its identifier.
        extension: String,
    },
    /// There is an internal extension of this name.
    NameTaken,
    /// Too late.
    RegistrationClosed,
    /// Ten are enough.
    TooMany,
    /// No header `Lambda-Extension-Identifier`.
    MissingIdentifier,
    /// It holds no UUID.
    InvalidIdentifier,
    /// `event/next` of nobody who is known.
    UnknownToNext(Uuid),
    /// Another request of nobody who is known.
    UnknownIdentifier,
    /// No header `Lambda-Extension-Function-Error-Type`.
    MissingErrorType,
    /// The environment is reset.
    Reset,
}

impl ExtensionRefusal {
    /// The `errorType` of the body.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::EmptyName => "Extension.InvalidExtensionName",
            Self::InvalidFormat(_) => "InvalidRequestFormat",
            Self::InvalidEvent { .. } => "Extension.InvalidEventType",
            Self::Transition { .. } | Self::NameTaken | Self::Reset => {
                "Extension.InvalidExtensionState"
            }
            Self::RegistrationClosed => "Extension.RegistrationClosed",
            Self::TooMany => "Extension.TooManyExtensions",
            Self::MissingIdentifier => "Extension.MissingExtensionIdentifier",
            Self::InvalidIdentifier => "Extension.InvalidExtensionIdentifier",
            Self::UnknownToNext(_) | Self::UnknownIdentifier => {
                "Extension.UnknownExtensionIdentifier"
            }
            Self::MissingErrorType => "Extension.MissingHeader",
        }
    }

    /// The `errorMessage` of the body.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::EmptyName => "Empty extension name".into(),
            Self::InvalidFormat(text) => text.as_ref().into(),
            Self::InvalidEvent { event, external_only: false } => {
                format!("{event}: ErrorInvalidEventType").into()
            }
            Self::InvalidEvent { event, external_only: true } => {
                format!("{event}: ShutdownEventNotSupportedForInternalExtension").into()
            }
            Self::Transition { from, to, extension } => format!(
                "State transition from {from} to {to} failed for extension {extension}. Error: State transition is not allowed"
            )
            .into(),
            Self::NameTaken => "Extension with this name already registered".into(),
            Self::RegistrationClosed => "Extension registration closed already".into(),
            Self::TooMany => {
                format!("Extension limit ({}) reached", super::EXTENSIONS).into()
            }
            Self::MissingIdentifier => "Missing Lambda-Extension-Identifier header".into(),
            Self::InvalidIdentifier => "Invalid Lambda-Extension-Identifier".into(),
            Self::UnknownToNext(id) => format!("Unknown extension {id}").into(),
            Self::UnknownIdentifier => "Unknown Lambda-Extension-Identifier".into(),
            Self::MissingErrorType => "Lambda-Extension-Function-Error-Type not found".into(),
            Self::Reset => "The execution environment is being reset".into(),
        }
    }
}
