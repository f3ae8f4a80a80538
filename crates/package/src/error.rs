use lambfold_types::Digest;
use std::io;

/// AWS's words for a file that is not a zip (recorded from CreateFunction).
const COULD_NOT_UNZIP: &str =
    "Could not unzip uploaded file. Please check your file, then try to upload again.";

/// Why a zip was not taken, a tree not made.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The zip is at fault; the message is for the caller.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The file system holding the data folder is full; nothing was left behind.
    #[error(
        "no space left on the file system of the data folder for a tree of {unpacked_bytes} bytes; free space there, then upload again"
    )]
    DiskFull {
        /// What the tree needs, as declared in the zip.
        unpacked_bytes: u64,
    },
    /// A tree that should be there is not: its zip must be added again.
    #[error("the unpacked tree of {digest} is missing; add its zip again")]
    TreeMissing {
        /// Names the tree.
        digest: Digest,
    },
    /// The operating system refused something.
    #[error("cannot {step}")]
    Io {
        /// What was being done, for example `create the file "a/b" of the tree`.
        step: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl PackageError {
    /// The fault of the zip, or `None` when this machine is to blame.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    pub(crate) fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { step: step.into(), source }
    }
}

/// What is wrong with a zip. `Display` is AWS's wording (followed by the cause where AWS names
/// none) and meant for the caller; [`Rejection::detail`] is for the operator's log.
///
/// Names of entries are kept as they stand in the zip, made printable and cut to 200
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No bytes, or a zip without entries.
    #[error("Uploaded file must be a non-empty zip")]
    Empty,
    /// The zip itself is too large for a direct upload.
    #[error("Zipped size must be smaller than {limit} bytes")]
    ZippedTooLarge {
        /// Size of the zip.
        bytes: u64,
        /// First size that is refused, bytes.
        limit: u64,
    },
    /// The sum of the declared sizes is too large.
    #[error("Unzipped size must be smaller than {limit} bytes")]
    UnpackedTooLarge {
        /// Sum of what was declared until the limit was passed.
        bytes: u64,
        /// First sum that is refused, bytes.
        limit: u64,
    },
    /// Not a zip, cut off, or contradicting itself.
    #[error("{}", COULD_NOT_UNZIP)]
    NotAZip {
        /// What the reader stumbled over.
        why: String,
    },
    /// Entries and the folders that they imply.
    #[error("{} It has more than {limit} files and folders.", COULD_NOT_UNZIP)]
    TooManyEntries {
        /// Largest number accepted.
        limit: u64,
    },
    /// The name cannot be a path inside the tree.
    #[error("{} The name of its entry {entry:?} {why}.", COULD_NOT_UNZIP)]
    Name {
        /// The name.
        entry: String,
        /// For example `climbs out with ".."`.
        why: &'static str,
    },
    /// Two entries have one name.
    #[error("{} It has two entries named {entry:?}.", COULD_NOT_UNZIP)]
    Duplicate {
        /// The name.
        entry: String,
    },
    /// The path of an entry leads through another entry that is not a folder.
    #[error("{} Its entry {entry:?} lies below {parent:?}, which is a {kind}.", COULD_NOT_UNZIP)]
    ThroughNonDirectory {
        /// The name.
        entry: String,
        /// The entry that it passes.
        parent: String,
        /// `file` or `symbolic link`.
        kind: &'static str,
    },
    /// A device, fifo or socket, or a type that contradicts the name.
    #[error("{} Its entry {entry:?} is a {kind}.", COULD_NOT_UNZIP)]
    Kind {
        /// The name.
        entry: String,
        /// For example `character device`.
        kind: &'static str,
    },
    /// Encrypted.
    #[error("{} Its entry {entry:?} is encrypted.", COULD_NOT_UNZIP)]
    Encrypted {
        /// The name.
        entry: String,
    },
    /// Neither stored nor deflated.
    #[error(
        "{} Its entry {entry:?} is compressed with {method}; only stored and deflated entries are supported.",
        COULD_NOT_UNZIP
    )]
    Method {
        /// The name.
        entry: String,
        /// Number and name, for example `93 (ZSTD)`.
        method: String,
    },
    /// The central directory and the entry's own header, descriptor or data disagree.
    #[error("{} Its entry {entry:?} contradicts itself: {what} differs.", COULD_NOT_UNZIP)]
    Contradiction {
        /// The name.
        entry: String,
        /// For example `the name in its local header`, `the size of its data`.
        what: &'static str,
    },
    /// Two entries share bytes of the zip.
    #[error("{} Its entries {entry:?} and {other:?} overlap.", COULD_NOT_UNZIP)]
    Overlap {
        /// The earlier one.
        entry: String,
        /// The later one.
        other: String,
    },
    /// The compressed data is damaged.
    #[error("{} The data of its entry {entry:?} is damaged.", COULD_NOT_UNZIP)]
    Damaged {
        /// The name.
        entry: String,
    },
    /// The target of a symbolic link is empty, too long or has a NUL.
    #[error("{} Its symbolic link {entry:?} has no valid target.", COULD_NOT_UNZIP)]
    LinkTarget {
        /// The name.
        entry: String,
    },
}

impl Rejection {
    /// What to write to the operator's log: the cause with its limit, and the next step.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Empty => {
                "zip refused: it has no entry; put a bootstrap or a handler file in it".into()
            }
            Self::ZippedTooLarge { bytes, limit } => format!(
                "zip refused: {bytes} bytes, and the limit of an upload is below {limit} bytes; move large files to a layer"
            ),
            Self::UnpackedTooLarge { bytes, limit } => format!(
                "zip refused: at least {bytes} bytes unpacked, and the limit is below {limit} bytes; leave out what the function does not read"
            ),
            Self::NotAZip { why } => {
                format!("zip refused: {why}; make it again with `zip -r` or `lambfold package`")
            }
            Self::TooManyEntries { limit } => format!(
                "zip refused: more than {limit} files and folders, implied folders included; pack them in an archive of their own"
            ),
            Self::Name { entry, why } => format!(
                "zip refused: the name of entry {entry:?} {why}; zip the folder's content from inside it"
            ),
            Self::Duplicate { entry } => format!(
                "zip refused: two entries named {entry:?}, of which tools keep different ones; make the zip anew instead of appending"
            ),
            Self::ThroughNonDirectory { entry, parent, kind } => format!(
                "zip refused: entry {entry:?} lies below {parent:?}, which is a {kind}; this is how archives write outside of their folder"
            ),
            Self::Kind { entry, kind } => format!(
                "zip refused: entry {entry:?} is a {kind}; only files, folders and symbolic links can be unpacked"
            ),
            Self::Encrypted { entry } => {
                format!("zip refused: entry {entry:?} is encrypted; zip without a password")
            }
            Self::Method { entry, method } => format!(
                "zip refused: entry {entry:?} has compression method {method}; use stored (0) or deflate (8)"
            ),
            Self::Contradiction { entry, what } => format!(
                "zip refused: entry {entry:?} contradicts the central directory: {what} differs; the zip is damaged or made to deceive"
            ),
            Self::Overlap { entry, other } => format!(
                "zip refused: entries {entry:?} and {other:?} share bytes, as in a zip bomb"
            ),
            Self::Damaged { entry } => {
                format!("zip refused: the deflate stream of entry {entry:?} is damaged")
            }
            Self::LinkTarget { entry } => format!(
                "zip refused: the target of symbolic link {entry:?} is empty, over 4095 bytes, or has a NUL"
            ),
        }
    }
}

/// An entry's name for messages: printable, at most 200 characters.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}
