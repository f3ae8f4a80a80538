//! The floor of a cold start: the kernel calls of a sandbox start with nothing around them, one
//! after the other and nothing made ahead.
//!
//! `bare-steps COUNT PROGRAM` starts a static runtime COUNT times and prints, a line each, the
//! milliseconds from the clone to the arrival of its first request for an event. In that time:
//! new user, mount, pid, network, ipc, uts and cgroup namespaces; a root of its own with a
//! read-only `/usr`, `/proc`, `/var/task` and `/tmp`; loopback up with its second address; both
//! listeners; a control group; fork, exec. No filter of system calls, no limits, no overlay, no
//! idmapped mounts, no logs. Needs root, as the benchmark that runs it does.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
#![allow(unsafe_code)] // the sandbox crate is where unsafe lives; each block says why

use std::ffi::CString;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "bare-steps COUNT PROGRAM";
    let count: usize = args.next().and_then(|n| n.parse().ok()).expect(usage);
    let program = args.next().expect(usage);
    let place = tempfile::tempdir().unwrap();
    let task = place.path().join("task");
    std::fs::create_dir(&task).unwrap();
    std::fs::copy(program, task.join("bootstrap")).unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // SAFETY: one thread; gives this process a mount namespace of its own, so that nothing of
    // the following reaches the host.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "bare-steps needs root");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    for _ in 0..count {
        println!("{}", start(&root, &task) * 1000.0);
    }
}

/// One start; seconds.
fn start(root: &Path, task: &Path) -> f64 {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP
        | libc::SIGCHLD;
    let begin = Instant::now();
    // SAFETY: a clone without a new stack is a fork; this process has one thread, so the child
    // may do whatever the parent could.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    assert!(child >= 0, "clone: {}", std::io::Error::last_os_error());
    if child == 0 {
        drop(reader);
        inside(root, task);
        drop(writer); // the end of the pipe tells that the request is there
        // SAFETY: ends the child at once, without the parent's destructors.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut reader = reader;
    reader.read_to_end(&mut Vec::new()).unwrap();
    let took = begin.elapsed().as_secs_f64();
    let mut status = 0;
    // SAFETY: waits for the child made above; status is a valid place.
    unsafe { libc::waitpid(i32::try_from(child).unwrap(), &raw mut status, 0) };
    assert_eq!(status, 0, "the child failed");
    took
}

fn inside(root: &Path, task: &Path) {
    let none = MountFlags::empty();
    mount("tmpfs", root, "tmpfs", none, Some(c"mode=755")).unwrap();
    chdir(root).unwrap();
    for folder in ["usr", "proc", "tmp", "var", "var/task"] {
        std::fs::create_dir(folder).unwrap();
    }
    view("/usr", "usr");
    view(task, "var/task");
    mount("tmpfs", "tmp", "tmpfs", none, Some(c"size=512m")).unwrap();
    mount("proc", "proc", "proc", none, None).unwrap();
    let groups = Path::new("/sys/fs/cgroup/unified");
    let groups = if groups.exists() { groups } else { Path::new("/sys/fs/cgroup") };
    let group = groups.join(format!("bare-steps-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    std::fs::remove_dir(&group).unwrap();
    pivot_root(".", ".").unwrap();
    unmount(".", UnmountFlags::DETACH).unwrap();
    chdir("/").unwrap();
    loopback();
    let first = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001)).unwrap();
    let _second = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 9001)).unwrap();
    let program = CString::new("/var/task/bootstrap").unwrap();
    let variable = CString::new("AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001").unwrap();
    let argv = [program.as_ptr(), std::ptr::null()];
    let envp = [variable.as_ptr(), std::ptr::null()];
    // SAFETY: this process has one thread; between fork and exec the child makes two system
    // calls with pointers that live in this frame.
    unsafe {
        match libc::fork() {
            0 => {
                libc::unshare(libc::CLONE_NEWUSER);
                libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
                libc::_exit(9);
            }
            child => assert!(child > 0),
        }
    }
    let (mut peer, _) = first.accept().unwrap();
    assert_ne!(peer.read(&mut [0; 1024]).unwrap(), 0);
}

/// A read-only view of a folder.
fn view(source: impl AsRef<Path>, target: &str) {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, source.as_ref(), flags).unwrap();
    let attributes: [u64; 4] = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: the attributes are a valid mount_attr of 32 bytes, the path is an empty C string.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            attributes.as_ptr(),
            32,
        )
    };
    assert_eq!(set, 0, "mount_setattr: {}", std::io::Error::last_os_error());
    move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
}

fn loopback() {
    // SAFETY: makes a socket and takes the descriptor that the kernel gave; the request is a
    // zeroed ifreq with a name and flags, which is valid for this ioctl.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap();
        assert_eq!(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request), 0);
    }
}
