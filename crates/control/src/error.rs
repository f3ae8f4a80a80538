use lambfold_package::{PackageError, Rejection};
use lambfold_store::{CommitError, StoreError};
use lambfold_types::LAYERS_NEED_WALLS;

/// The exception of AWS that an error is; the table from here to status codes is the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// `ResourceNotFoundException`
    ResourceNotFound,
    /// `ResourceConflictException`
    ResourceConflict,
    /// `InvalidParameterValueException`
    InvalidParameterValue,
    /// `ValidationException`
    Validation,
    /// `PreconditionFailedException`
    PreconditionFailed,
    /// `ProvisionedConcurrencyConfigNotFoundException`
    ProvisionedConcurrencyConfigNotFound,
    /// `RequestEntityTooLargeException`
    RequestEntityTooLarge,
    /// `CodeStorageExceededException`
    CodeStorageExceeded,
    /// `AccessDeniedException`; AWS sends no message with it.
    AccessDenied,
    /// Something AWS offers and this program does not yet.
    NotImplemented,
    /// `ServiceException`: this machine is at fault; the cause goes to the operator's log.
    Service,
}

/// Why an operation was refused or failed. `Display` is AWS's wording, for the caller.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such function, version or alias.
    #[error("Function not found: {arn}")]
    FunctionNotFound {
        /// As it was asked for.
        arn: String,
    },
    /// No such layer version, or other resource.
    #[error("The resource you requested does not exist.")]
    ResourceNotFound,
    /// The ARN names another region.
    #[error("Functions from '{named}' are not reachable in this region ('{here}')")]
    OtherRegion {
        /// The region of the ARN.
        named: String,
        /// The region of the request.
        here: String,
    },
    /// The ARN names another account.
    #[error("account {account} is not this server's")]
    OtherAccount {
        /// The account of the ARN.
        account: String,
    },
    /// CreateFunction of a name that is taken.
    #[error("Function already exist: {name}")]
    FunctionExists {
        /// The name.
        name: String,
    },
    /// A layer version that is imported anew with other content.
    #[error(
        "Layer version already exists with other content: {arn}. Delete it first, or choose another version."
    )]
    LayerVersionExists {
        /// Its ARN.
        arn: String,
    },
    /// A value that breaks a rule.
    #[error("{message}")]
    InvalidParameter {
        /// The rule, in AWS's words where they are known.
        message: String,
    },
    /// A value that breaks a rule, of those where AWS leaves out the error's `Type`.
    #[error("{message}")]
    InvalidUntyped {
        /// The rule, in AWS's words.
        message: String,
    },
    /// No such alias, in one of the wordings that AWS has for it.
    #[error("{wording}: {arn}")]
    AliasNotFound {
        /// `Alias not found` or `Cannot find alias arn`.
        wording: &'static str,
        /// With the alias.
        arn: String,
    },
    /// CreateAlias of a name that is taken.
    #[error("Alias already exists: {arn}")]
    AliasExists {
        /// With the alias.
        arn: String,
    },
    /// Something else stands in the way.
    #[error("{message}")]
    Conflict {
        /// What, in AWS's words.
        message: String,
    },
    /// Nothing is provisioned for a version or alias.
    #[error("No Provisioned Concurrency Config found for this function")]
    NotProvisioned,
    /// A value that breaks a constraint of the service model.
    #[error("1 validation error detected: {message}")]
    Validation {
        /// `Value '…' at '…' failed to satisfy constraint: …`
        message: String,
    },
    /// Another change came first.
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )]
    RevisionMismatch,
    /// A zip over the limit of direct uploads.
    #[error("Zipped size must be smaller than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The account's code storage is full.
    #[error("Code storage limit exceeded.")]
    CodeStorageExceeded,
    /// Not there yet.
    #[error("{feature} is not supported by Lambfold yet; leave it out of the request.")]
    NotBuilt {
        /// Name of the parameter and its value.
        feature: &'static str,
    },
    /// The function is there, and cannot run here as it is.
    #[error("The function {name} cannot run here: {LAYERS_NEED_WALLS}.")]
    LayersNotRun {
        /// The function.
        name: String,
    },
    /// The store failed.
    #[error("cannot reach the store")]
    Store(#[from] StoreError),
    /// A tree could not be made.
    #[error("cannot unpack the code")]
    Package(#[source] PackageError),
    /// A stored document cannot be read.
    #[error("stored document {key:?} is damaged")]
    Damaged {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A blob that a document names is gone.
    #[error("the zip {digest} is missing in the data folder")]
    BlobMissing {
        /// Its digest.
        digest: String,
    },
    /// The operation was cut off inside the server.
    #[error("the operation was interrupted")]
    Interrupted,
}

impl ControlError {
    /// Which exception it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::FunctionNotFound { .. }
            | Self::AliasNotFound { .. }
            | Self::ResourceNotFound
            | Self::OtherRegion { .. } => ErrorKind::ResourceNotFound,
            Self::NotProvisioned => ErrorKind::ProvisionedConcurrencyConfigNotFound,
            Self::OtherAccount { .. } => ErrorKind::AccessDenied,
            Self::FunctionExists { .. }
            | Self::AliasExists { .. }
            | Self::Conflict { .. }
            | Self::LayerVersionExists { .. } => ErrorKind::ResourceConflict,
            Self::InvalidParameter { .. }
            | Self::InvalidUntyped { .. }
            | Self::LayersNotRun { .. } => ErrorKind::InvalidParameterValue,
            Self::Validation { .. } => ErrorKind::Validation,
            Self::RevisionMismatch => ErrorKind::PreconditionFailed,
            Self::TooLarge { .. } => ErrorKind::RequestEntityTooLarge,
            Self::CodeStorageExceeded => ErrorKind::CodeStorageExceeded,
            Self::NotBuilt { .. } => ErrorKind::NotImplemented,
            Self::Store(_)
            | Self::Package(_)
            | Self::Damaged { .. }
            | Self::BlobMissing { .. }
            | Self::Interrupted => ErrorKind::Service,
        }
    }

    /// False where AWS leaves out the member `Type` although the exception usually has it.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        !matches!(self, Self::InvalidUntyped { .. })
    }

    /// What the caller is told; `None` where AWS says nothing. Faults of this machine are told
    /// in general words: their causes are the operator's.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match self.kind() {
            ErrorKind::AccessDenied => None,
            ErrorKind::Service => {
                Some("An error occurred and the request cannot be processed.".to_owned())
            }
            _ => Some(self.to_string()),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidParameter { message: message.into() }
    }

    pub(crate) fn untyped(message: impl Into<String>) -> Self {
        Self::InvalidUntyped { message: message.into() }
    }
}

impl From<PackageError> for ControlError {
    fn from(error: PackageError) -> Self {
        match error.rejection() {
            Some(Rejection::ZippedTooLarge { limit, .. }) => Self::TooLarge { limit: *limit },
            Some(rejection) => {
                tracing::warn!(cause = %rejection.detail(), "a zip was refused");
                Self::InvalidParameter { message: rejection.to_string() }
            }
            None => Self::Package(error),
        }
    }
}

impl From<CommitError> for ControlError {
    /// Conflicts are turned into an answer where the commit is made: what is left of them here
    /// means that another change of the same document came first.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { .. } => Self::RevisionMismatch,
            CommitError::Store(error) => Self::Store(error),
        }
    }
}
