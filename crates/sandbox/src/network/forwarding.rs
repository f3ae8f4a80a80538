//! Whether the host passes packets from one interface to another. It has to, for the network `nat`:
//! what was off is switched on, written down, and switched off again by the last who needs it.
//!
//! Each interface has a switch of its own. The one for all is not touched: it would change others
//! with it, which could not be put back to the letter.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Interfaces of hosts that lead to routers are named so, with eight digits behind it.
pub(crate) const LINK_PREFIX: &str = "lambf";

const SWITCHES: &str = "/proc/sys/net/ipv4/conf";
const RECORDS: &str = "/run/lambfold";

/// Of all spawners of this network namespace together: one at a time.
struct Record {
    file: fs::File,
    path: PathBuf,
}

impl Record {
    /// `network` names the network namespace; `None`: there is no record and none is to be made.
    fn open(network: u64, make: bool) -> io::Result<Option<Record>> {
        let path = Path::new(RECORDS).join(format!("forwarding-{network}"));
        if make {
            fs::create_dir_all(RECORDS)?;
        }
        loop {
            let options = fs::OpenOptions::new().read(true).write(true).create(make).open(&path);
            let file = match options {
                Err(e) if !make && e.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            file.lock()?;
            // Its last holder may have removed it while this one waited.
            if fs::metadata(&path).is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() == m.ino()))
            {
                return Ok(Some(Record { file, path }));
            }
        }
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn add(&mut self, name: &str) -> io::Result<()> {
        self.file.seek(io::SeekFrom::End(0))?;
        self.file.write_all(format!("{name}\n").as_bytes())
    }
}

fn switch(name: &str) -> PathBuf {
    Path::new(SWITCHES).join(name).join("forwarding")
}

fn is_on(name: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(switch(name))?.trim() != "0")
}

fn set(name: &str, on: bool) -> io::Result<()> {
    fs::write(switch(name), if on { "1" } else { "0" })
}

fn interfaces() -> io::Result<Vec<String>> {
    let names = fs::read_dir(SWITCHES)?.map(|entry| Ok(entry?.file_name().into_string()));
    Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Whether this is the name of a link to a router.
fn is_link(name: &str) -> bool {
    name.strip_prefix(LINK_PREFIX)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Switches forwarding on where it is off, for interfaces that come later too; the link to the
/// router, which keeps others from switching it off, is there already.
pub(crate) fn switch_on(network: u64) -> io::Result<()> {
    if is_on("all")? {
        return Ok(());
    }
    // A record cannot be missing once a switch is turned: it is made first.
    let Some(mut record) = Record::open(network, true)? else { return Ok(()) };
    for name in interfaces()? {
        if name != "all" && name != "lo" && !is_link(&name) && !is_on(&name)? {
            record.add(&name)?;
            set(&name, true)?;
        }
    }
    Ok(())
}

/// Switches off again what was switched on, unless a link other than `own` still needs it.
pub(crate) fn switch_off(network: u64, own: &str) -> io::Result<()> {
    let Some(mut record) = Record::open(network, false)? else { return Ok(()) };
    if interfaces()?.iter().any(|name| is_link(name) && name != own) {
        return Ok(());
    }
    // Somebody else has switched everything on meanwhile: it is theirs now.
    if !is_on("all")? {
        for name in record.names()? {
            match set(&name, false) {
                // The interface is gone.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    fs::remove_file(&record.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_known_by_their_names() {
        assert!(is_link("lambf0a1b2c3d"));
        for other in ["lambf", "lambf0a1b2c3", "lambf0a1b2c3dd", "lambfolding99", "eth0"] {
            assert!(!is_link(other), "{other}");
        }
    }
}
