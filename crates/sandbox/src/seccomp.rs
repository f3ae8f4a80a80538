//! The guest's system call filter: tables of rules with reasons, compiled once in the spawner.
//!
//! Two filters are stacked. The *allow* filter lets its table through and answers `ENOSYS` to
//! everything else, so that programs fall back as on an older kernel. The *refuse* filter, loaded
//! last because the newer one's answer wins, answers `EPERM` to what a program should see refused.

mod rules;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// When a rule matches.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Always.
    Always,
    /// When the argument is one of these.
    ArgIn(u8, &'static [u64]),
    /// When the argument is none of these.
    ArgNotIn(u8, &'static [u64]),
    /// When the argument has none of these bits.
    NoBits(u8, u64),
    /// When the argument has one of these bits or more.
    AnyBit(u8, &'static [u64]),
}

/// System calls that are treated alike, and why.
struct Rule {
    /// For readers; a test holds that it is there.
    #[cfg_attr(not(test), expect(dead_code))]
    why: &'static str,
    when: When,
    calls: &'static [i64],
}

/// The compiled filters, in the order in which they are loaded.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    programs: [BpfProgram; 2],
}

impl Filters {
    /// Compiles the tables for the running architecture.
    pub(crate) fn compile() -> io::Result<Filters> {
        let allow =
            table(rules::ALLOW, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?;
        let refuse =
            table(rules::REFUSE, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?;
        Ok(Filters { programs: [allow, refuse] })
    }

    /// Loads them into this process for good; `no_new_privs` must be set.
    pub(crate) fn load(&self) -> io::Result<()> {
        for program in &self.programs {
            seccompiler::apply_filter(program).map_err(|error| match error {
                seccompiler::Error::Prctl(e) | seccompiler::Error::Seccomp(e) => e,
                _ => invalid(),
            })?;
        }
        Ok(())
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn table(rules: &[Rule], other: SeccompAction, matched: SeccompAction) -> io::Result<BpfProgram> {
    let mut map: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        for &call in rule.calls {
            map.entry(call).or_default().extend(conditions(rule.when)?);
        }
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| invalid())?;
    let filter = SeccompFilter::new(map, other, matched, arch).map_err(|_| invalid())?;
    filter.try_into().map_err(|_| invalid())
}

/// The alternatives of a condition; none means always.
fn conditions(when: When) -> io::Result<Vec<SeccompRule>> {
    let condition = |arg, op, value| {
        SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value).map_err(|_| invalid())
    };
    let rule = |conditions| SeccompRule::new(conditions).map_err(|_| invalid());
    match when {
        When::Always => Ok(Vec::new()),
        When::ArgIn(arg, values) => {
            values.iter().map(|&v| rule(vec![condition(arg, SeccompCmpOp::Eq, v)?])).collect()
        }
        When::ArgNotIn(arg, values) => {
            let all: io::Result<Vec<_>> =
                values.iter().map(|&v| condition(arg, SeccompCmpOp::Ne, v)).collect();
            Ok(vec![rule(all?)?])
        }
        When::NoBits(arg, mask) => {
            Ok(vec![rule(vec![condition(arg, SeccompCmpOp::MaskedEq(mask), 0)?])?])
        }
        When::AnyBit(arg, bits) => bits
            .iter()
            .map(|&bit| rule(vec![condition(arg, SeccompCmpOp::MaskedEq(bit), bit)?]))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn compiles() {
        Filters::compile().unwrap();
    }

    #[test]
    fn every_rule_has_a_reason_and_no_call_is_named_twice() {
        for rules in [rules::ALLOW, rules::REFUSE] {
            let mut seen = BTreeSet::new();
            for rule in rules {
                assert!(rule.why.len() > 10, "{:?} has no reason", rule.calls);
                for &call in rule.calls {
                    assert!(seen.insert(call), "call {call} is named twice");
                }
            }
        }
    }

    #[test]
    fn what_is_refused_always_is_not_allowed() {
        let allowed: BTreeSet<_> = rules::ALLOW.iter().flat_map(|r| r.calls).collect();
        for rule in rules::REFUSE.iter().filter(|r| matches!(r.when, When::Always)) {
            for call in rule.calls {
                assert!(!allowed.contains(call), "call {call} is allowed and refused");
            }
        }
    }
}
