//! A machine that has cgroup v2 and nothing else: Debian's cloud kernel in software emulation, with
//! this machine's programs in its memory. Its first process is `cgroup-v2/init`.

use super::harness::{bin, lambfold, root};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the first process calls.
const PROGRAMS: &[&str] = &[
    "/usr/bin/bash",
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/chown",
    "/usr/sbin/chroot",
    "/usr/bin/cp",
    "/usr/bin/curl",
    "/usr/bin/env",
    "/usr/bin/find",
    "/usr/bin/grep",
    "/usr/bin/id",
    "/usr/bin/ls",
    "/usr/bin/mkdir",
    "/usr/bin/mktemp",
    "/usr/bin/mount",
    "/usr/bin/newgidmap",
    "/usr/bin/newuidmap",
    "/usr/bin/perl",
    "/usr/bin/rm",
    "/usr/bin/sed",
    "/usr/bin/seq",
    "/usr/bin/setpriv",
    "/usr/bin/sleep",
    "/usr/bin/tail",
    "/usr/bin/tee",
    "/usr/bin/tr",
    "/usr/bin/true",
    "/usr/sbin/mkfs.ext4",
];

/// A folder tree that becomes the machine's memory.
struct Tree(PathBuf);

impl Tree {
    fn put(&self, from: &Path, to: &str) {
        let to = self.0.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }

    /// A program without its debugging symbols, with its libraries where it looks for them.
    fn program(&self, from: &Path, to: &str) {
        self.put(from, to);
        let to = self.0.join(to.trim_start_matches('/'));
        // Scripts have none.
        let _ = Command::new("strip").arg(&to).stderr(Stdio::null()).status();
        let libraries = Command::new("ldd").arg(from).output().unwrap();
        for word in String::from_utf8(libraries.stdout).unwrap().split_whitespace() {
            if word.starts_with('/') && !self.0.join(word.trim_start_matches('/')).exists() {
                self.put(Path::new(word), word);
            }
        }
    }
}

/// The kernel and its module for /tmp, as `tools/setup test` unpacks them.
fn kernel() -> (PathBuf, PathBuf) {
    let folder = root().join("target/kernel");
    let one = |folder: PathBuf, start: &str| {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let found = entries.map(|e| e.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
        });
        found.unwrap_or_else(|| {
            panic!("{} has no {start}: run `tools/setup test`", folder.display())
        })
    };
    let modules = one(folder.join("lib/modules"), "");
    (one(folder.join("boot"), "vmlinuz"), modules.join("kernel/drivers/block/loop.ko"))
}

/// Writes a folder as the archive that the kernel unpacks: `newc` of cpio(5).
fn archive(tree: &Path, out: &mut impl Write) {
    fn entry(out: &mut impl Write, name: &str, mode: u32, data: &[u8], number: usize) {
        let zero = 0;
        let fields =
            [number, mode as usize, zero, zero, 1, zero, data.len(), zero, zero, zero, zero];
        let mut head = "070701".to_owned();
        for field in fields.into_iter().chain([name.len() + 1, zero]) {
            head.push_str(&format!("{field:08x}"));
        }
        head.push_str(name);
        head.push('\0');
        let padding = |length: usize| &b"\0\0\0"[..(4 - length % 4) % 4];
        out.write_all(head.as_bytes()).unwrap();
        out.write_all(padding(head.len())).unwrap();
        out.write_all(data).unwrap();
        out.write_all(padding(data.len())).unwrap();
    }
    fn walk(out: &mut impl Write, root: &Path, folder: &Path, number: &mut usize) {
        let names: BTreeSet<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        for path in names {
            *number += 1;
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let data = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            entry(out, &name, metadata.mode(), &data, *number);
            if metadata.is_dir() {
                walk(out, root, &path, number);
            }
        }
    }
    walk(out, tree, tree, &mut 0);
    entry(out, "TRAILER!!!", 0, b"", 0);
}

/// What the machine's first process said until it switched the machine off.
fn boot(play: &str) -> String {
    let work = tempfile::tempdir().unwrap();
    let tree = Tree(work.path().join("memory/root"));
    for folder in
        ["usr/lib", "usr/lib64", "usr/bin", "usr/sbin", "proc", "sys", "dev", "tmp", "run"]
    {
        fs::create_dir_all(tree.0.join(folder)).unwrap();
    }
    // The kernel starts /init of its memory, which makes the folder `root` in it the root: out of
    // the first one there is no pivot_root.
    for (at, to) in [("", "usr/"), ("root", "usr/")] {
        for name in ["bin", "sbin", "lib", "lib64"] {
            let link = work.path().join("memory").join(at).join(name);
            std::os::unix::fs::symlink(format!("{to}{name}"), link).unwrap();
        }
    }
    std::os::unix::fs::symlink("root/usr", work.path().join("memory/usr")).unwrap();
    for program in PROGRAMS {
        tree.program(Path::new(program), program);
    }
    std::os::unix::fs::symlink("bash", tree.0.join("usr/bin/sh")).unwrap();
    let (kernel, module) = kernel();
    tree.put(&module, "/data/loop.ko");
    tree.put(Path::new("/etc/mke2fs.conf"), "/etc/mke2fs.conf");
    tree.program(&lambfold(), "/usr/bin/lambfold");
    tree.program(&bin("puppet"), "/data/puppet/bootstrap");
    for file in ["bootstrap", "function.sh"] {
        tree.put(&root().join("examples/bash-echo").join(file), &format!("/data/lab1/{file}"));
    }
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cgroup-v2/init");
    for at in [tree.0.join("init"), work.path().join("memory/init")] {
        fs::copy(&init, &at).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let memory = work.path().join("memory.cpio");
    let mut out = std::io::BufWriter::new(fs::File::create(&memory).unwrap());
    archive(&work.path().join("memory"), &mut out);
    out.flush().unwrap();
    let output = Command::new("timeout")
        .args([
            "200",
            "qemu-system-x86_64",
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-smp",
            "2",
        ])
        .args(["-m", "1536", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"])
        .arg("-append")
        // What the kernel does not know goes to the first process, as its environment.
        .arg(format!("console=ttyS0 quiet panic=-1 mitigations=off play={play}"))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(memory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {errors}\n{said}", output.status);
    said
}

/// The lines between two marks that the first process prints.
fn part<'a>(said: &'a str, name: &str) -> &'a str {
    let (begin, end) = (format!("== {name}\n"), format!("== end of {name}\n"));
    let part = said.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    part.unwrap_or_else(|| panic!("no {name}: {said}")).0
}

/// The number behind this word.
fn number(group: &str, name: &str) -> u64 {
    let value = group.split_whitespace().skip_while(|word| *word != name).nth(1);
    value.unwrap_or_else(|| panic!("no {name}: {group}")).parse().unwrap()
}

/// Lab 1, out of memory, a freeze, and the limits, where nothing but cgroup v2 is mounted.
#[test]
fn a_machine_with_cgroup_v2_alone() {
    let said = boot("root");
    let lab = part(&said, "lab 1");
    assert!(lab.contains("Hello"), "{said}");
    assert!(lab.ends_with("exit 0\n"), "{lab}");
    let oom = part(&said, "out of memory");
    assert!(oom.contains("Runtime.OutOfMemory") && oom.ends_with("exit 3\n"), "{oom}");
    let after = part(&said, "after it");
    assert!(after.contains("\"sum\"") && after.ends_with("exit 0\n"), "{after}");
    // Of the one group that was used: a function of 256 MB.
    let group = part(&said, "group");
    for line in ["memory.max: 268435456", "pids.max: 1024", "cpu.weight: 14", "cpu.max: max 100000"]
    {
        assert!(group.lines().any(|l| l == line), "{line}: {group}");
    }
    assert_eq!(number(group, "oom_kill"), 1, "{group}");
    assert!((1..=268_435_456).contains(&number(group, "memory.peak:")), "{group}");
    // Between invocations it stands still, and in one it moves again.
    assert_eq!((number(group, "populated"), number(group, "frozen")), (1, 1), "{group}");
    let busy = part(&said, "group in an invocation");
    assert_eq!((number(busy, "populated"), number(busy, "frozen")), (1, 0), "{busy}");
    assert!(part(&said, "again").ends_with("exit 0\n"), "{said}");
    // A fault on purpose: the kernel kills at once, and the limit is there again.
    let oom = part(&said, "out of memory on purpose");
    assert!(oom.contains("Runtime.OutOfMemory") && oom.ends_with("exit 3\n"), "{oom}");
    assert!(oom.contains("oom: the memory limit is lowered"), "{oom}");
    assert!(!oom.contains("in place of the kernel"), "{oom}");
    let after = part(&said, "after that");
    assert!(after.contains("\"sum\"") && after.ends_with("exit 0\n"), "{after}");
    let group = part(&said, "group after that");
    assert!(group.lines().any(|line| line == "memory.max: 268435456"), "{group}");
    assert!(number(group, "oom_kill") >= 2, "{group}");
    // AWS's share, which the start alone uses up.
    let share = part(&said, "group with a share");
    assert!(share.lines().any(|l| l == "cpu.max: 14471 100000"), "{share}");
    assert!(number(share, "nr_throttled") > 0, "{share}");
    assert!(part(&said, "share").ends_with("exit 0\n"), "{said}");
    let doctor = part(&said, "doctor");
    assert!(doctor.lines().any(|l| l.contains("cgroup-base") && l.contains("holds")), "{doctor}");
    assert!(
        doctor.lines().any(|l| l.contains("guest-landlock") && l.contains("holds")),
        "{doctor}"
    );
    assert!(doctor.ends_with("exit 0\n"), "{doctor}");
    // What is left when the server has ended.
    assert_eq!(part(&said, "left"), "");
}

/// The same where systemd has given an ordinary user a group (`Delegate=yes`), first with no ids but its
/// own, then with subordinate ones.
#[test]
fn an_ordinary_user_in_a_delegated_group() {
    let said = boot("user");
    let ends = |name: &str, code: u32| {
        let part = part(&said, name);
        assert!(part.ends_with(&format!("exit {code}\n")), "{name}: {said}");
        part
    };
    ends("one id", 0);
    ends("after the spawner", 0);
    // Memory is that of the function and, as it is a tmpfs, that of /tmp: together 768 MiB.
    let limits = ["memory.max: 805306368", "pids.max: 1024", "cpu.weight: 14"];
    for name in ["group with one id", "group"] {
        let group = part(&said, name);
        for line in limits {
            assert!(group.lines().any(|l| l == line), "{line}: {said}");
        }
        assert!(group.contains("frozen 1"), "{said}");
    }
    let log = part(&said, "log of one id");
    assert!(log.contains("pid 1 and the guest of a sandbox are the same user"), "{log}");

    assert!(ends("lab 1", 0).contains("Hello"), "{said}");
    assert!(ends("out of memory", 3).contains("Runtime.OutOfMemory"), "{said}");
    assert!(ends("after it", 0).contains("\"sum\""), "{said}");
    let group = part(&said, "group");
    assert_eq!(number(group, "oom_kill"), 1, "{group}");
    assert!((1..=805_306_368).contains(&number(group, "memory.peak:")), "{group}");
    assert_eq!((number(group, "populated"), number(group, "frozen")), (1, 1), "{group}");
    let busy = part(&said, "group in an invocation");
    assert_eq!((number(busy, "populated"), number(busy, "frozen")), (1, 0), "{busy}");
    ends("again", 0);
    // All that the limit has room for, beside the runtime and perl itself.
    assert!(ends("processes", 0).contains("\"out\":\"1022\""), "{said}");
    for name in ["log", "log of one id"] {
        let log = part(&said, name);
        for word in ["no control group", "SIGSTOP", "cgroup controller"] {
            assert!(!log.contains(word), "{word}: {log}");
        }
    }
    assert!(!part(&said, "log").contains("the same user"), "{said}");
    let doctor = ends("doctor", 0);
    assert!(doctor.lines().any(|l| l.contains("cgroup-base") && l.contains("holds")), "{doctor}");

    // Another process keeps the controllers away, which is said.
    let log = part(&said, "log in company");
    let reason = "cgroup controller memory is kept from groups in /sys/fs/cgroup/user.slice/run.scope \
                  by other processes in it";
    assert!(log.contains(reason), "{log}");
    for name in ["left of one id", "left", "left in company"] {
        assert_eq!(part(&said, name), "", "{name}");
    }
}
