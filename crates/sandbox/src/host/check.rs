//! Configurations and specifications, checked before anything is asked of the kernel.

use crate::spec::{Config, Isolation, Network, Rootfs, Spec, StartError, Victim};
use crate::step::Step;
use crate::template::BIND_TARGETS;

const NAME_MAX_BYTES: usize = 64;
/// `HOST_NAME_MAX` of Linux.
const HOSTNAME_MAX_BYTES: usize = 64;
const LISTENERS_MAX: usize = 16;
/// `min_cfs_quota_period` of the kernel.
const CPU_QUOTA_MIN_US: u64 = 1000;

/// `LAMBFOLD_SANDBOX_FAULT=<init|spawner|host>:<step>` sets the fault of builds that have them.
pub(super) fn fault_of_environment(config: &mut Config) -> Result<(), StartError> {
    const NAME: &str = "LAMBFOLD_SANDBOX_FAULT";
    let allowed = cfg!(any(debug_assertions, feature = "faults"));
    if let (Ok(text), true) = (std::env::var(NAME), allowed) {
        config.fault = Some(parse_fault(&text).ok_or_else(|| StartError::Invalid {
            field: NAME,
            reason: format!("is not <init|spawner|host>:<step>: {text:?}"),
        })?);
    }
    if config.fault.is_some() && !allowed {
        let reason = "needs a debug build or the feature faults".to_owned();
        return Err(StartError::Invalid { field: "fault", reason });
    }
    Ok(())
}

fn parse_fault(text: &str) -> Option<crate::spec::Fault> {
    let (victim, step) = text.split_once(':')?;
    let victim = match victim {
        "init" => Victim::Init,
        "spawner" => Victim::Spawner,
        "host" => Victim::Host,
        _ => return None,
    };
    let step = *Step::ALL.iter().find(|s| s.name() == step)?;
    Some(crate::spec::Fault { step, victim })
}

fn name(name: &str) -> Result<(), String> {
    let right = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Err(format!("must have 1 to {NAME_MAX_BYTES} bytes, has {}", name.len()));
    }
    if !name.bytes().all(right) || name.starts_with('.') {
        return Err(format!("may hold A-Z a-z 0-9 _ . - only and not begin with a dot: {name:?}"));
    }
    Ok(())
}

pub(super) fn config(config: &Config) -> Result<(), StartError> {
    let invalid = |field, reason| Err(StartError::Invalid { field, reason });
    if let Err(reason) = name(&config.owner) {
        return invalid("owner", reason);
    }
    if config.isolation == Isolation::Process {
        no_walls(config, crate::host::is_root())?;
    }
    if !config.work_dir.is_absolute() {
        return invalid("work_dir", "must be an absolute path".to_owned());
    }
    if let Rootfs::Dir(dir) = &config.rootfs
        && (!dir.is_absolute() || !dir.is_dir())
    {
        return invalid("rootfs", format!("{} is no directory (absolute path)", dir.display()));
    }
    for (key, rootfs) in &config.more_rootfs {
        if let Err(reason) = name(key) {
            return invalid("more_rootfs", reason);
        }
        if let Rootfs::Dir(dir) = rootfs
            && (!dir.is_absolute() || !dir.is_dir())
        {
            let reason = format!("{key}: {} is no directory (absolute path)", dir.display());
            return invalid("more_rootfs", reason);
        }
    }
    if config.user.uid == 0 || config.user.gid == 0 {
        return invalid("user", "must not have id 0".to_owned());
    }
    if let Err(reason) = name(&config.user.name) {
        return invalid("user", reason);
    }
    if let Some(stock) = &config.stock
        && let Err((field, reason)) = spec(config, &stock.first)
    {
        return invalid("stock", format!("{field} {reason}"));
    }
    for (_, host) in &config.hosts {
        if let Err(reason) = name(host) {
            return invalid("hosts", reason);
        }
    }
    Ok(())
}

/// What needs walls cannot be had without.
fn no_walls(config: &Config, is_root: bool) -> Result<(), StartError> {
    let invalid =
        |field, reason: &str| Err(StartError::Invalid { field, reason: reason.to_owned() });
    if is_root {
        return invalid("isolation", "process is refused to root: guests would be root here");
    }
    if config.rootfs != Rootfs::Host || !config.more_rootfs.is_empty() {
        return invalid("rootfs", "can only be the host's with isolation process");
    }
    if config.network != Network::Host {
        return invalid("network", "can only be the host's with isolation process");
    }
    if config.fault.is_some() {
        return invalid("fault", "needs isolation namespace");
    }
    Ok(())
}

pub(super) fn spec(config: &Config, spec: &Spec) -> Result<(), (&'static str, String)> {
    name(&spec.id).map_err(|reason| ("id", reason))?;
    if config.isolation == Isolation::Process {
        let needs = || "needs isolation namespace".to_owned();
        if !spec.binds.is_empty() {
            return Err(("binds", needs()));
        }
        // It would be started before it is known where the listeners are.
        if spec.first.is_some() {
            return Err(("first", needs()));
        }
    }
    for (n, bind) in spec.binds.iter().enumerate() {
        if !bind.source.is_absolute() {
            return Err(("binds", format!("source {} is not absolute", bind.source.display())));
        }
        if !BIND_TARGETS.contains(&bind.target.as_str()) {
            return Err(("binds", format!("target {:?} is none of {BIND_TARGETS:?}", bind.target)));
        }
        if spec.binds[..n].iter().any(|b| b.target == bind.target) {
            return Err(("binds", format!("target {:?} is named twice", bind.target)));
        }
    }
    if spec.tmp_bytes == 0 {
        return Err(("tmp_bytes", "must not be 0".to_owned()));
    }
    if spec.cpu_weight > 10_000 {
        return Err(("cpu_weight", format!("must be at most 10000, is {}", spec.cpu_weight)));
    }
    if (1..CPU_QUOTA_MIN_US).contains(&spec.cpu_quota_us) {
        return Err((
            "cpu_quota_us",
            format!("must be 0 or at least {CPU_QUOTA_MIN_US}, is {}", spec.cpu_quota_us),
        ));
    }
    if let Some(rootfs) = &spec.rootfs
        && !config.more_rootfs.contains_key(rootfs)
    {
        let known: Vec<_> = config.more_rootfs.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        return Err(("rootfs", format!("{rootfs:?} is not among those configured: {known}")));
    }
    if spec.listeners.len() > LISTENERS_MAX {
        return Err((
            "listeners",
            format!("at most {LISTENERS_MAX}, are {}", spec.listeners.len()),
        ));
    }
    if spec.hostname.len() > HOSTNAME_MAX_BYTES || spec.hostname.contains('\0') {
        return Err(("hostname", format!("at most {HOSTNAME_MAX_BYTES} bytes without zero")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "check/tests.rs"]
mod tests;
