//! What an environment is made of: its sandbox's specification, and the command that starts its
//! bootstrap.

use crate::environment::Folders;
use crate::fault::BOOTSTRAPS;
use crate::launcher::Processors;
use crate::variables::{self, View};
use lambfold_sandbox::{Bind, CPU_PERIOD_US, Command, Spec};
use lambfold_types::{FunctionVersion, InitializationType, limits};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// MemorySize that buys one processor, MiB.
const MIB_PER_CPU: u32 = 1769;
/// Least budget of the init phase of a provisioned environment; a longer timeout is a longer one.
const PROVISIONED_INIT: Duration = Duration::from_secs(130);
/// Share of one processor, as cgroup v2 counts.
const WEIGHT_PER_CPU: u32 = 100;
/// The shell that Amazon Linux has under the name of `/bin/sh`.
const BASH: &str = "/bin/bash";

/// What starts the bootstrap; `opened` is where the Runtime API is served, if it is not where it is
/// asked to be.
pub(crate) fn bootstrap(
    version: &FunctionVersion,
    initialization: InitializationType,
    log_stream: &str,
    opened: &[SocketAddr],
    view: &View,
) -> Command {
    let runtime_api = variables::runtime_api(version, opened);
    let (programs, args) = match view {
        View::Sandbox => (BOOTSTRAPS.map(str::to_owned).to_vec(), Vec::new()),
        View::Host { task } => on_host(format!("{task}/bootstrap")),
    };
    Command {
        programs,
        args,
        env: variables::variables(version, initialization, log_stream, &runtime_api, view),
        cwd: view.task().to_owned(),
    }
}

/// How this bootstrap is started where `/bin/sh` is the host's own: one that asks for that gets what
/// it gets on Amazon Linux, bash as `sh`, where there is one.
fn on_host(bootstrap: String) -> (Vec<String>, Vec<String>) {
    let path = Path::new(&bootstrap);
    let is_bash = |shell: &str| {
        let shell = Path::new(shell).canonicalize();
        shell.is_ok_and(|shell| shell.file_name().is_some_and(|name| name == "bash"))
    };
    match shell_script(path) {
        Some(option) if is_bash(BASH) && !is_bash("/bin/sh") => {
            let mut args = vec!["--posix".to_owned()];
            args.extend(option);
            args.push(bootstrap);
            (vec![BASH.to_owned()], args)
        }
        _ => (vec![bootstrap], Vec::new()),
    }
}

/// The option, if any, of an executable script for `/bin/sh`; `None` for all other files.
fn shell_script(path: &Path) -> Option<Option<String>> {
    // As much as the kernel reads.
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.permissions().mode() & 0o100 == 0 {
        return None;
    }
    file.take(256).read_to_end(&mut head).ok()?;
    option_of_sh(&head)
}

fn option_of_sh(head: &[u8]) -> Option<Option<String>> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("#!")?.trim_matches([' ', '\t']);
    let (program, option) = match line.split_once([' ', '\t']) {
        None => (line, None),
        Some((program, option)) => (program, Some(option.trim_start_matches([' ', '\t']))),
    };
    (program == "/bin/sh").then(|| option.map(str::to_owned))
}

/// Budget of the init phase: nobody waits for a provisioned environment.
pub(crate) fn init_limit(
    version: &FunctionVersion,
    initialization: InitializationType,
) -> Duration {
    match initialization {
        InitializationType::OnDemand => Duration::from_millis(limits::INIT_MS),
        InitializationType::ProvisionedConcurrency => {
            PROVISIONED_INIT.max(Duration::from_secs(version.timeout_s.into()))
        }
    }
}

/// What is directly in the folder `extensions` of an `/opt` tree and not a folder itself, sorted.
/// A link in place of the folder is not followed: it may lead anywhere on this machine.
pub(crate) fn external_extensions(opt: &Path) -> Vec<Arc<str>> {
    let folder = opt.join("extensions");
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Vec::new();
    }
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<Arc<str>> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect();
    names.sort();
    names
}

/// AWS's share of the processors, microseconds of each period of the kernel's.
fn cpu_quota_us(memory_mib: u32) -> u64 {
    u64::from(memory_mib) * CPU_PERIOD_US / u64::from(MIB_PER_CPU)
}

pub(crate) fn binds(folders: &Folders) -> Vec<Bind> {
    let bind =
        |source: &PathBuf, target: &str| Bind { source: source.clone(), target: target.to_owned() };
    let mut binds = vec![bind(&folders.task, "/var/task")];
    binds.extend(folders.opt.as_ref().map(|opt| bind(opt, "/opt")));
    binds
}

/// What sandboxes of this MemorySize and EphemeralStorage have in common, MiB.
pub(crate) fn sized(memory_mib: u32, ephemeral_storage_mib: u32, processors: Processors) -> Spec {
    const MIB: u64 = 1 << 20;
    Spec {
        tmp_bytes: u64::from(ephemeral_storage_mib) * MIB,
        memory_bytes: u64::from(memory_mib) * MIB,
        processes: limits::PROCESSES,
        open_files: limits::OPEN_FILES,
        cpu_weight: u64::from((memory_mib * WEIGHT_PER_CPU / MIB_PER_CPU).max(1)),
        cpu_quota_us: match processors {
            Processors::Weight => 0,
            Processors::Quota => cpu_quota_us(memory_mib),
        },
        listeners: variables::listeners(),
        // An address, as AWS does it: it resolves without an entry in /etc/hosts.
        hostname: "169.254.100.1".to_owned(),
        ..Spec::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn aws_gives_one_processor_for_each_1769_mb() {
        assert_eq!(cpu_quota_us(1_769), 100_000);
        assert_eq!(cpu_quota_us(128), 7_235);
        assert_eq!(cpu_quota_us(10_240), 578_858);
    }

    #[test]
    fn a_script_for_sh_gets_bash_as_amazon_linux_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &[u8], mode| {
            let path = folder.path().join("bootstrap");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            shell_script(&path)
        };
        assert_eq!(file(b"#!/bin/sh\nset -o pipefail\n", 0o755), Some(None));
        assert_eq!(file(b"#! /bin/sh -e \n", 0o755), Some(Some("-e".to_owned())));
        assert_eq!(file(b"#!/bin/sh\t -e", 0o500), Some(Some("-e".to_owned())));
        for other in
            [&b"#!/bin/bash\n"[..], b"#!/bin/sh\r\n", b"#!/bin/shx", b"\x7fELF\xff", b"", b"#!"]
        {
            assert_eq!(file(other, 0o755), None, "{other:?}");
        }
        assert_eq!(file(b"#!/bin/sh\n", 0o644), None, "the kernel is to refuse it");
        let missing = folder.path().join("missing").display().to_string();
        assert_eq!(on_host(missing.clone()), (vec![missing], Vec::new()));
    }

    proptest::proptest! {
        #[test]
        fn any_head_of_a_file_is_survived(
            start in proptest::sample::select(vec!["", "#!", "#!/bin/sh", "#! \t/bin/sh "]),
            rest: Vec<u8>,
        ) {
            let head = [start.as_bytes(), &rest].concat();
            if let Some(Some(option)) = option_of_sh(&head) {
                proptest::prop_assert!(!option.contains('\n') && option.trim_matches([' ', '\t']) == option);
            }
        }
    }
}
