//! `/tmp`: an ext4 image on a loop device, since pages of a tmpfs are charged to the guest's memory
//! and would kill it. Images are made by a helper process of the spawner, ahead of need.
//!
//! Nothing of an image has a name: the file is unlinked, the loop device frees itself, and the mount
//! is attached nowhere until a sandbox takes it. When the last holder dies, all of it is gone.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::sys::{self, Cloned};
use crate::wire::{self, Received, Receiver};

/// Smallest file system: ext4 needs a little for itself.
const SMALLEST_BYTES: u64 = 4 << 20;
pub(crate) const BYTES_PER_INODE: u64 = 32 << 10;
const INODE_BYTES: u64 = 256;
/// ext4 holds back a fiftieth of the blocks, but no more than this, for its own use.
const HELD_BACK_MAX_BYTES: u64 = 16 << 20;

/// Size of the image in which a guest can write `bytes`, short by what bitmaps and the like take
/// (less than a hundredth).
fn image_bytes(bytes: u64) -> u64 {
    let inodes = bytes / BYTES_PER_INODE * INODE_BYTES;
    (bytes + inodes + HELD_BACK_MAX_BYTES.min(bytes / 50)).next_multiple_of(4096)
}

/// Asks for one more file system of this size.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    bytes: u64,
}

/// The answer, with the mount when `errno` is 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) bytes: u64,
    pub(crate) errno: i32,
    pub(crate) what: String,
}

/// The helper process, as the spawner sees it.
#[derive(Debug)]
pub(crate) struct Maker {
    pid: Pid,
    socket: OwnedFd,
    receiver: Receiver,
}

impl Maker {
    /// Starts the helper. It works in the mount namespace of this moment, in `folder`.
    pub(crate) fn start(folder: &Path, root_owner: u32) -> io::Result<Maker> {
        let (ours, theirs) = wire::pair()?;
        match sys::clone_process(0, None)? {
            Cloned::Child => {
                let code = std::panic::catch_unwind(|| {
                    // Only this socket is kept: a copy of the host's would hide the spawner's death.
                    let kept = std::os::fd::AsRawFd::as_raw_fd(&theirs);
                    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
                    for standard in 0..3 {
                        sys::duplicate_to(null.as_fd(), standard)?;
                    }
                    sys::close_all_but(&[0, 1, 2, kept])?;
                    serve(theirs.as_fd(), folder, root_owner)
                });
                sys::exit(if matches!(code, Ok(Ok(()))) { 0 } else { 1 })
            }
            Cloned::Parent { pid } => Ok(Maker { pid, socket: ours, receiver: Receiver::new() }),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn ask(&self, bytes: u64) -> io::Result<()> {
        wire::send(self.socket.as_fd(), &Wanted { bytes }, &[], false)
    }

    /// The next answer; `None` when there is none now. An error means that the helper is gone.
    pub(crate) fn answer(&mut self, wait: bool) -> io::Result<Option<(Made, Option<OwnedFd>)>> {
        match self.receiver.receive(&self.socket, wait)? {
            Received::Message(made, fds) => Ok(Some((made, fds.into_iter().next()))),
            Received::Nothing => Ok(None),
            Received::End => Err(io::Error::from_raw_os_error(libc::EPIPE)),
        }
    }
}

impl AsFd for Maker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn serve(socket: BorrowedFd<'_>, folder: &Path, root_owner: u32) -> io::Result<()> {
    rustix::thread::set_name(c"lambfold-tmp")?;
    let mut factory = Factory { folder: folder.to_owned(), root_owner, direct_io: true };
    let mut receiver = Receiver::new();
    loop {
        let wanted: Wanted = match receiver.receive(socket, true)? {
            Received::Message(wanted, _) => wanted,
            Received::Nothing => continue,
            Received::End => return Ok(()),
        };
        let bytes = wanted.bytes;
        match factory.make(bytes) {
            Ok(mount) => {
                let made = Made { bytes, errno: 0, what: String::new() };
                wire::send(socket, &made, &[mount.as_fd()], true)?;
            }
            Err((what, e)) => {
                let errno = e.raw_os_error().unwrap_or(libc::EIO);
                wire::send(socket, &Made { bytes, errno, what }, &[], true)?;
            }
        }
    }
}

type Failed = (String, io::Error);

/// Names the operation that failed.
fn at<T>(what: impl Into<String>, result: Result<T, impl Into<io::Error>>) -> Result<T, Failed> {
    result.map_err(|e| (what.into(), e.into()))
}

struct Factory {
    folder: PathBuf,
    root_owner: u32,
    direct_io: bool,
}

impl Factory {
    fn make(&mut self, bytes: u64) -> Result<OwnedFd, Failed> {
        let bytes = image_bytes(bytes.max(SMALLEST_BYTES));
        let template = self.template(bytes)?;
        let image = at("make an image in the work folder", self.copy(&template, bytes))?;
        self.mount(&image)
    }

    /// An image of this size that was never used, made once.
    fn template(&mut self, bytes: u64) -> Result<PathBuf, Failed> {
        let path = self.folder.join(format!("tmp-{bytes}.ext4"));
        if path.exists() {
            return Ok(path);
        }
        let fresh = self.folder.join("tmp-new.ext4");
        at("make an image template", fs::File::create(&fresh).and_then(|f| f.set_len(bytes)))?;
        let output = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-m", "0"])
            .args(["-i", &BYTES_PER_INODE.to_string(), "-I", &INODE_BYTES.to_string()])
            // No journal: nobody reads the image after a crash. No resize room: it never grows.
            .args(["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"])
            .arg(&fresh)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .output();
        let output = at("execute mkfs.ext4 (Debian package e2fsprogs)", output)?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err((format!("mkfs.ext4: {text}"), io::Error::from_raw_os_error(libc::EIO)));
        }
        let file = at(
            "open the image template",
            fs::OpenOptions::new().read(true).write(true).open(&fresh),
        )?;
        let mounted = self.mount(&file.into())?;
        // A detached mount has no path but that of its descriptor.
        let root =
            PathBuf::from(format!("/proc/self/fd/{}/.", std::os::fd::AsRawFd::as_raw_fd(&mounted)));
        at("remove lost+found", fs::remove_dir(root.join("lost+found")))?;
        let owner = Some(self.root_owner);
        at("own the image's root", std::os::unix::fs::chown(&root, owner, owner))?;
        at(
            "open the image's root",
            fs::set_permissions(&root, fs::Permissions::from_mode(0o1777)),
        )?;
        drop(mounted);
        at("name the image template", fs::rename(&fresh, &path))?;
        Ok(path)
    }

    /// A nameless copy, sparse as the template is.
    fn copy(&self, template: &Path, bytes: u64) -> io::Result<OwnedFd> {
        let from = fs::File::open(template)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let to = match rustix::fs::open(&self.folder, flags | OFlags::TMPFILE, mode) {
            Ok(fd) => fd,
            Err(_) => {
                let path = self.folder.join("tmp-copy.ext4");
                let fd = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
                fs::remove_file(&path)?;
                fd
            }
        };
        rustix::fs::ftruncate(&to, bytes)?;
        if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
            return Ok(to);
        }
        let mut position = 0u64;
        loop {
            let data = match rustix::fs::seek(&from, rustix::fs::SeekFrom::Data(position)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => return Ok(to),
                Err(e) => return Err(e.into()),
            };
            let hole = rustix::fs::seek(&from, rustix::fs::SeekFrom::Hole(data))?;
            let (mut read, mut write) = (data, data);
            while read < hole {
                let left = (hole - read) as usize;
                if rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut write), left)?
                    == 0
                {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
            }
            position = hole;
        }
    }

    fn mount(&mut self, image: &OwnedFd) -> Result<OwnedFd, Failed> {
        let (_device, path) = at("put an image behind a loop device", self.attach(image))?;
        let mounted = (|| {
            let context = rustix::mount::fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
            let context = context.as_fd();
            rustix::mount::fsconfig_set_string(context, "source", &path)?;
            rustix::mount::fsconfig_set_flag(context, "noinit_itable")?;
            // Without it each image has a table of the kernel's, 8 KiB, for extended attributes that
            // several files have in common.
            rustix::mount::fsconfig_set_flag(context, "no_mbcache")?;
            rustix::mount::fsconfig_set_string(context, "errors", "continue")?;
            rustix::mount::fsconfig_create(context)?;
            rustix::mount::fsmount(
                context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOATIME,
            )
        })();
        at("mount an ext4 image", mounted)
    }

    /// A loop device over the image: its open node and the node's path.
    fn attach(&mut self, image: &OwnedFd) -> io::Result<(OwnedFd, PathBuf)> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let control = rustix::fs::open("/dev/loop-control", flags, Mode::empty())?;
        loop {
            let number = sys::loop_free(control.as_fd())?;
            let mut path = PathBuf::from(format!("/dev/loop{number}"));
            if !path.exists() {
                // /dev of a container does not follow the kernel: a node of our own does.
                path = self.folder.join(format!("loop{number}"));
                let device = rustix::fs::makedev(7, number);
                let mode = Mode::RUSR | Mode::WUSR;
                match rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    FileType::BlockDevice,
                    mode,
                    device,
                ) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            let device = rustix::fs::open(&path, flags, Mode::empty())?;
            match sys::loop_configure(device.as_fd(), image.as_fd(), "lambfold", self.direct_io) {
                Ok(()) => return Ok((device, path)),
                // Somebody else was faster.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
                // Not every file system can: the page cache then holds the data twice.
                Err(_) if self.direct_io => self.direct_io = false,
                Err(e) => return Err(e),
            }
        }
    }
}
