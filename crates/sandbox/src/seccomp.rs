//! The guest's system call filter: tables of rules with reasons, compiled once in the spawner.
//!
//! What the *allow* table lets through is allowed; what the *refuse* table names is answered with
//! `EPERM`, as a program should see it refused; everything else with `ENOSYS`, so that programs fall
//! back as on an older kernel.
//!
//! The program is compiled here and not by `seccompiler`, which compares call after call: on loading
//! a filter the kernel runs it for each call that there is, and with such a chain of some 300 that
//! took 0.9 ms of every start. A search tree takes a tenth of that.

mod compile;
#[cfg(all(test, target_arch = "x86_64"))]
mod hunt;
mod rules;

use std::io;

use seccompiler::BpfProgram;

/// When a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Always.
    Always,
    /// When the argument is one of these.
    ArgIn(u8, &'static [u32]),
    /// When the argument is none of these.
    ArgNotIn(u8, &'static [u32]),
    /// When the argument has none of these bits.
    NoBits(u8, u32),
}

/// System calls that are treated alike, and why.
struct Rule {
    /// For readers; a test holds that it is there.
    #[cfg_attr(not(test), expect(dead_code))]
    why: &'static str,
    when: When,
    calls: &'static [i64],
}

/// The compiled filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    program: BpfProgram,
}

impl Filter {
    /// Compiles the tables for the running architecture.
    pub(crate) fn compile() -> Filter {
        Filter { program: compile::compile(rules::ALLOW, rules::REFUSE) }
    }

    /// Loads it into this process for good; sets `no_new_privs`.
    pub(crate) fn load(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.program).map_err(|error| match error {
            seccompiler::Error::Prctl(e) | seccompiler::Error::Seccomp(e) => e,
            _ => io::Error::from_raw_os_error(libc::EINVAL),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
    fn what_is_refused_is_not_allowed() {
        let allowed: BTreeSet<_> = rules::ALLOW.iter().flat_map(|r| r.calls).collect();
        for rule in rules::REFUSE {
            // A condition belongs to the allow table: what does not meet it is refused.
            assert_eq!(rule.when, When::Always);
            for call in rule.calls {
                assert!(!allowed.contains(call), "call {call} is allowed and refused");
            }
        }
    }
}
