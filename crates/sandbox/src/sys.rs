//! The kernel calls that no safe crate offers, and the memory of clones. Every `unsafe` of the workspace
//! is in this module.

mod memory;

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

pub use memory::CloneMemory;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The C library's constant of this name is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`clone_process`] this is.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The caller.
    Parent { pid: Pid },
    /// The new process.
    Child,
}

/// Clones this process, as `fork` does, into the namespaces of `flags` (`CLONE_NEW*`), and straight
/// into a cgroup v2 directory where one is given.
///
/// The caller must have one thread only: the child goes on with a copy of its memory, and a lock
/// that another thread held would stay locked there. The spawner and pid 1 never start a thread.
pub(crate) fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut args = libc::clone_args {
        flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a live, fully initialised clone_args of the size passed, without CLONE_VM
    // and without a stack: the child runs on a copy of this memory, as after fork. The process has
    // one thread (see above), so no lock is held by somebody who does not exist in the child.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
    })?;
    match Pid::from_raw(pid as i32) {
        None => Ok(Cloned::Child),
        Some(pid) => Ok(Cloned::Parent { pid }),
    }
}

/// Forks this process by the call that is nowhere refused: filters that forbid namespaces, as containers
/// have them, often forbid every `clone3`.
///
/// The caller must have one thread only, as for [`clone_process`].
pub(crate) fn fork() -> io::Result<Cloned> {
    // SAFETY: takes no pointer; the process has one thread (see above), so no lock is held by somebody
    // who does not exist in the child.
    let pid = check(unsafe { libc::fork() }.into())?;
    match Pid::from_raw(pid as i32) {
        None => Ok(Cloned::Child),
        Some(pid) => Ok(Cloned::Parent { pid }),
    }
}

/// Of the stack, for a process that makes three system calls.
const HOLDER_STACK_BYTES: usize = 4096;

/// While `action` runs, a process with this id is in a new user namespace, of which it is the only
/// one. It has no copy of this memory but shares it: to copy it would take longer than all the rest.
pub(crate) fn in_user_namespace<T>(action: impl FnOnce(Pid) -> T) -> io::Result<T> {
    #[repr(align(16))]
    struct Stack([u8; HOLDER_STACK_BYTES]);

    /// Waits to be killed, by its parent or with it.
    extern "C" fn hold(parent: *mut libc::c_void) -> c_int {
        // SAFETY: none of the calls takes a live pointer. They cannot fail, so that `errno`, which the
        // parent has too, is not written.
        unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            // The parent may have died just before.
            while libc::syscall(libc::SYS_getppid) == parent as c_long {
                libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
            }
        }
        0
    }

    let mut stack = Stack([0; HOLDER_STACK_BYTES]);
    let flags = libc::CLONE_NEWUSER | libc::CLONE_VM | libc::SIGCHLD;
    let parent = rustix::process::getpid().as_raw_nonzero().get() as usize as *mut libc::c_void;
    // SAFETY: the stack is aligned, and outlives the child, which is dead before this function returns,
    // also when `action` panics. The child touches nothing but its stack; no signal has a handler that
    // it could run.
    let pid = check(unsafe {
        let top = stack.0.as_mut_ptr_range().end;
        libc::clone(hold, top.cast(), flags, parent).into()
    })?;
    let Some(pid) = Pid::from_raw(pid as i32) else { exit(1) };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| action(pid)));
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    while matches!(
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()),
        Err(rustix::io::Errno::INTR)
    ) {}
    outcome.or_else(|panic| std::panic::resume_unwind(panic))
}

/// The most memory that any one of the children held that this process has waited for, or of theirs
/// that they have; bytes.
pub(crate) fn children_peak_bytes() -> io::Result<u64> {
    // SAFETY: `rusage` is plain numbers, for which zero is a value, and the kernel writes only into
    // the live one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        check(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage).into())?;
        usage
    };
    // The kernel counts it in KiB.
    Ok(u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10)
}

/// Gives free memory back to the kernel: what this process holds, each of its forks copies and each
/// execution takes apart. Other C libraries than glibc do so by themselves.
pub(crate) fn trim_memory() {
    // SAFETY: takes no pointer; the allocator's own lock is free, since there is one thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ends the process at once, without destructors or exit handlers: those are the parent's.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of a descriptor that was inherited under a known number.
///
/// Call it once for a number, and only for one that the starter of this process put there.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: by the contract above nothing else in this process owns the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes every descriptor that is not in `keep`. Owners of closed descriptors must be forgotten by
/// the caller: only a fresh clone, which never drops its parent's values, does this.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|&fd| fd as u32).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 0u32;
    for fd in keep.into_iter().chain([u32::MAX]) {
        let last = if fd == u32::MAX { u32::MAX } else { fd.wrapping_sub(1) };
        if fd > first {
            // SAFETY: close_range takes no pointer; descriptors owned by values of the parent's
            // copy are never used again here (see above).
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) })?;
        }
        first = fd.wrapping_add(1);
    }
    Ok(())
}

/// Makes `to` a copy of `from`, without close-on-exec.
pub(crate) fn duplicate_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes no pointer; `to` is one of the standard numbers, which no OwnedFd here
    // holds.
    check(unsafe { libc::dup2(from.as_raw_fd(), to) }.into()).map(drop)
}

/// `mount_setattr` on the mount, or the tree of mounts, that `fd` is the root of.
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    propagation: u64,
    id_map: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    if let Some(id_map) = id_map {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = id_map.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty string and `attributes` lives through the call and has the
    // size passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Moves this process into new namespaces (`CLONE_NEW*`).
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; CLONE_FILES and CLONE_FS, which would split what threads share, are
    // never passed, and the callers have one thread.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Enters the namespace of `fd`, which must be of this kind.
pub(crate) fn setns(fd: BorrowedFd<'_>, kind: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::setns(fd.as_raw_fd(), kind) }.into()).map(drop)
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset and sigaddset write only into the live `set`.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Blocks these signals and returns a nonblocking descriptor that becomes readable on them.
pub(crate) fn signal_fd(signals: &[c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: `set` is initialised and lives through both calls; the descriptor returned is new.
    unsafe {
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = check(
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into(),
        )?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Gives every signal its default action, as a fresh program expects.
pub(crate) fn default_signals() {
    // The kernel's `struct sigaction` in its default state: no handler, no flags, no mask.
    let default = [0u64; 4];
    // SAFETY: the structure is as large as the kernel reads, and lives through the calls. The
    // call is made directly because the C library keeps two signals of its own back, which may
    // have been inherited as ignored; refusals (SIGKILL, SIGSTOP) change nothing.
    unsafe {
        for signal in 1..=64 {
            let size = size_of::<u64>();
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null::<u64>(),
                size,
            );
        }
    }
}

/// Blocks no signal, as a fresh program expects.
pub(crate) fn unblock_signals() {
    let none = signal_set(&[]);
    // SAFETY: `none` is initialised and lives through the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// Sends a signal to every process of this pid namespace but the caller; pid 1 only.
pub(crate) fn kill_everyone(signal: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::kill(-1, signal) }.into()).map(drop)
}

/// Sends a signal, by number, to one process.
pub(crate) fn kill(pid: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the pid is positive by its type.
    check(unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) }.into()).map(drop)
}

/// Sends a signal, by number, to the process group that this process leads.
pub(crate) fn kill_group(leader: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; a negative pid names a group, and the leader's is above 1, so that
    // this is never the `-1` of everyone.
    check(unsafe { libc::kill(-leader.as_raw_nonzero().get(), signal) }.into()).map(drop)
}

/// Executes a program; returns only when that failed.
pub(crate) fn execve(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in null, and they and the strings that they point to live through
    // the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// A number of the network namespace of a socket that no other one has until the next boot.
pub(crate) fn network_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is that large, and the
    // new length to `length`; both live through the call.
    let result = unsafe {
        let (value, length) = ((&raw mut cookie).cast(), &raw mut length);
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, length)
    };
    check(result.into())?;
    Ok(cookie)
}

/// The C library's headers are too old for it.
const SO_NETNS_COOKIE: c_int = 71;

/// `struct landlock_ruleset_attr` of `<linux/landlock.h>`, as its first version had it.
#[repr(C)]
struct LandlockRuleset {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr` of `<linux/landlock.h>`.
#[repr(C, packed)]
struct LandlockPathBeneath {
    allowed_access: u64,
    parent_fd: c_int,
}

const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
const LANDLOCK_RULE_PATH_BENEATH: c_int = 1;

/// Version of the kernel's Landlock interface.
pub(crate) fn landlock_version() -> io::Result<u32> {
    let flag = LANDLOCK_CREATE_RULESET_VERSION;
    // SAFETY: with this flag the kernel takes a null pointer and size 0.
    check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, flag)
    })
    .map(|version| version as u32)
}

/// Rules that forbid these accesses to files, everywhere for now.
pub(crate) fn landlock_ruleset(handled_access_fs: u64) -> io::Result<OwnedFd> {
    let attributes = LandlockRuleset { handled_access_fs };
    let size = size_of::<LandlockRuleset>();
    // SAFETY: `attributes` lives through the call and has the size passed; the descriptor returned
    // is new.
    unsafe {
        let fd = check(libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size,
            0u32,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Allows accesses at and below a place.
pub(crate) fn landlock_allow(
    rules: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
    allowed_access: u64,
) -> io::Result<()> {
    let rule = LandlockPathBeneath { allowed_access, parent_fd: place.as_raw_fd() };
    // SAFETY: `rule` has the kernel's layout for this kind of rule and lives through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            LANDLOCK_RULE_PATH_BENEATH,
            &raw const rule,
            0u32,
        )
    })
    .map(drop)
}

/// Holds this thread, and all that it starts from now on, by these rules for good; it must not be
/// able to gain privileges.
pub(crate) fn landlock_restrict(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0u32) })
        .map(drop)
}

const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` of `<linux/loop.h>`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64` of `<linux/loop.h>`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// Asks `/dev/loop-control` for the number of a loop device that nobody uses.
pub(crate) fn loop_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) }.into())
        .map(|n| n as u32)
}

/// Puts `image` behind a loop device, which is freed by itself when its last user goes.
pub(crate) fn loop_configure(
    device: BorrowedFd<'_>,
    image: BorrowedFd<'_>,
    label: &str,
    direct_io: bool,
) -> io::Result<()> {
    let mut file_name = [0u8; 64];
    for (to, from) in file_name.iter_mut().take(63).zip(label.bytes()) {
        *to = from;
    }
    let config = LoopConfig {
        fd: image.as_raw_fd() as u32,
        block_size: if direct_io { 4096 } else { 0 },
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR | if direct_io { LO_FLAGS_DIRECT_IO } else { 0 },
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `config` has the layout of the kernel's loop_config and lives through the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) }.into())
        .map(drop)
}
