//! From tables to a program of the kernel's filter machine.

use std::collections::BTreeMap;

use seccompiler::sock_filter;

use super::{Rule, When};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Missing,
    Refuse,
    Allow,
    /// Allowed when it holds, else refused.
    AllowWhen(When),
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Action::Missing => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            Action::Refuse => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            Action::Allow | Action::AllowWhen(_) => libc::SECCOMP_RET_ALLOW,
        }
    }
}

/// The whole program. Calls of another architecture (32-bit programs) kill the process: their
/// numbers mean other things.
pub(super) fn compile(allow: &[Rule], refuse: &[Rule]) -> Vec<sock_filter> {
    let mut program = vec![
        op(LOAD, ARCHITECTURE),
        branch(IF_EQUAL, NATIVE, 1, 0),
        op(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        op(LOAD, NUMBER),
    ];
    program.extend(search(&segments(allow, refuse)));
    program
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The number line cut into ranges that are treated alike: first number of each, ascending.
fn segments(allow: &[Rule], refuse: &[Rule]) -> Vec<(u32, Action)> {
    let mut actions: BTreeMap<u32, Action> = BTreeMap::new();
    for rule in refuse {
        for &call in rule.calls {
            actions.insert(call as u32, Action::Refuse);
        }
    }
    for rule in allow {
        for &call in rule.calls {
            let action = match rule.when {
                When::Always => Action::Allow,
                when => Action::AllowWhen(when),
            };
            actions.insert(call as u32, action);
        }
    }
    let mut list: Vec<(u32, Action)> = vec![(0, Action::Missing)];
    for (call, action) in actions {
        for (start, action) in [(call, action), (call + 1, Action::Missing)] {
            if list.last().is_some_and(|(last, _)| *last == start) {
                list.pop();
            }
            list.push((start, action));
        }
    }
    list.dedup_by(|next, before| next.1 == before.1);
    list
}

/// A search tree over the segments; the call's number is in the accumulator.
fn search(segments: &[(u32, Action)]) -> Vec<sock_filter> {
    match segments {
        [] => Vec::new(),
        [(_, action)] => leaf(*action),
        _ => {
            let (left, right) = segments.split_at(segments.len() / 2);
            let middle = right[0].0;
            let (left, right) = (search(left), search(right));
            // Conditional jumps are short, unconditional ones are not; the kernel checks and
            // translates the whole program for each guest.
            let mut code = match u8::try_from(left.len()) {
                Ok(over) => vec![branch(IF_AT_LEAST, middle, over, 0)],
                Err(_) => {
                    vec![branch(IF_AT_LEAST, middle, 0, 1), op(JUMP, left.len() as u32)]
                }
            };
            code.extend(left);
            code.extend(right);
            code
        }
    }
}

fn leaf(action: Action) -> Vec<sock_filter> {
    let Action::AllowWhen(when) = action else { return vec![op(RETURN, action.value())] };
    let (allow, refuse) = (op(RETURN, action.value()), op(RETURN, Action::Refuse.value()));
    // All checked arguments are of 32 bits to the kernel, the lower half first.
    let load = |argument: u8| op(LOAD, ARGUMENTS + 8 * u32::from(argument));
    match when {
        When::Always => vec![allow],
        When::NoBits(argument, bits) => {
            vec![load(argument), branch(IF_ANY_BIT, bits, 1, 0), allow, refuse]
        }
        When::ArgIn(argument, values) | When::ArgNotIn(argument, values) => {
            let mut code = vec![load(argument)];
            for (n, &value) in values.iter().enumerate() {
                // To the second of the two answers.
                code.push(branch(IF_EQUAL, value, (values.len() - n) as u8, 0));
            }
            let among = matches!(when, When::ArgIn(..));
            code.extend(if among { [refuse, allow] } else { [allow, refuse] });
            code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;

    /// The kernel's filter machine, as far as the programs here use it.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let now = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { now.jt } else { now.jf });
            match now.code {
                LOAD => {
                    accumulator = match now.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => arguments[((offset - ARGUMENTS) / 8) as usize] as u32,
                    }
                }
                JUMP => at += now.k as usize,
                IF_EQUAL => at += jump(accumulator == now.k),
                IF_AT_LEAST => at += jump(accumulator >= now.k),
                IF_ANY_BIT => at += jump(accumulator & now.k != 0),
                RETURN => return now.k,
                other => panic!("code {other}"),
            }
        }
    }

    /// What the tables say, found the slow way.
    fn expected(number: u32, arguments: [u64; 6]) -> u32 {
        let named = |rule: &&Rule| rule.calls.contains(&i64::from(number));
        if let Some(rule) = rules::ALLOW.iter().find(named) {
            let argument = |n: u8| arguments[usize::from(n)] as u32;
            let holds = match rule.when {
                When::Always => true,
                When::ArgIn(n, values) => values.contains(&argument(n)),
                When::ArgNotIn(n, values) => !values.contains(&argument(n)),
                When::NoBits(n, bits) => argument(n) & bits == 0,
            };
            return if holds { Action::Allow.value() } else { Action::Refuse.value() };
        }
        match rules::REFUSE.iter().find(named) {
            Some(_) => Action::Refuse.value(),
            None => Action::Missing.value(),
        }
    }

    #[test]
    fn the_program_does_what_the_tables_say() {
        let program = compile(rules::ALLOW, rules::REFUSE);
        let interesting = [
            0,
            1,
            2,
            16,
            17,
            0x1000_0000,
            0x2_0000,
            0x5412,
            0x541C,
            0xffff_ffff,
            u64::MAX,
            1 << 32,
        ];
        for number in (0..1000).chain([0x4000_0000, 0x4000_0001, 0x4000_0038, u32::MAX]) {
            for first in interesting {
                for second in interesting {
                    let arguments = [first, second, 0, 0, 0, 0];
                    let got = run(&program, NATIVE, number, arguments);
                    assert_eq!(got, expected(number, arguments), "{number} {arguments:x?}");
                }
            }
        }
    }

    #[test]
    fn another_architecture_kills() {
        let program = compile(rules::ALLOW, rules::REFUSE);
        // i386
        assert_eq!(run(&program, 0x4000_0003, 4, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn a_decision_takes_few_steps() {
        let program = compile(rules::ALLOW, rules::REFUSE);
        assert!(program.len() < 400, "{} instructions", program.len());
        let segments = segments(rules::ALLOW, rules::REFUSE);
        assert!(segments.len() < 256, "{} segments", segments.len());
    }
}
