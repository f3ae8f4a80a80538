//! A case as data: what is asked, why it matters, how to mend it.

use crate::trial::{Step, Trial};

/// One question to a bootstrap.
pub struct Case {
    /// Names it, for example `event-empty`; stable, for programs and exceptions.
    pub id: &'static str,
    /// What has to be so, as a sentence without a full stop.
    pub title: &'static str,
    /// What goes wrong in service where it is not so.
    pub why: &'static str,
    /// What the author of a runtime does about it.
    pub mend: &'static str,
    /// Where it is written.
    pub reference: &'static str,
    /// Variables on top of the usual ones.
    pub(crate) env: &'static [(&'static str, &'static str)],
    pub(crate) place: Place,
    pub(crate) run: fn(&mut Trial<'_>) -> Step<()>,
}

/// What is unusual about the start of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Usual,
    /// The Runtime API is at another address.
    OtherAddress,
    /// The handler names a file that is not there.
    MissingHandler,
}

impl Case {
    /// All of them, in the order of reports.
    #[must_use]
    pub fn all() -> Vec<&'static Self> {
        crate::cases::GROUPS.iter().flat_map(|group| group.iter()).collect()
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("id", &self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_case_is_whole_and_has_a_name_of_its_own() {
        let all = Case::all();
        assert!(all.len() >= 60, "only {} cases", all.len());
        let ids: BTreeSet<_> = all.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), all.len());
        for case in all {
            let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(case.id.chars().all(kebab), "{}", case.id);
            for text in [case.title, case.why, case.mend, case.reference] {
                assert!(text.len() > 8, "{}: {text:?}", case.id);
            }
            assert!(!case.title.ends_with('.'), "{}", case.id);
            assert!(case.why.ends_with('.') && case.mend.ends_with('.'), "{}", case.id);
        }
    }
}
