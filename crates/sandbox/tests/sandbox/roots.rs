//! Root file systems: the host's in both layouts of `/usr`, a folder, and several side by side.

use std::path::{Path, PathBuf};

use lambfold_sandbox::{Config, CreateError, Rootfs, ShellView, Spec};

use crate::Test;
use crate::world::{World, bash, bind, config, outside, owner, spec};

pub const TESTS: &[Test] = &[
    ("roots::a_directory_can_be_the_root", a_directory_can_be_the_root),
    ("roots::each_sandbox_can_have_another_root", each_sandbox_can_have_another_root),
    ("roots::a_host_with_its_usr_merged", a_host_with_its_usr_merged),
    ("roots::a_host_with_its_usr_unmerged", a_host_with_its_usr_unmerged),
];

/// Copies programs with their libraries to the same places below `root`; links in the folders there
/// are followed.
pub fn copy_programs(root: &Path, programs: &[&str]) {
    let copy = |path: &str| {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    };
    for program in programs {
        copy(program);
        let libraries = std::process::Command::new("ldd").arg(program).output().unwrap();
        for word in String::from_utf8(libraries.stdout).unwrap().split_whitespace() {
            if word.starts_with('/') {
                copy(word);
            }
        }
    }
}

fn small_root(root: &Path, release: &str) {
    for folder in ["bin", "etc", "srv/data", "var/lib/thing", "opt"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    copy_programs(root, &["/bin/bash", "/bin/cat", "/bin/ls"]);
    std::os::unix::fs::symlink("bash", root.join("bin/sh")).unwrap();
    std::fs::write(root.join("etc/system-release"), release).unwrap();
    std::fs::write(root.join("srv/data/file"), "data\n").unwrap();
    std::fs::write(root.join("var/lib/thing/file"), "thing\n").unwrap();
}

fn a_directory_can_be_the_root() {
    let (mut config, dir) = config();
    let root = dir.path().join("rootfs");
    small_root(&root, "A root of its own\n");
    config.rootfs = Rootfs::Dir(root);
    let world = World::with(config, dir);
    let task = world.folder("task", &[("file", "code\n")]);
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let script = "cat /etc/system-release /srv/data/file /var/lib/thing/file /var/task/file; \
                  echo x > /tmp/x; echo x > /dev/null; [ -e /usr/bin/perl ] || echo no perl; \
                  (echo x > /srv/data/x) 2>/dev/null || echo read-only; ls /proc/self/fd > /dev/null";
    let expected = "A root of its own\ndata\nthing\ncode\nno perl\nread-only\n";
    assert_eq!(inside.bash(script).ok(), expected);
    let missing = &world.sandboxes.capabilities().missing_programs;
    assert!(missing.contains(&("curl".to_owned(), "curl".to_owned())), "{missing:?}");
    assert!(!missing.iter().any(|(program, _)| program == "cat"), "{missing:?}");
}

fn each_sandbox_can_have_another_root() {
    let (mut config, dir) = config();
    for name in ["one", "two"] {
        small_root(&dir.path().join(name), &format!("{name}\n"));
        config.more_rootfs.insert(name.to_owned(), Rootfs::Dir(dir.path().join(name)));
    }
    let world = World::with(config, dir);
    let task = world.folder("task", &[("file", "code\n")]);
    let make = |rootfs: Option<&str>| {
        let binds = vec![bind(&task, "/var/task")];
        world.create(Spec { binds, rootfs: rootfs.map(str::to_owned), ..spec() })
    };
    let script = "cat /var/task/file; [ -e /usr/bin/perl ] && echo perl; [ -e /srv/data ] && \
                  cat /etc/system-release; read -d '' mounts < /proc/self/mountinfo; \
                  [[ $mounts == *' /work '* ]] && echo mounted; echo $(ls -d /tmp /one /two /work 2>/dev/null)";
    // All at once, and in turn: none takes over what another has.
    let sandboxes =
        [Some("one"), None, Some("two"), Some("one"), None].map(|name| (name, make(name)));
    for (name, inside) in &sandboxes {
        let expected = match name {
            Some(name) => format!("code\n{name}\n/tmp\n"),
            None => "code\nperl\n/tmp\n".to_owned(),
        };
        assert_eq!(inside.bash(script).output, expected);
    }
    match world.try_create(Spec { rootfs: Some("three".into()), ..spec() }) {
        Err(CreateError::Invalid { field: "rootfs", reason }) => {
            assert!(reason.contains("one, two"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let missing = &world.sandboxes.capabilities().more_missing_programs;
    assert!(missing["one"].iter().any(|(program, _)| program == "curl"), "{missing:?}");
}

/// A machine of its own for the host's part of this program: `layout` is made of programs of this
/// machine, and is the root of a process in a mount namespace. What that prints.
fn on_a_host(merged: bool) -> String {
    let temp = tempfile::Builder::new().prefix("lambfold-host-").tempdir().unwrap();
    let root = temp.path();
    for folder in ["proc", "dev", "sys", "tmp", "etc", "old", "usr/bin", "usr/lib", "usr/lib64"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for folder in ["bin", "lib", "lib64"] {
        let path = root.join(folder);
        if merged {
            std::os::unix::fs::symlink(format!("usr/{folder}"), path).unwrap();
        } else {
            std::fs::create_dir(path).unwrap();
        }
    }
    // By the names of an unmerged system, which a merged one has too.
    copy_programs(root, &["/bin/bash", "/bin/cat", "/bin/ls", "/bin/readlink", "/usr/bin/env"]);
    copy_programs(root, &["/bin/dash", "/bin/umount"]);
    std::os::unix::fs::symlink("dash", root.join("bin/sh")).unwrap();
    std::fs::create_dir_all(root.join("opt")).unwrap();
    let own = std::env::current_exe().unwrap();
    copy_programs(root, &[&own.display().to_string()]);
    // Where no mount hides it.
    std::fs::copy(own, root.join("host-part")).unwrap();
    let script = format!(
        "set -e; cd {root}; mount --bind . .; cd {root}; mount -t proc proc proc; \
         mount --rbind /dev dev; mount --rbind /sys sys; mount -t tmpfs tmp tmp; \
         /usr/sbin/pivot_root . old; /bin/umount -l old; exec /host-part host-view {owner}",
        root = root.display(),
        owner = owner(),
    );
    let mut args = vec!["--mount", "--pid", "--fork", "--kill-child"];
    if !lambfold_sandbox::is_root() {
        args.extend(["--user", "--map-root-user"]);
    }
    let mut command = bash(&script);
    let mut all: Vec<String> = args.into_iter().map(str::to_owned).collect();
    all.push("/bin/bash".to_owned());
    all.append(&mut command.args);
    command.programs = vec!["/usr/bin/unshare".to_owned()];
    command.args = all;
    outside(&command).ok()
}

/// The part of this program that runs on the host that [`on_a_host`] makes.
pub fn host_view() {
    let work = PathBuf::from("/tmp/work");
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    // The tests of both layouts may run at a time.
    let owner = std::env::args().nth(2).unwrap();
    let world = World::with(Config::new(owner, work), dir);
    assert_eq!(world.sandboxes.capabilities().shell, ShellView::MountOnLink);
    let script = "for f in /bin /lib /lib64; do \
                  if [ -L $f ]; then echo $f leads to $(readlink $f); else echo $f is a folder; fi; \
                  done; ls /old 2>/dev/null; ls /usr; /bin/cat /dev/null && /usr/bin/env -i /bin/sh -c \
                  'echo sh is ${BASH_VERSION:+bash}'; /bin/dash -c 'echo dash is [$BASH_VERSION]'; \
                  (echo x > /bin/cat) 2>/dev/null || echo read-only";
    print!("{}", world.sandbox().bash(script).ok());
}

const SAME: &str = "bin\nlib\nlib64\nsh is bash\ndash is []\nread-only\n";

fn a_host_with_its_usr_merged() {
    let links = "/bin leads to usr/bin\n/lib leads to usr/lib\n/lib64 leads to usr/lib64\n";
    assert_eq!(on_a_host(true), format!("{links}{SAME}"));
}

fn a_host_with_its_usr_unmerged() {
    let folders = "/bin is a folder\n/lib is a folder\n/lib64 is a folder\n";
    assert_eq!(on_a_host(false), format!("{folders}{SAME}"));
}
