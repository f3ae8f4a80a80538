//! Reads and checks a whole zip before anything is written.
//!
//! The central directory is the one truth here; whatever the zip says elsewhere must agree with
//! it, so that no other reader can see other files in the same bytes.

use crate::error::{PackageError, Rejection, shown};
use crate::name::{normalise, parent};
use crate::trees::Limits;
use flate2::bufread::DeflateDecoder;
use rawzip::{
    CompressionMethod, CreatorSystem, ErrorKind, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE,
    ReaderAt, ZipArchive, ZipArchiveEntryWayfinder, ZipFileHeaderRecord, time::ZipDateTimeKind,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

/// Longest target of a symbolic link, bytes (PATH_MAX with its NUL).
const LINK_BYTES: u64 = 4_095;
const MODE_KIND: u32 = 0o170_000;
const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_LINK: u32 = 0o120_000;
const DOS_DIRECTORY: u32 = 0x10;

/// A checked zip: every path is inside the tree, every parent is a folder.
pub(crate) struct Archive {
    zip: ZipArchive<FileReader>,
    /// By path; parents come before what is in them.
    pub(crate) nodes: BTreeMap<Vec<u8>, Node>,
    /// Sum of the sizes of files and link targets.
    pub(crate) unpacked_bytes: u64,
    /// Entries as written in the zip.
    pub(crate) entries: u64,
}

/// One path of the tree.
pub(crate) enum Node {
    Directory,
    File { data: Data, executable: bool, modified_s: i64 },
    Link { data: Data },
}

/// Where an entry's bytes are, and what they must be.
pub(crate) struct Data {
    place: ZipArchiveEntryWayfinder,
    deflated: bool,
    compressed_bytes: u64,
    bytes: u64,
    crc: u32,
}

impl Archive {
    pub(crate) fn open(file: &File, limits: &Limits) -> Result<Self, PackageError> {
        let zip_bytes =
            file.metadata().map_err(PackageError::io("read the size of the zip"))?.len();
        if zip_bytes == 0 {
            return Err(Rejection::Empty.into());
        }
        if zip_bytes >= limits.zip_bytes {
            let (bytes, limit) = (zip_bytes, limits.zip_bytes);
            return Err(Rejection::ZippedTooLarge { bytes, limit }.into());
        }
        let file = file.try_clone().map_err(PackageError::io("duplicate the zip's descriptor"))?;
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let zip = ZipArchive::from_file(file, &mut buffer).map_err(unreadable)?;
        if zip.entries_hint() > limits.entries {
            return Err(Rejection::TooManyEntries { limit: limits.entries }.into());
        }
        let mut index = Index::default();
        let mut records = zip.entries(&mut buffer);
        let mut local = vec![0; 2 * usize::from(u16::MAX)];
        while let Some(record) = records.next_entry().map_err(unreadable)? {
            index.take(&zip, &record, &mut local, limits)?;
        }
        if index.entries != zip.entries_hint() {
            let why = format!(
                "its end record counts {} entries and its directory has {}",
                zip.entries_hint(),
                index.entries
            );
            return Err(Rejection::NotAZip { why }.into());
        }
        index.refuse_overlaps()?;
        index.add_parents(limits.entries)?;
        if index.nodes.is_empty() {
            return Err(Rejection::Empty.into());
        }
        let Index { nodes, unpacked_bytes, entries, .. } = index;
        Ok(Self { zip, nodes, unpacked_bytes, entries })
    }

    /// Writes the unpacked bytes of an entry, never more than it declares.
    pub(crate) fn copy(
        &self,
        path: &[u8],
        data: &Data,
        out: &mut dyn Write,
    ) -> Result<(), PackageError> {
        let entry = self.zip.get_entry(data.place).map_err(unreadable)?;
        let mut raw = BufReader::with_capacity(64 * 1024, entry.reader());
        if data.deflated {
            let mut inflated = DeflateDecoder::new(raw);
            pump(path, data, &mut inflated, out)?;
            if inflated.total_in() != data.compressed_bytes {
                return Err(contradiction(path, "the size of its compressed data").into());
            }
        } else {
            pump(path, data, &mut raw, out)?;
        }
        Ok(())
    }

    /// The target of a symbolic link.
    pub(crate) fn link_target(&self, path: &[u8], data: &Data) -> Result<Vec<u8>, PackageError> {
        let mut target = Vec::new();
        self.copy(path, data, &mut target)?;
        if target.contains(&0) {
            return Err(Rejection::LinkTarget { entry: shown(path) }.into());
        }
        Ok(target)
    }
}

fn pump(
    path: &[u8],
    data: &Data,
    source: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), PackageError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut crc = flate2::Crc::new();
    let mut total = 0_u64;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error().is_some() => {
                return Err(PackageError::io("read the zip")(error));
            }
            Err(_) => return Err(Rejection::Damaged { entry: shown(path) }.into()),
        };
        total += count as u64;
        if total > data.bytes {
            return Err(contradiction(path, "the size of its data").into());
        }
        crc.update(&buffer[..count]);
        out.write_all(&buffer[..count])
            .map_err(PackageError::io(format!("write {:?} of the tree", shown(path))))?;
    }
    if total != data.bytes {
        return Err(contradiction(path, "the size of its data").into());
    }
    if crc.sum() != data.crc {
        return Err(contradiction(path, "the checksum of its data").into());
    }
    Ok(())
}

#[derive(Default)]
struct Index {
    nodes: BTreeMap<Vec<u8>, Node>,
    unpacked_bytes: u64,
    entries: u64,
    /// First byte of the local header, byte after the data, name.
    ranges: Vec<(u64, u64, Vec<u8>)>,
}

impl Index {
    fn take(
        &mut self,
        zip: &ZipArchive<FileReader>,
        record: &ZipFileHeaderRecord<'_>,
        local: &mut [u8],
        limits: &Limits,
    ) -> Result<(), PackageError> {
        self.entries += 1;
        if self.entries > limits.entries {
            return Err(Rejection::TooManyEntries { limit: limits.entries }.into());
        }
        let name = record.file_path().as_bytes();
        let entry = || shown(name);
        let (path, slash) = normalise(name)?;
        let flags = record.flags();
        if flags.is_encrypted() || flags.has_strong_encryption() || flags.is_masked() {
            return Err(Rejection::Encrypted { entry: entry() }.into());
        }
        let method = record.compression_method();
        if method != CompressionMethod::STORE && method != CompressionMethod::DEFLATE {
            return Err(Rejection::Method { entry: entry(), method: method.to_string() }.into());
        }
        let kind = kind(record, slash).map_err(|kind| Rejection::Kind { entry: entry(), kind })?;
        let bytes = record.uncompressed_size_hint();
        let compressed_bytes = record.compressed_size_hint();
        if matches!(kind, Kind::Directory) && bytes != 0 {
            return Err(Rejection::Kind { entry: entry(), kind: "folder with data" }.into());
        }
        if method == CompressionMethod::STORE && bytes != compressed_bytes {
            return Err(contradiction(name, "the size of its stored data").into());
        }
        if matches!(kind, Kind::Link) && !(1..=LINK_BYTES).contains(&bytes) {
            return Err(Rejection::LinkTarget { entry: entry() }.into());
        }
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(bytes);
        if self.unpacked_bytes >= limits.unpacked_bytes {
            let (bytes, limit) = (self.unpacked_bytes, limits.unpacked_bytes);
            return Err(Rejection::UnpackedTooLarge { bytes, limit }.into());
        }
        let end = agree(zip, record, local, matches!(kind, Kind::Directory))?;
        self.ranges.push((record.local_header_offset(), end, name.to_vec()));

        if path.is_empty() {
            return match kind {
                Kind::Directory => Ok(()),
                _ => Err(Rejection::Name { entry: entry(), why: "names the tree itself" }.into()),
            };
        }
        let data = Data {
            place: record.wayfinder(),
            deflated: method == CompressionMethod::DEFLATE,
            compressed_bytes,
            bytes,
            crc: record.crc32(),
        };
        let node = match kind {
            Kind::Directory => Node::Directory,
            Kind::Link => Node::Link { data },
            Kind::File { executable } => {
                Node::File { data, executable, modified_s: unix_seconds(&record.last_modified()) }
            }
        };
        match self.nodes.insert(path, node) {
            None => Ok(()),
            Some(_) => Err(Rejection::Duplicate { entry: entry() }.into()),
        }
    }

    fn refuse_overlaps(&mut self) -> Result<(), Rejection> {
        self.ranges.sort_unstable();
        for pair in self.ranges.windows(2) {
            if pair[0].1 > pair[1].0 {
                return Err(Rejection::Overlap {
                    entry: shown(&pair[0].2),
                    other: shown(&pair[1].2),
                });
            }
        }
        self.ranges = Vec::new();
        Ok(())
    }

    /// Adds the folders that the paths imply; refuses paths through anything else.
    fn add_parents(&mut self, limit: u64) -> Result<(), Rejection> {
        let paths: Vec<Vec<u8>> = self.nodes.keys().cloned().collect();
        for path in paths {
            let mut above = parent(&path);
            while !above.is_empty() {
                let kind = match self.nodes.get(above) {
                    None => {
                        self.nodes.insert(above.to_vec(), Node::Directory);
                        if self.nodes.len() as u64 > limit {
                            return Err(Rejection::TooManyEntries { limit });
                        }
                        above = parent(above);
                        continue;
                    }
                    // Its own parents were, or will be, seen to on its own account.
                    Some(Node::Directory) => break,
                    Some(Node::File { .. }) => "file",
                    Some(Node::Link { .. }) => "symbolic link",
                };
                let (entry, parent) = (shown(&path), shown(above));
                return Err(Rejection::ThroughNonDirectory { entry, parent, kind });
            }
        }
        Ok(())
    }
}

enum Kind {
    Directory,
    File { executable: bool },
    Link,
}

/// What an entry is. Only zips made on Unix (or macOS) carry modes: from others, every file is
/// taken as not executable, as AWS does.
fn kind(record: &ZipFileHeaderRecord<'_>, slash: bool) -> Result<Kind, &'static str> {
    let attributes = record.external_attributes();
    let system = record.version_made_by().creator_system();
    if system != CreatorSystem::UNIX && system != CreatorSystem::MACOS {
        let directory =
            slash || (attributes & DOS_DIRECTORY != 0 && record.uncompressed_size_hint() == 0);
        return Ok(if directory { Kind::Directory } else { Kind::File { executable: false } });
    }
    let mode = attributes >> 16;
    match mode & MODE_KIND {
        MODE_DIRECTORY => Ok(Kind::Directory),
        MODE_LINK if slash => Err("symbolic link with the name of a folder"),
        MODE_LINK => Ok(Kind::Link),
        0 | MODE_FILE if slash => Ok(Kind::Directory),
        0 | MODE_FILE => Ok(Kind::File { executable: mode & 0o111 != 0 }),
        0o020_000 => Err("character device"),
        0o060_000 => Err("block device"),
        // What came through a pipe: `zip -` marks its standard input so.
        0o010_000 if record.uncompressed_size_hint() > 0 && !slash => {
            Ok(Kind::File { executable: mode & 0o111 != 0 })
        }
        0o010_000 => Err("fifo"),
        0o140_000 => Err("socket"),
        _ => Err("file of an unknown type"),
    }
}

/// Compares an entry's own header, and its data descriptor if it has one, with the central
/// directory; returns the offset after its last byte.
fn agree(
    zip: &ZipArchive<FileReader>,
    record: &ZipFileHeaderRecord<'_>,
    buffer: &mut [u8],
    directory: bool,
) -> Result<u64, PackageError> {
    let name = record.file_path().as_bytes();
    let entry = zip.get_entry(record.wayfinder()).map_err(unreadable)?;
    let (_, data_end) = entry.compressed_data_range();
    if data_end > zip.directory_offset() {
        return Err(contradiction(name, "the place of its data").into());
    }
    let local = entry.local_header(buffer).map_err(unreadable)?;
    if local.file_path().as_bytes() != name {
        return Err(contradiction(name, "the name in its local header").into());
    }
    if local.compression_method() != record.compression_method() {
        return Err(contradiction(name, "the compression method in its local header").into());
    }
    if local.flags().is_encrypted() {
        return Err(Rejection::Encrypted { entry: shown(name) }.into());
    }
    let same = local.crc32() == record.crc32()
        && local.compressed_size_hint() == record.compressed_size_hint()
        && local.uncompressed_size_hint() == record.uncompressed_size_hint();
    // Several tools mark folders as streamed and write no descriptor.
    if same || (directory && local.flags().has_data_descriptor()) {
        return Ok(data_end);
    }
    if !local.flags().has_data_descriptor() {
        return Err(contradiction(name, "the size or checksum in its local header").into());
    }
    descriptor_end(zip.get_ref(), data_end, record)?
        .filter(|end| *end <= zip.directory_offset())
        .ok_or_else(|| contradiction(name, "the size or checksum in its data descriptor").into())
}

/// Where the data descriptor that agrees with the central directory ends. Its width cannot be
/// known beforehand: streaming writers use 8-byte sizes whenever the local header announced
/// ZIP64, and the signature is optional.
fn descriptor_end(
    reader: &FileReader,
    at: u64,
    record: &ZipFileHeaderRecord<'_>,
) -> Result<Option<u64>, PackageError> {
    let mut bytes = [0; 24];
    let mut filled = 0;
    while filled < bytes.len() {
        let offset = at + filled as u64;
        match reader.read_at(&mut bytes[filled..], offset) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PackageError::io("read the zip")(error)),
        }
    }
    let (crc, packed, unpacked) =
        (record.crc32(), record.compressed_size_hint(), record.uncompressed_size_hint());
    let narrow = [u32::try_from(packed).ok(), u32::try_from(unpacked).ok()];
    let mut candidates: Vec<Vec<u8>> = Vec::new();
    if let [Some(packed), Some(unpacked)] = narrow {
        candidates.push([crc, packed, unpacked].map(u32::to_le_bytes).concat());
    }
    candidates
        .push([&crc.to_le_bytes()[..], &packed.to_le_bytes(), &unpacked.to_le_bytes()].concat());
    for body in candidates {
        for signature in [&b"PK\x07\x08"[..], b""] {
            let expected = [signature, &body].concat();
            if bytes[..filled].starts_with(&expected) {
                return Ok(Some(at + expected.len() as u64));
            }
        }
    }
    Ok(None)
}

fn contradiction(name: &[u8], what: &'static str) -> Rejection {
    Rejection::Contradiction { entry: shown(name), what }
}

/// A fault of the reader: the zip's, unless the operating system answered.
fn unreadable(error: rawzip::Error) -> PackageError {
    match error.into_kind() {
        ErrorKind::IO(source) if source.raw_os_error().is_some() => {
            PackageError::Io { step: "read the zip".into(), source }
        }
        kind => Rejection::NotAZip { why: kind.to_string() }.into(),
    }
}

/// Seconds since the Unix epoch; local times are taken as UTC, the time zone of Lambda.
fn unix_seconds(time: &ZipDateTimeKind) -> i64 {
    // Days from civil: years begin in March, so that the leap day is the last of its year.
    let (year, month, day) =
        (i64::from(time.year()), i64::from(time.month()), i64::from(time.day()));
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    days * 86_400
        + i64::from(time.hour()) * 3_600
        + i64::from(time.minute()) * 60
        + i64::from(time.second())
}

#[cfg(test)]
mod tests;
