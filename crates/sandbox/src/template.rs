//! The root file system that all sandboxes share: a small read-only tmpfs with views in it.
//!
//! It becomes the spawner's own root, so that a clone into a new mount namespace copies these few
//! mounts and nothing else of the host.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags};

use crate::capabilities::{Note, ShellView};
use crate::ids::Ids;
use crate::mount::{attach, tree, view};
use crate::spec::{Config, Rootfs};
use crate::step::Step;
use crate::sys;

/// Folders of the host's root that hold programs and libraries.
const HOST_TOP: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What of the host's `/etc` programs need; a trailing `*` is any ending.
const HOST_ETC: &[&str] = &[
    "alternatives",
    "ca-certificates*",
    "crypto-policies",
    "fonts",
    "host.conf",
    "inputrc",
    "java*",
    "ld.so.cache",
    "ld.so.conf*",
    "localtime",
    "magic*",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "perl",
    "php*",
    "pki",
    "protocols",
    "python3*",
    "services",
    "ssl",
    "terminfo",
    "timezone",
];
/// Folders that are ours whatever the root file system holds.
const OURS: &[&str] = &["dev", "etc", "proc", "sys", "tmp", "run", "var", "opt"];
/// Where views of single sandboxes are attached.
pub(crate) const BIND_TARGETS: &[&str] = &["/var/task", "/opt", "/var/runtime", "/var/lang"];
const DEVICES: &[(&str, u32)] =
    &[("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
const TEMPLATE_BYTES: &str = "64m";
const ETC_FILE_MAX_BYTES: u64 = 4 << 20;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) shell: ShellView,
    pub(crate) seen_as_root: bool,
    pub(crate) notes: Vec<Note>,
}

/// An operation that failed, with its name.
pub(crate) type Failed = (String, io::Error);

fn at<T, E: Into<io::Error>>(what: &str, path: &Path, result: Result<T, E>) -> Result<T, Failed> {
    result.map_err(|e| (format!("{what} {}", path.display()), e.into()))
}

struct Builder<'a> {
    /// Where the new root is mounted for now.
    root: PathBuf,
    id_map: Option<BorrowedFd<'a>>,
    out: Template,
}

/// Builds the template in the current mount namespace, mounted on `root`. `keep_proc`: the host's
/// `/proc` stays below, because the kernel lets a user namespace mount a new one only beside it.
pub(crate) fn build(
    config: &Config,
    rootfs: &Rootfs,
    ids: &Ids,
    root: &Path,
    id_map: Option<BorrowedFd<'_>>,
    keep_proc: bool,
    resolv_conf: &str,
) -> Result<Template, Failed> {
    at("make", root, fs::create_dir_all(root))?;
    let mounted = (|| {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        rustix::mount::fsconfig_set_string(context, "mode", "0755")?;
        rustix::mount::fsconfig_set_string(context, "size", TEMPLATE_BYTES)?;
        rustix::mount::fsconfig_create(context)?;
        rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    })();
    let mounted = at("mount a tmpfs for", root, mounted)?;
    at("attach a tmpfs to", root, attach(&mounted, root))?;
    let out = Template {
        shell: ShellView::AsIs,
        seen_as_root: ids.file_map().is_some(),
        notes: Vec::new(),
    };
    let mut builder = Builder { root: root.to_owned(), id_map, out };
    builder.folders()?;
    builder.devices()?;
    let source = match rootfs {
        Rootfs::Host => {
            builder.host()?;
            PathBuf::from("/")
        }
        Rootfs::Dir(dir) => {
            builder.directory(dir)?;
            dir.clone()
        }
    };
    builder.etc(&source, config, matches!(rootfs, Rootfs::Dir(_)), resolv_conf)?;
    if ids.root_owner() != 0 {
        at("own", root, own(root, ids.root_owner(), mounted.as_fd()))?;
    }
    if keep_proc {
        let proc = Path::new("/proc");
        at("keep", proc, tree(proc).and_then(|fd| attach(fd, &root.join("proc"))))?;
    }
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID;
    at("make read-only", root, sys::mount_setattr(mounted.as_fd(), false, set, 0, None))?;
    Ok(builder.out)
}

/// Makes the template this mount namespace's root and lets the old one go.
pub(crate) fn pivot(root: &Path) -> Result<(), Failed> {
    at("change to", root, rustix::process::chdir(root))?;
    at("pivot_root to", root, rustix::process::pivot_root(".", "."))?;
    let old = Path::new("the old root");
    at("let go of", old, rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    at("change to", Path::new("/"), rustix::process::chdir("/"))
}

impl Builder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.trim_start_matches('/'))
    }

    fn folders(&self) -> Result<(), Failed> {
        let own =
            ["proc", "tmp", "dev", "etc", "run", "home", "mnt", "var/log", "var/lib", "var/cache"];
        for name in own.iter().chain(BIND_TARGETS) {
            let path = self.path(name);
            at("make", &path, fs::create_dir_all(&path))?;
        }
        let path = self.path("var/tmp");
        at("link", &path, symlink("../tmp", &path))?;
        let path = self.path("var/run");
        at("link", &path, symlink("../run", &path))
    }

    fn devices(&self) -> Result<(), Failed> {
        for &(name, minor) in DEVICES {
            let path = self.path("dev").join(name);
            let mode = Mode::from_raw_mode(0o666);
            let node = rustix::fs::mknodat(
                CWD,
                &path,
                FileType::CharacterDevice,
                mode,
                rustix::fs::makedev(1, minor),
            );
            // A node may be made and yet not be usable: the file system of a user namespace.
            let usable = node.is_ok() && fs::File::open(&path).is_ok();
            if usable {
                at(
                    "open up",
                    &path,
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)),
                )?;
            } else {
                let _ = fs::remove_file(&path);
                let host = Path::new("/dev").join(name);
                at("make", &path, fs::write(&path, ""))?;
                at("attach", &path, tree(&host).and_then(|fd| attach(fd, &path)))?;
            }
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ];
        for (name, target) in links {
            let path = self.path("dev").join(name);
            at("link", &path, symlink(target, &path))?;
        }
        Ok(())
    }

    /// A view of one entry: links are made again, folders and files are seen.
    fn entry(&mut self, source: &Path, name: &str) -> Result<(), Failed> {
        let Ok(metadata) = fs::symlink_metadata(source) else { return Ok(()) };
        let path = self.path(name);
        if metadata.is_symlink() {
            let target = at("read link", source, fs::read_link(source))?;
            let _ = fs::remove_dir(&path);
            return at("link", &path, symlink(target, &path));
        }
        if metadata.is_dir() {
            at("make", &path, fs::create_dir_all(&path))?;
            if fs::read_dir(source).is_ok_and(|mut entries| entries.next().is_none()) {
                return Ok(());
            }
        } else if metadata.is_file() {
            at("make", &path, fs::write(&path, ""))?;
        } else {
            return Ok(());
        }
        let (fd, mapped) = at("make a view of", source, view(source, self.id_map))?;
        if self.id_map.is_some() && !mapped {
            self.out.seen_as_root = false;
            self.out.notes.push(Note::new(
                Step::RootTemplate,
                format!(
                    "files of {} are seen as nobody's: their file system has no id-mapped mounts",
                    source.display()
                ),
                "use a newer kernel, or a root file system on ext4, xfs or btrfs",
            ));
        }
        at("attach", &path, attach(fd, &path))
    }

    fn host(&mut self) -> Result<(), Failed> {
        for name in HOST_TOP {
            self.entry(&Path::new("/").join(name), name)?;
        }
        self.out.shell = self.shell();
        if self.out.shell == ShellView::HostShell {
            self.out.notes.push(Note::new(
                Step::RootTemplate,
                "/bin/sh is not bash as on Amazon Linux",
                "install the Debian package bash",
            ));
        }
        Ok(())
    }

    /// Covers the link `/bin/sh` by bash. A mount over what the link leads to would turn that
    /// program (dash) into bash wherever it is called by its own name.
    fn shell(&self) -> ShellView {
        let (Ok(sh), Ok(bash)) = (fs::canonicalize("/bin/sh"), fs::canonicalize("/bin/bash"))
        else {
            return ShellView::HostShell;
        };
        if sh == bash {
            return ShellView::AsIs;
        }
        let covered = fs::canonicalize("/bin").and_then(|bin| {
            let (fd, _) = view(&bash, self.id_map)?;
            let link = bin.join("sh");
            attach(fd, &self.path(&link.to_string_lossy()))
        });
        if covered.is_ok() { ShellView::MountOnLink } else { ShellView::HostShell }
    }

    fn directory(&mut self, dir: &Path) -> Result<(), Failed> {
        for name in names(dir).map_err(|e| (format!("list {}", dir.display()), e))? {
            if !OURS.contains(&name.as_str()) {
                self.entry(&dir.join(&name), &name)?;
            }
        }
        self.entry(&dir.join("opt"), "opt")?;
        for name in names(&dir.join("var")).unwrap_or_default() {
            if !["tmp", "run", "task"].contains(&name.as_str()) {
                self.entry(&dir.join("var").join(&name), &format!("var/{name}"))?;
            }
        }
        Ok(())
    }

    fn etc(
        &self,
        source: &Path,
        config: &Config,
        all: bool,
        resolv_conf: &str,
    ) -> Result<(), Failed> {
        let etc = source.join("etc");
        let to = self.path("etc");
        for name in names(&etc).unwrap_or_default() {
            let wanted = all
                || HOST_ETC.iter().any(|pattern| match pattern.strip_suffix('*') {
                    Some(start) => name.starts_with(start),
                    None => *pattern == name,
                });
            if wanted {
                let path = etc.join(&name);
                at("copy", &path, copy(&path, &to.join(&name), 0))?;
            }
        }
        let write = |name: &str, text: String| {
            let path = to.join(name);
            let _ = fs::remove_file(&path);
            at("write", &path, fs::write(&path, text))?;
            at("open up", &path, fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
        };
        let (name, uid, gid) = (&config.user.name, config.user.uid, config.user.gid);
        write(
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:Nobody:/:/sbin/nologin\n\
             {name}:x:{uid}:{gid}::/home/{name}:/sbin/nologin\n"
            ),
        )?;
        write("group", format!("root:x:0:\nnobody:x:65534:\n{name}:x:{gid}:\n"))?;
        let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for (address, name) in &config.hosts {
            hosts.push_str(&format!("{address} {name}\n"));
        }
        write("hosts", hosts)?;
        write("resolv.conf", resolv_conf.to_owned())?;
        if !to.join("nsswitch.conf").exists() {
            write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned())?;
        }
        Ok(())
    }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        // A name that is no text is nothing that a program looks for.
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Copies what everybody may read; private keys and the like stay out.
fn copy(from: &Path, to: &Path, depth: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let mode = metadata.mode();
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if metadata.is_dir() && mode & 0o005 == 0o005 && depth < 16 {
        fs::create_dir(to)?;
        for name in names(from)? {
            copy(&from.join(&name), &to.join(&name), depth + 1)?;
        }
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    } else if metadata.is_file() && mode & 0o004 != 0 && metadata.len() <= ETC_FILE_MAX_BYTES {
        match fs::read(from) {
            Ok(bytes) => fs::write(to, bytes)?,
            // The mode says yes and the kernel says no: a security module, or it is gone by now.
            Err(_) => return Ok(()),
        }
        fs::set_permissions(to, fs::Permissions::from_mode((mode & 0o111) | 0o644))?;
    }
    Ok(())
}

/// Gives everything in the tmpfs to `id`, without stepping into what is mounted there.
fn own(path: &Path, id: u32, root: BorrowedFd<'_>) -> io::Result<()> {
    let device = rustix::fs::fstat(root)?.st_dev;
    own_below(path, id, device)
}

fn own_below(path: &Path, id: u32, device: u64) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.dev() != device {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(id), Some(id))?;
    if metadata.is_dir() {
        for name in names(path)? {
            own_below(&path.join(name), id, device)?;
        }
    }
    Ok(())
}

/// Opens a namespace of this process.
pub(crate) fn own_namespace(kind: &str) -> io::Result<std::os::fd::OwnedFd> {
    let path = format!("/proc/self/ns/{kind}");
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copy_leaves_private_files_out() {
        let temp = tempfile::tempdir().unwrap();
        let from = temp.path().join("from");
        fs::create_dir_all(from.join("private")).unwrap();
        fs::write(from.join("open"), "o").unwrap();
        fs::write(from.join("secret"), "s").unwrap();
        fs::write(from.join("private/key"), "k").unwrap();
        symlink("open", from.join("link")).unwrap();
        let set = |name: &str, mode| {
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        set("open", 0o644);
        set("secret", 0o640);
        set("private", 0o710);
        set("private/key", 0o644);
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
        let to = temp.path().join("to");
        copy(&from, &to, 0).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "o");
        assert!(!to.join("secret").exists());
        assert!(!to.join("private").exists());
    }
}
