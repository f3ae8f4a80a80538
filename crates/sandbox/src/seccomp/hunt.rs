//! The hunt of rules that nobody needs: real programs are run and every system call that they make
//! is written down. A call that the tables allow and that none of them makes needs a reason of its
//! own to stay, here; a call that they make and that is not allowed needs one too.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use libc::*;

use super::rules::{self, FCHMODAT2};

/// Programs, with what they are given to do.
const WORKLOADS: &[(&str, &str)] = &[
    ("/bin/bash", include_str!("workload/shell.sh")),
    ("/usr/bin/perl", include_str!("workload/perl.pl")),
    ("/usr/bin/python3", include_str!("workload/python.py")),
    ("/usr/bin/php", include_str!("workload/php.php")),
];

/// Calls that are allowed though no workload makes them, and why.
const KEPT: &[(&str, &[i64])] = &[
    (
        "C libraries other than Debian's own, and Go, which has none: musl and older ones of glibc \
         (Amazon Linux 2) make these in place of newer forms",
        &[
            SYS_open,
            SYS_stat,
            SYS_lstat,
            SYS_getdents,
            SYS_utime,
            SYS_utimes,
            SYS_futimesat,
            SYS_mknod,
            SYS_fork,
            SYS_pause,
            SYS_pipe,
            SYS_select,
            SYS_epoll_create,
            SYS_eventfd,
            SYS_signalfd,
            SYS_inotify_init,
            SYS_fstat,
            SYS_accept,
            SYS_tkill,
            SYS_nanosleep,
            SYS_getrlimit,
            SYS_setrlimit,
            SYS_faccessat,
        ],
    ),
    (
        "clocks and processor numbers that are read without the kernel's help, unless the machine \
         has no clock for that",
        &[SYS_clock_getres, SYS_gettimeofday, SYS_time, SYS_getcpu],
    ),
    ("newer C libraries than Debian's own", &[FCHMODAT2]),
    (
        "programs that watch files: servers that load again what has changed",
        &[SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch],
    ),
    ("made by the kernel itself when a stopped program goes on", &[SYS_restart_syscall]),
    (
        "event loops and timers of Rust, Java, .NET, libuv and libevent",
        &[
            SYS_ppoll,
            SYS_epoll_pwait,
            SYS_epoll_pwait2,
            SYS_signalfd4,
            SYS_timerfd_create,
            SYS_timerfd_gettime,
            SYS_timerfd_settime,
            SYS_timer_delete,
            SYS_timer_gettime,
            SYS_timer_getoverrun,
            SYS_rt_sigqueueinfo,
            SYS_rt_tgsigqueueinfo,
            SYS_sched_setattr,
        ],
    ),
    (
        "memory of language runtimes and of keys: V8's protection keys, barriers of .NET and the JVM, \
         secrets that must not be swapped out",
        &[
            SYS_membarrier,
            SYS_mincore,
            SYS_pkey_alloc,
            SYS_pkey_free,
            SYS_pkey_mprotect,
            SYS_mlock,
            SYS_mlock2,
            SYS_munlock,
            SYS_mlockall,
            SYS_munlockall,
        ],
    ),
    (
        "files of databases and caches: vectored and asynchronous requests, flushing of parts",
        &[
            SYS_preadv,
            SYS_pwritev,
            SYS_readahead,
            SYS_sync_file_range,
            SYS_io_setup,
            SYS_io_destroy,
            SYS_io_submit,
            SYS_io_cancel,
            SYS_io_getevents,
        ],
    ),
    ("several datagrams at once: name resolution of glibc, QUIC", &[SYS_sendmmsg, SYS_recvmmsg]),
    (
        "opening below a folder, and executing what is open: sandboxes of languages",
        &[SYS_openat2, SYS_execveat],
    ),
    (
        "a process may narrow itself further: browsers",
        &[
            SYS_seccomp,
            SYS_landlock_create_ruleset,
            SYS_landlock_add_rule,
            SYS_landlock_restrict_self,
        ],
    ),
    (
        "POSIX message queues and System V semaphores, which nothing that Debian installs by itself \
         uses",
        &[
            SYS_semop,
            SYS_mq_open,
            SYS_mq_unlink,
            SYS_mq_timedsend,
            SYS_mq_timedreceive,
            SYS_mq_notify,
            SYS_mq_getsetattr,
        ],
    ),
];

/// Calls that workloads make and that are refused or missing on purpose, and why that is fine.
const DONE_WITHOUT: &[(&str, &[i64])] = &[
    ("C libraries fall back to clone, whose flags a filter can see", &[SYS_clone3]),
    ("placing memory on nodes is a hint", &[SYS_get_mempolicy, SYS_set_mempolicy]),
];

/// Number and name of every call that the workloads make.
fn seen() -> BTreeMap<i64, String> {
    let mut seen = BTreeMap::new();
    for (program, script) in WORKLOADS {
        let temp = tempfile::tempdir().unwrap();
        let (work, text, trace) =
            (temp.path().join("work"), temp.path().join("script"), temp.path().join("trace"));
        std::fs::create_dir(&work).unwrap();
        std::fs::write(&text, script).unwrap();
        let output = Command::new("/usr/bin/strace")
            .args(["--follow-forks", "--syscall-number", "--quiet=all", "--signal=none", "-o"])
            .arg(&trace)
            .arg(program)
            .arg(&text)
            .current_dir(&work)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TMPDIR", temp.path())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("strace: {e}; run tools/setup test"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}");
        for line in std::fs::read_to_string(trace).unwrap_or_default().lines() {
            // `123 [ 257] openat(…`
            let Some((_, rest)) = line.split_once('[') else { continue };
            let Some((number, rest)) = rest.split_once("] ") else { continue };
            let name = rest.split('(').next().unwrap_or_default();
            if let Ok(number) = number.trim().parse() {
                seen.insert(number, name.to_owned());
            }
        }
        assert!(seen.len() > 50, "{program} made next to no call: {said}");
    }
    seen
}

fn calls(table: &[(&str, &'static [i64])]) -> BTreeSet<i64> {
    table.iter().flat_map(|(_, calls)| *calls).copied().collect()
}

#[test]
fn no_rule_is_redundant_and_none_is_missing() {
    let seen = seen();
    let allowed: BTreeSet<i64> = rules::ALLOW.iter().flat_map(|r| r.calls).copied().collect();
    let (kept, done_without) = (calls(KEPT), calls(DONE_WITHOUT));
    let needed = |call: &i64| seen.contains_key(call) || kept.contains(call);
    let redundant: Vec<_> = allowed.iter().filter(|call| !needed(call)).collect();
    assert!(
        redundant.is_empty(),
        "nobody makes these calls: remove them from the tables, or give a reason here: {redundant:?}"
    );
    let unknown: Vec<_> = kept.difference(&allowed).collect();
    assert!(unknown.is_empty(), "kept, and not in the tables: {unknown:?}");
    for rule in rules::ALLOW {
        assert!(rule.calls.iter().any(needed), "a whole rule that nobody needs: {}", rule.why);
    }
    let missing: Vec<_> = seen
        .iter()
        .filter(|(call, _)| !allowed.contains(call) && !done_without.contains(call))
        .collect();
    assert!(missing.is_empty(), "ordinary programs make these, and cannot here: {missing:?}");
}
