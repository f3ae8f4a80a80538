//! What an account may use and uses.

use crate::answer::{AccountLimit, AccountSettings, AccountUsage};
use crate::control::Control;
use crate::index::Region;
use lambfold_types::{Scope, limits};

impl Control {
    /// The limits of an account in a region, and what it uses of them.
    #[must_use]
    pub fn get_account_settings(&self, scope: &Scope) -> AccountSettings {
        let index = self.index();
        let region = index.scopes.get(scope);
        let functions = region.into_iter().flat_map(|region| region.functions.values());
        AccountSettings {
            account_limit: AccountLimit {
                total_code_size: limits::CODE_STORAGE_BYTES,
                code_size_unzipped: limits::UNPACKED_BYTES,
                code_size_zipped: limits::DIRECT_UPLOAD_BYTES,
                concurrent_executions: limits::ACCOUNT_CONCURRENCY,
                unreserved_concurrent_executions: Region::unreserved(functions),
            },
            account_usage: AccountUsage {
                total_code_size: region.map_or(0, |region| region.code_bytes()),
                function_count: region.map_or(0, |region| region.functions.len() as u64),
            },
        }
    }
}
