//! What the kernel and the disk hold for one server, counted from the outside: what was there before
//! a long run and is not after it has leaked the other way round.

use crate::server::{Guard, Result, ready};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// One server, by what all that belongs to it can be told by.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Its program: a copy that nobody else runs.
    pub program: PathBuf,
    /// Its data folder.
    pub data: PathBuf,
    /// The id of its data folder, which is in the names of its control groups.
    pub id: String,
    /// What is in the environment of its functions, and of nobody else's.
    pub marker: String,
    /// The programs of its spawners that were seen: files in memory, by their inodes.
    pub spawners: Arc<Mutex<BTreeSet<u64>>>,
}

/// How the kernel names a spawner's program that a server has inside.
const SPAWNER: &str = "/memfd:lambfold-spawner";

/// What there was at one moment; counts, and KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Server, spawner, and the first process of each sandbox.
    pub own_processes: usize,
    /// What functions run.
    pub guests: usize,
    /// Those with the owner's id in their names, and what is in them.
    pub control_groups: usize,
    /// Mounts in the namespaces of the server's own processes, the sandboxes' excepted.
    pub mounts: usize,
    /// Network and mount namespaces in which something runs.
    pub namespaces: usize,
    /// Block devices whose image is in the data folder.
    pub images: usize,
    /// Interfaces of this machine and of the spawner's network.
    pub interfaces: usize,
    /// Descriptors of server and spawner.
    pub descriptors: usize,
    /// Folders in the data folder.
    pub folders: usize,
    /// Resident memory of server and spawner, KiB.
    pub resident_kib: usize,
}

/// A server that can be told from all others, and the calling program as the bootstrap of its
/// functions.
#[derive(Debug)]
pub struct Place {
    /// The server; killed when dropped.
    pub server: Guard,
    /// What tells it from others.
    pub owner: Owner,
    /// Its address, as a URL.
    pub endpoint: String,
    /// The folder of a function whose bootstrap is a copy of the calling program.
    pub function: PathBuf,
    /// Goes last.
    _work: tempfile::TempDir,
}

impl Place {
    /// Starts a copy of `lambfold` with these further arguments of `serve` and a data folder that
    /// goes with it.
    ///
    /// # Errors
    /// When something cannot be copied, or the server ends before it is ready.
    pub fn start(lambfold: &Path, args: &[&str]) -> Result<Place> {
        let work = tempfile::tempdir()?;
        let program = work.path().join("lambfold");
        fs::copy(lambfold, &program)?;
        let function = work.path().join("function");
        fs::create_dir(&function)?;
        fs::copy(std::env::current_exe()?, function.join("bootstrap"))?;
        let data = work.path().join("data");
        let mut command = Command::new(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).args(args);
        let mut server = Guard(command.stderr(Stdio::piped()).spawn()?);
        let endpoint = ready(&mut server.0)?;
        let id = fs::read_to_string(data.join("id"))?.trim().to_owned();
        let marker = format!("OWNER={id}");
        let owner = Owner { program, data, id, marker, spawners: Arc::default() };
        Ok(Place { server, owner, endpoint, function, _work: work })
    }

    /// host:port of its API.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// Deploys the function under a name, with its owner's marker in its environment and 128 MB.
    ///
    /// # Errors
    /// When it is refused.
    pub fn deploy(&self, name: &str, timeout_s: u32) -> Result<()> {
        let output = Command::new(&self.owner.program)
            .arg("deploy")
            .arg(&self.function)
            .args(["--name", name, "--handler", "none", "--memory", "128"])
            .args(["--timeout", &timeout_s.to_string(), "--env", &self.owner.marker])
            .args(["--endpoint-url", &self.endpoint])
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}

impl Owner {
    /// Its processes; server and spawner are the two that were started first.
    #[must_use]
    pub fn own_processes(&self) -> Vec<u32> {
        let program = |folder: &Path| fs::read_link(folder.join("exe"));
        let mut found = processes(|folder| program(folder).is_ok_and(|exe| exe == self.program));
        let in_memory = |folder: &Path| {
            let is = program(folder).is_ok_and(|exe| exe.to_string_lossy().starts_with(SPAWNER));
            is.then(|| fs::metadata(folder.join("exe")).ok()).flatten().map(|file| file.ino())
        };
        let mut spawners = self.spawners.lock().unwrap_or_else(PoisonError::into_inner);
        // A server's child is its spawner; what has the same program is one of its copies.
        for id in processes(|folder| in_memory(folder).is_some()) {
            if parent(id).is_some_and(|parent| found.contains(&parent)) {
                spawners.extend(in_memory(Path::new(&format!("/proc/{id}"))));
            }
        }
        found.extend(processes(|folder| {
            in_memory(folder).is_some_and(|ino| spawners.contains(&ino))
        }));
        found.sort_unstable_by_key(|id| (start_time(*id), *id));
        found
    }

    /// What functions run: whatever has the marker in its environment.
    #[must_use]
    pub fn guests(&self) -> Vec<u32> {
        let marker = self.marker.as_bytes();
        processes(|folder| {
            let environment = fs::read(folder.join("environ")).unwrap_or_default();
            environment.windows(marker.len()).any(|part| part == marker)
        })
    }

    /// The spawner: the server's child among them.
    #[must_use]
    pub fn spawner(&self, server: u32) -> Option<u32> {
        self.own_processes().into_iter().find(|id| parent(*id) == Some(server))
    }

    /// Counts everything.
    #[must_use]
    pub fn held(&self, server: u32) -> Held {
        let own = self.own_processes();
        let guests = self.guests();
        let lasting: Vec<u32> =
            [Some(server), self.spawner(server)].into_iter().flatten().collect();
        let namespaces: BTreeSet<_> = own
            .iter()
            .chain(&guests)
            .flat_map(|id| {
                ["mnt", "net"].map(|kind| fs::read_link(format!("/proc/{id}/ns/{kind}")))
            })
            .flatten()
            .collect();
        let lines = |id: &u32, file: &str| {
            fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default().lines().count()
        };
        Held {
            own_processes: own.len(),
            guests: guests.len(),
            control_groups: folders(Path::new("/sys/fs/cgroup"), &|name| name.contains(&self.id)),
            mounts: lasting.iter().map(|id| lines(id, "mountinfo")).sum(),
            namespaces: namespaces.len(),
            images: images(&self.data),
            interfaces: lasting.iter().map(|id| lines(id, "net/dev")).sum(),
            descriptors: lasting
                .iter()
                .map(|id| fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count))
                .sum(),
            folders: folders(&self.data, &|_| true),
            resident_kib: lasting.iter().map(|id| resident_kib(*id)).sum(),
        }
    }
}

impl Held {
    /// What there is more of than before, as `name: before → now`; memory is not compared.
    #[must_use]
    pub fn more_than(&self, before: &Held) -> Vec<String> {
        self.counts()
            .into_iter()
            .zip(before.counts())
            .filter(|((_, now), (_, before))| now > before)
            .map(|((name, now), (_, before))| format!("{name}: {before} → {now}"))
            .collect()
    }

    /// All but memory, with names.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, usize); 9] {
        [
            ("own processes", self.own_processes),
            ("guests", self.guests),
            ("control groups", self.control_groups),
            ("mounts", self.mounts),
            ("namespaces", self.namespaces),
            ("images", self.images),
            ("interfaces", self.interfaces),
            ("descriptors", self.descriptors),
            ("folders", self.folders),
        ]
    }
}

/// Resident memory of a process, KiB; 0 when there is none.
#[must_use]
pub fn resident_kib(id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn processes(is_one: impl Fn(&Path) -> bool) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        is_one(&entry.path()).then_some(id)
    })
    .collect()
}

/// The fields of `/proc/<id>/stat` behind the name, which may hold anything.
fn stat(id: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(str::to_owned).collect()
}

fn parent(id: u32) -> Option<u32> {
    stat(id).get(1)?.parse().ok()
}

fn start_time(id: u32) -> u64 {
    stat(id).get(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Folders below one, at any depth, whose name fits.
fn folders(root: &Path, fits: &dyn Fn(&str) -> bool) -> usize {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let inside = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    inside
        .map(|entry| {
            let own = usize::from(fits(&entry.file_name().to_string_lossy()));
            own + folders(&entry.path(), fits)
        })
        .sum()
}

fn images(data: &Path) -> usize {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| file.contains(&*data.to_string_lossy())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_by_name_and_less_is_not() {
        let before = Held { guests: 1, folders: 5, resident_kib: 10, ..Held::default() };
        let after = Held { guests: 3, folders: 4, resident_kib: 99, ..Held::default() };
        assert_eq!(after.more_than(&before), ["guests: 1 → 3"]);
        assert!(before.more_than(&before).is_empty());
    }

    #[test]
    fn a_process_is_found_by_its_program_and_its_environment() {
        let program = std::env::current_exe().unwrap();
        let owner = Owner {
            program,
            data: PathBuf::from("/nowhere"),
            id: "no such id".to_owned(),
            marker: "LEAKS_TEST=of_this_process_only".to_owned(),
            spawners: Arc::default(),
        };
        assert!(owner.own_processes().contains(&std::process::id()));
        let mut child = Command::new("sleep")
            .arg("60")
            .env("LEAKS_TEST", "of_this_process_only")
            .spawn()
            .unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Until it runs its own program it has this one's environment.
        while owner.guests() != [child.id()] {
            assert!(std::time::Instant::now() < until, "{:?}", owner.guests());
            std::thread::yield_now();
        }
        let held = owner.held(std::process::id());
        assert_eq!((held.guests, held.control_groups, held.folders), (1, 0, 0));
        assert!(held.resident_kib > 0 && held.descriptors > 0 && held.mounts > 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
