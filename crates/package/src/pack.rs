use crate::archive::Archive;
use crate::diagnose::{Finding, diagnose};
use crate::error::{PackageError, shown};
use crate::fs::Folder;
use crate::trees::{Limits, TreeInfo};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use lambfold_types::{Architecture, Digest};
use rawzip::path::EntryPath;
use rawzip::time::ZipDateTime;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// 1980-01-01 00:00:00 UTC, the first moment that a zip can express.
const FIXED_TIME: i64 = 315_532_800;

/// Why a folder was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Its bootstrap would not run anywhere.
    #[error("{}", sentences(.0))]
    Findings(Vec<Finding>),
    /// A device, socket or fifo.
    #[error("{path:?} is neither a file, a folder nor a symbolic link; remove it from the folder")]
    Kind {
        /// Relative to the folder.
        path: String,
    },
    /// The zip would be refused, for example for a name with a backslash or its unpacked size.
    #[error(transparent)]
    Refused(PackageError),
    /// The folder holds no file.
    #[error("the folder has no file to pack")]
    Empty,
    /// The operating system refused something.
    #[error("cannot {step}")]
    Io {
        /// What was being done.
        step: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn sentences(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
}

fn failed(step: impl Into<String>) -> impl FnOnce(io::Error) -> PackError {
    |source| PackError::Io { step: step.into(), source }
}

/// Packs a folder's content into a zip: the same bytes for the same content, since entries are
/// sorted, times fixed, and modes reduced to 0644, 0755 and links. `out` is overwritten; when
/// it lies in the folder, it does not pack itself.
///
/// # Errors
/// When the folder has a bootstrap that cannot run on `architecture`, holds what a zip cannot,
/// or would be refused on upload; the content of `out` is then undefined.
pub fn pack(
    folder: &Path,
    out: &mut File,
    architecture: Architecture,
) -> Result<TreeInfo, PackError> {
    let folder =
        folder.canonicalize().map_err(failed(format!("find the folder {}", folder.display())))?;
    let spoiled: Vec<Finding> =
        diagnose(&folder, architecture).into_iter().filter(Finding::spoils_package).collect();
    if !spoiled.is_empty() {
        return Err(PackError::Findings(spoiled));
    }
    let own = out.metadata().map_err(failed("examine the output file"))?;
    out.set_len(0).map_err(failed("empty the output file"))?;
    out.seek(SeekFrom::Start(0)).map_err(failed("rewind the output file"))?;

    let mut source =
        Folder::open(&folder).map_err(failed(format!("open the folder {}", folder.display())))?;
    let (digest, zip_bytes) = write_zip(&mut source, out, (own.dev(), own.ino()))?;
    // Read back as the server will: what it would refuse is not handed out.
    let limits = Limits { zip_bytes: u64::MAX, ..Limits::default() };
    let archive = Archive::open(out, &limits).map_err(PackError::Refused)?;
    Ok(TreeInfo {
        digest,
        zip_bytes,
        unpacked_bytes: archive.unpacked_bytes,
        entries: archive.entries,
    })
}

fn write_zip(
    source: &mut Folder,
    out: &mut File,
    own: (u64, u64),
) -> Result<(Digest, u64), PackError> {
    let mut hashed = Hashed { out: BufWriter::new(out), hasher: Sha256::new(), bytes: 0 };
    let mut zip = ZipArchiveWriter::new(&mut hashed);
    let files = add_all(&mut zip, source, own)?;
    zip.finish().map_err(written)?;
    hashed.flush().map_err(failed("write the zip"))?;
    if files == 0 {
        return Err(PackError::Empty);
    }
    Ok((Digest::from_bytes(&hashed.hasher.finalize().into()), hashed.bytes))
}

/// Adds everything, parents first, each folder sorted by name; returns the number of files and
/// links.
fn add_all(
    zip: &mut ZipArchiveWriter<impl Write>,
    source: &mut Folder,
    own: (u64, u64),
) -> Result<u64, PackError> {
    let mut files = 0;
    let mut pending = vec![(Vec::new(), FileType::Directory)];
    while let Some((path, kind)) = pending.pop() {
        let step = |what: &str| failed(format!("{what} {:?}", shown(&path)));
        match kind {
            FileType::Directory => {
                if !path.is_empty() {
                    let name = EntryPath::verbatim([&path[..], b"/"].concat());
                    let time = ZipDateTime::from_unix(FIXED_TIME);
                    let entry = zip.new_dir(name).unix_permissions(0o040_755).last_modified(time);
                    entry.create().map_err(written)?;
                }
                let listed = source.list(&path).map_err(step("list the folder"))?;
                for below in listed.into_iter().rev() {
                    let mut full = path.clone();
                    if !full.is_empty() {
                        full.push(b'/');
                    }
                    full.extend_from_slice(&below.name);
                    pending.push((full, below.kind));
                }
            }
            FileType::Symlink => {
                let target = source.link_target(&path).map_err(step("read the link"))?;
                add(zip, &path, 0o120_777, &mut &target[..], target.is_empty())?;
                files += 1;
            }
            FileType::RegularFile => {
                let mut file = source.file(&path).map_err(step("read the file"))?;
                let metadata = file.metadata().map_err(step("examine the file"))?;
                if (metadata.dev(), metadata.ino()) == own {
                    continue;
                }
                let mode = if metadata.mode() & 0o111 == 0 { 0o100_644 } else { 0o100_755 };
                add(zip, &path, mode, &mut file, metadata.len() == 0)?;
                files += 1;
            }
            _ => return Err(PackError::Kind { path: shown(&path) }),
        }
    }
    Ok(files)
}

fn add(
    zip: &mut ZipArchiveWriter<impl Write>,
    path: &[u8],
    mode: u32,
    content: &mut dyn io::Read,
    empty: bool,
) -> Result<(), PackError> {
    let deflate = !empty && mode & 0o170_000 == 0o100_000;
    let method = if deflate { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
    let (mut entry, config) = zip
        .new_file(EntryPath::verbatim(path))
        .compression_method(method)
        .unix_permissions(mode)
        .last_modified(ZipDateTime::from_unix(FIXED_TIME))
        .start()
        .map_err(written)?;
    let step = || failed(format!("pack {:?}", shown(path)));
    let summary = if deflate {
        let mut writer = config.wrap(DeflateEncoder::new(&mut entry, Compression::default()));
        io::copy(content, &mut writer).map_err(step())?;
        let (encoder, summary) = writer.finish().map_err(written)?;
        encoder.finish().map_err(step())?;
        summary
    } else {
        let mut writer = config.wrap(&mut entry);
        io::copy(content, &mut writer).map_err(step())?;
        writer.finish().map_err(written)?.1
    };
    entry.finish(summary).map_err(written)?;
    Ok(())
}

fn written(error: rawzip::Error) -> PackError {
    let source = match error.into_kind() {
        rawzip::ErrorKind::IO(source) => source,
        kind => io::Error::other(kind.to_string()),
    };
    PackError::Io { step: "write the zip".into(), source }
}

struct Hashed<W> {
    out: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
